"""The trainer: archives the log to the lake, joins vectors with matured labels, fits, judges and publishes models.

Rule 1. Nothing here reads a label before it was known.
"""
