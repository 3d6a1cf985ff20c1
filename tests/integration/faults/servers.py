"""Servers of the fault tests' own: they are killed, so an address that a person gave is never used here.

Rule 1. The ladder of adapters/backends without its first rung; what is missing is a skip, or a failure if FRAUD_REQUIRE says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adapters import backends
from adapters.backends import BackendMissingError, Server
from tests.conftest import missing

GIVEN = ("FRAUD_KAFKA_BOOTSTRAP", "FRAUD_REDIS_URL")


@contextmanager
def own_servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """A broker without topics and a Redis, started; both are stopped in the end."""
    environment = {name: value for name, value in os.environ.items() if name not in GIVEN}
    with ExitStack() as started:
        servers: list[Server] = []
        for name, make in (("kafka", backends.kafka), ("redis", backends.redis)):
            try:
                servers.append(started.enter_context(make(folder / name, environment=environment)))
            except BackendMissingError as error:
                missing(name, str(error))
        yield servers[0], servers[1]
