"""The scorer: turns feature vectors into scores, decisions and alerts.

Rule 1. It imports adapters and fraud, never another service.
"""
