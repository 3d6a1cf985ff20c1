"""Streaming against batch, measured: both paths on the same transactions with the same labels.

Rule 1. Nothing is streamed: vectors come from the backfill of the stream's fold, snapshots from the nightly job itself.
"""
