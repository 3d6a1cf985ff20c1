"""The producer: the worlds that make transactions, the simulated clock, and the streaming of both into Kafka."""
