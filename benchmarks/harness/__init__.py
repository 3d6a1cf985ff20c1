"""The performance harness behind `fraudstream bench throughput | latency | hold | features | train | growth | all`.

Rule 1. Load is open-loop: a transaction's latency begins when it was meant to be sent, whoever was late.
Rule 2. Broker, Redis and all services are real and run as `fraudstream up` runs them; nothing is measured in-process.
Rule 3. Every run prints what else used the CPUs: a number from a busy machine is marked as one.
"""
