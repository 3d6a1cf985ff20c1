"""The peers: what a person would build instead, each a process with an environment of its own.

Rule 1. A peer is a folder of benchmarks/peers: its program (app.py with requirements.txt, or src/ with pom.xml) and README.md with
        a review of its fairness. environments.py makes it runnable.
Rule 2. A peer reads its own topic, written by the same sender in the same way, and answers each transaction with
        {"transaction_id", "score"}; asked to, also with "features".
Rule 3. Peers share one Redis database, which is emptied before each peer's check and before its first hold.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import redis

from adapters.backends.child import Child, rotate
from benchmarks.harness.ours import SubjectEndedError
from benchmarks.harness.servers import Servers

PEERS_FOLDER: Final = Path(__file__).parents[1] / "peers"
TOPIC: Final = "peer-transactions"
OUTPUT: Final = "peer-scores"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer. command: for its environment's Python, or its JVM's options. title: for tables."""

    name: str
    folder: str
    title: str
    command: tuple[str, ...]


PEERS: Final = (
    Peer(
        "faust",
        "faust_tutorial",
        "Faust, one agent, Redis sorted sets, an event at a time",
        ("-m", "faust", "--loop", "uvloop", "-A", "app", "worker", "--loglevel", "warn", "--without-web"),
    ),
    Peer("kafka-python", "kafka_python_loop", "kafka-python loop, Redis sorted sets, an event at a time", ("app.py",)),
    Peer("quix", "quix_streams", "Quix Streams, its own state (RocksDB), repartitioned by terminal", ("app.py",)),
    Peer(
        "bytewax", "bytewax_flow", "Bytewax, its own state, branches by card and terminal joined, batches", ("app.py",)
    ),
    Peer(
        "kafka-streams",
        "kafka_streams",
        "Kafka Streams in Java, window stores (RocksDB), xgboost4j an event at a time",
        (),
    ),
)


class Answer(msgspec.Struct):
    """A peer's score. features: in the order of agreed.AGREED, None for no value."""

    transaction_id: str
    score: float
    features: list[float | None] | None = None


_decoder: Final = msgspec.json.Decoder(Answer)


def answer_of(value: bytes) -> Answer:
    """One record of the output."""
    return _decoder.decode(value)


class PeerStack:
    """A peer as a subject. program: the command that runs it. model: the file of the forest over the agreed columns."""

    def __init__(self, peer: Peer, servers: Servers, program: Sequence[str], model: Path) -> None:
        self.name = peer.name
        self.topic, self.output = f"{TOPIC}-{peer.name}", f"{OUTPUT}-{peer.name}"
        self.partitions = servers.partitions
        self._peer = peer
        self._servers = servers
        self._program = program
        self._model = model
        self._redis_url = f"{servers.redis.address.rpartition('/')[0]}/1"
        self._log = servers.folder / "logs" / f"{peer.name}.log"
        self._child: Child | None = None

    def start(self, show_features: bool = False) -> None:
        """Start its process."""
        self._servers.make_topics([self.topic, self.output])
        folder = PEERS_FOLDER / self._peer.folder
        environment = {
            "PYTHONPATH": f"{folder}{os.pathsep}{PEERS_FOLDER}",
            "PYTHONUNBUFFERED": "1",
            "PEER_BOOTSTRAP": self._servers.kafka.address,
            "PEER_REDIS_URL": self._redis_url,
            "PEER_INPUT": self.topic,
            "PEER_OUTPUT": self.output,
            "PEER_MODEL": str(self._model),
            "PEER_FOLDER": str(self._servers.folder / f"peer-{self.name}"),
            "PEER_SHOW_FEATURES": "1" if show_features else "",
            "PEER_RUN": "-check" if show_features else "",
            "F_DATADIR": str(self._servers.folder / f"peer-{self.name}"),
        }
        rotate(self._log)
        self._child = Child(self.name, list(self._program), self._log, environment=environment)
        self._child.start()

    def stop(self) -> None:
        """End it."""
        if self._child is not None:
            self._child.stop(10.0)

    def forget(self) -> None:
        """Empty the peers' Redis database."""
        with redis.Redis.from_url(self._redis_url) as client:
            client.flushdb()

    def check(self) -> None:
        """Raise SubjectEndedError when its process has ended."""
        assert self._child is not None, "start() first"
        if not self._child.alive():
            told = "\n  ".join(self._child.last_lines(15))
            raise SubjectEndedError(f"{self.name} ended with code {self._child.exit_code()}; {self._log}:\n  {told}")

    def pids(self) -> Mapping[str, int]:
        """Its process."""
        assert self._child is not None
        assert self._child.identity is not None
        return {self.name: self._child.identity.pid}

    def decode(self, value: bytes) -> list[str]:
        """The transaction of an answer."""
        return [answer_of(value).transaction_id]
