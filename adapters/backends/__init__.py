"""Real servers on this machine: Apache Kafka and Redis (or Valkey), chosen by a ladder, started, killed and stopped.

Rule 1. The real programs, never an imitation: what the tests prove holds for what runs.
Rule 2. A server's data stands in one folder; the same folder and port bring the same server back.
Rule 3. What this starts, it can end, by the process id it was given; it ends nothing else.
"""
