"""The harness of the fault tests: a seeded log, supervised processes, forced and random faults, and one checker for all."""
