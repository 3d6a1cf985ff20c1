"""Listening to the scores: when each transaction's score reached a reader.

Rule 1. On arrival only the moment and the bytes are kept; they are decoded later, so listening costs the hold little.
Rule 2. The first score of a transaction counts.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from benchmarks.harness.pacing import Seconds

Decode = Callable[[bytes], Iterable[str]]  # one record's transaction ids
_START_S_MAX: Final = 30.0


class ReceiverFailedError(RuntimeError):
    """The listening consumer ended."""


class Receiver:
    """A consumer of all partitions of a topic in a thread of its own, from the topic's end on."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._sources = [TopicPartition(topic, p) for p in range(partitions)]
        self._arrived: list[tuple[int, bytes]] = []
        self._taken = 0
        self._listening = threading.Event()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"receiver-{topic}", daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        if not self._listening.wait(_START_S_MAX):
            self.check()
            raise ReceiverFailedError(f"{self._sources[0].topic}: no answer from Kafka within {_START_S_MAX:.0f} s")
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._listen())
        except BaseException as error:  # raised in the thread that asks
            self._failure = error

    async def _listen(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id="bench-receiver",
            enable_auto_commit=False,
            fetch_max_wait_ms=200,
        )
        await consumer.start()
        try:
            consumer.assign(self._sources)
            await consumer.seek_to_end(*self._sources)
            self._listening.set()
            while not self._stop.is_set():
                polled = await consumer.getmany(timeout_ms=200)
                now_ns = time.time_ns()
                self._arrived += [(now_ns, record.value) for records in polled.values() for record in records]
        finally:
            await consumer.stop()

    def check(self) -> None:
        """Raise ReceiverFailedError when the thread has ended."""
        if self._failure is not None:
            raise ReceiverFailedError(f"{self._sources[0].topic}: {self._failure!r}") from self._failure

    def forget(self) -> None:
        """Drop what has arrived."""
        self._taken = 0
        self._arrived = []

    def take(self) -> list[tuple[int, bytes]]:
        """What has arrived since the last call: (time.time_ns(), the record's value)."""
        self.check()
        new = self._arrived[self._taken :]
        self._taken += len(new)
        return new


class Arrivals:
    """The arrival moments of a hold's `count` transactions; number_of: a transaction's number, None for a stranger's."""

    def __init__(self, count: int, decode: Decode, number_of: Callable[[str], int | None]) -> None:
        self._at_ns = np.zeros(count, np.int64)
        self._decode = decode
        self._number_of = number_of
        self.scored = 0
        self.repeated = 0

    def add(self, arrived: Iterable[tuple[int, bytes]]) -> None:
        """Count records."""
        for at_ns, value in arrived:
            for transaction_id in self._decode(value):
                number = self._number_of(transaction_id)
                if number is None:
                    continue
                if self._at_ns[number]:
                    self.repeated += 1
                    continue
                self._at_ns[number] = at_ns
                self.scored += 1

    def seconds(self, begin_ns: int) -> Seconds:
        """Per transaction, seconds after the beginning; NaN for one that was not scored."""
        seconds = (self._at_ns - begin_ns) / 1e9
        seconds[self._at_ns == 0] = np.nan
        return seconds
