"""Monitoring: what the stack served, held against what it should have served.

Rule 1. Nothing here changes what is monitored.
"""
