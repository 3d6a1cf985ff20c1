"""What the console writes: verdicts, requests, replays. One producer, made at the first write.

Rule 1. A write has happened when the broker has acknowledged it, within SEND_S_MAX; else the person is told.
"""

from __future__ import annotations

import threading
from typing import Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

SEND_S_MAX: Final = 10


class NotSentError(RuntimeError):
    """The broker did not take a record; the message names the remedy."""


class Sender:
    """Writes records, from any thread."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: KafkaProducer | None = None
        self._lock = threading.Lock()

    def send(self, topic: str, value: bytes, key: bytes | None = None, partition: int | None = None) -> None:
        """Write one record and wait for its acknowledgement. Raises NotSentError."""
        try:
            self._connected().send(topic, value=value, key=key, partition=partition).get(timeout=SEND_S_MAX)
        except KafkaError as error:
            raise NotSentError(
                f"Kafka at {self._bootstrap} did not take it ({type(error).__name__}): is the stack up? Try again"
            ) from error

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            if self._producer is not None:
                self._producer.close(timeout=2)
                self._producer = None

    def _connected(self) -> KafkaProducer:
        with self._lock:
            if self._producer is None:
                self._producer = KafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    client_id="console",
                    acks="all",
                    max_block_ms=SEND_S_MAX * 1000,
                    request_timeout_ms=5_000,
                    delivery_timeout_ms=SEND_S_MAX * 1000,
                    bootstrap_timeout_ms=5_000,
                    allow_auto_create_topics=False,
                )
            return self._producer
