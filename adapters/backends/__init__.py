"""A real Kafka and a real Redis for people and tests: found, started, killed and started again.

    with backends.kafka(folder) as broker, backends.redis(other_folder) as store:
        print(broker.address, store.address)

Rule 1. Whoever starts a server stops it; on Linux it also ends when the process that started it dies.
"""

from adapters.backends.ladder import kafka, redis
from adapters.backends.server import BackendFailedError, BackendMissingError, Server

__all__ = ["BackendFailedError", "BackendMissingError", "Server", "kafka", "redis"]
