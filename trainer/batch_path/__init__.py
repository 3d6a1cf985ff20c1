"""The batch path: nightly snapshots over the lake, their publication, and the model that learns from them.

Rule 1. It reads the lake's transactions and labels, never the stream's state or its vectors of cards and terminals.
"""
