"""The pure domain of fraudstream: no I/O, no clock, no randomness, no framework.

Rule 1. Time is an argument: it comes from the data, never from a wall clock.
Rule 2. One definition per thing: topics, metrics, features, reasons are named here and nowhere else.
Rule 3. Nothing here imports another package of this project.
"""
