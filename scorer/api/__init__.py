"""The synchronous API: a card's features, and a score, computed at request time from the state that the stream keeps.

Rule 1. It reads and never writes: not the state, not a topic. What it says of a transaction changes nothing.
Rule 2. Vectors come from fraud/fold.py, decisions from scorer/judge.py: nothing is computed twice.
"""
