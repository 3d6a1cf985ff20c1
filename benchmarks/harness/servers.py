"""The one broker and the one Redis of a run, in a folder of the run's own, on free ports.

Rule 1. They are local processes: the CPU of a container could not be told from the rest.
Rule 2. The folder is emptied first: a run begins with empty logs and an empty state. At the end what fills a disk is removed (topics,
        state, lake); the services' logs stay.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from adapters import backends
from adapters.backends.child import Child
from adapters.backends.server import Say, Server
from adapters.kafka_admin import ensure_topics
from cli.stack_state import StackFolder
from fraud import topics

DISK_BYTES: Final = 16_000_000_000


class FolderInUseError(RuntimeError):
    """Another benchmark runs in this folder."""


@dataclass(frozen=True, slots=True)
class Servers:
    """A running Kafka and Redis. folder: of the run."""

    folder: Path
    kafka: Server
    redis: Server
    partitions: int

    def pids(self) -> Mapping[str, int]:
        """Their processes."""
        return {name: _pid(server) for name, server in (("kafka", self.kafka), ("redis", self.redis))}

    def describe(self) -> str:
        """What they are."""
        return f"{self.kafka.description}; {self.redis.description}; {self.partitions} partition(s)"

    def make_topics(self, names: list[str]) -> None:
        """Make topics with the settings of `transactions`."""
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.address)
        try:
            missing = set(names) - set(admin.list_topics())
            config = topics.TRANSACTIONS.config()
            made = [
                NewTopic(n, num_partitions=self.partitions, replication_factor=1, topic_configs=config) for n in missing
            ]
            if made:
                admin.create_topics(made)
        finally:
            admin.close()


def _pid(server: Server) -> int:
    child = getattr(server, "child", None)
    assert isinstance(child, Child)
    assert child.identity is not None
    return child.identity.pid


@contextmanager
def running_servers(folder: Path, partitions: int, say: Say) -> Iterator[Servers]:
    """Start both in an emptied folder; end them at exit. Raises FolderInUseError, BackendMissingError, BackendFailedError."""
    if StackFolder(folder / "ours").running() is not None:
        raise FolderInUseError(f"a benchmark runs in {folder}: wait for it, or set FRAUD_STATE_DIR to another folder")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    _warn_of_a_small_disk(folder, say)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    environment["FRAUD_BACKEND"] = "local"
    logs = folder / "logs"
    store = backends.redis(folder / "redis", log=logs / "redis.log", environment=environment, say=say)
    try:
        with store as redis:
            broker = backends.kafka(folder / "kafka", log=logs / "kafka.log", environment=environment, say=say)
            with broker as kafka:
                ensure_topics(kafka.address, partitions)
                servers = Servers(folder, kafka, redis, partitions)
                say(servers.describe())
                yield servers
    finally:
        for data in ("kafka", "redis", "ours/lake"):
            shutil.rmtree(folder / data, ignore_errors=True)


def _warn_of_a_small_disk(folder: Path, say: Say) -> None:
    free = shutil.disk_usage(folder).free
    if free < DISK_BYTES:
        say(
            f"{folder} has {free / 1e9:.0f} GB free: a minute at 20,000 transactions/s fills 3.5, and a search for the highest rate "
            f"holds several; with less than {DISK_BYTES / 1e9:.0f} it may end for want of disk (FRAUD_STATE_DIR sets another folder)"
        )
