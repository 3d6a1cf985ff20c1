"""Streaming chunks into Kafka: as fast as it goes, or at the pace of the simulated clock.

Rule 1. Fast: a chunk's transactions are acknowledged before its labels are sent, and those before the next chunk. So a
        label is never early; it stands at most one chunk (an hour of event time, 2,000 rows) after its moment.
Rule 2. Live: transactions and labels go out one by one in the order of their moments, when the clock reaches them.
Rule 3. What a streamer reports as sent is acknowledged, from the first row on without a hole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.errors import KafkaError as AiokafkaError
from kafka import KafkaProducer
from kafka.errors import KafkaError

from adapters.kafka import AsyncWriter, partition_for, write_all
from fraud import topics
from fraud.labels import Label
from fraud.transaction import LEDGER_CURRENCY, Transaction
from producer.chunks import Chunk
from producer.clock import SimulatedClock
from producer.messages import label_writes, transaction_writes
from producer.position import Position

_ACKNOWLEDGE_S: Final = 1.0
_FLUSH_S_MAX: Final = 30.0
SEND_ERRORS: Final = (AiokafkaError, KafkaError)


@dataclass(slots=True)
class Sent:
    """What has been acknowledged: counts of this run, the world's position, and the stream's time."""

    transactions: int = 0
    labels: int = 0
    rows: int = 0
    label_rows: int = 0
    at_ms: int = 0


Report = Callable[[Sent], None]


async def stream_fast(
    bootstrap: str, partitions: int, chunks: Iterable[Chunk], position: Position, report: Report, stop: threading.Event
) -> Sent:
    """Send everything, or as much as is sent before `stop`. Raises aiokafka's KafkaError."""
    sent = Sent(rows=position.rows, label_rows=position.labels)
    writer = AsyncWriter(bootstrap, "producer")
    await writer.start()
    try:
        for chunk in chunks:
            if stop.is_set():
                break
            transactions = position.unsent_transactions(chunk.transactions)
            labels = position.unsent_labels(chunk.labels)
            if transactions.height:
                writes = transaction_writes(transactions, partitions)
                await write_all(writer, [(topics.TRANSACTIONS.name, p, records) for p, records in writes])
            if labels.height:
                writes = label_writes(labels, partitions)
                await write_all(writer, [(topics.LABELS.name, p, records) for p, records in writes])
            sent.transactions += transactions.height
            sent.labels += labels.height
            sent.rows = max(sent.rows, int(chunk.transactions["row"][-1]) + 1)
            if chunk.labels.height:
                sent.label_rows = max(sent.label_rows, int(chunk.labels["row"][-1]) + 1)
            sent.at_ms = chunk.end_ms
            report(sent)
    finally:
        await writer.stop()
    return sent


def linger_ms_for(transactions_per_second: float) -> int:
    """The producer's linger: below saturation the cost is paid per wave, so a faster stream waits for larger ones.

    Where two CPUs run everything, waves that come sooner wait longer for a CPU (docs/performance.md, 11).
    """
    if transactions_per_second < 200:
        return 0
    return 12 if transactions_per_second <= 1000 else 15


@dataclass(frozen=True, slots=True)
class Moment:
    """One message of the live stream: `message(sent_at_ms)` is its JSON."""

    at_ms: int
    row: int
    is_label: bool
    key: str
    message: Callable[[int], bytes]


def moments(chunk: Chunk, position: Position) -> Iterator[Moment]:
    """The unsent messages of a chunk in the order of their moments.

    At one moment labels go first, as they are known then; but a label never precedes its own transaction.
    """
    placed: list[tuple[int, int, int, dict[str, Any]]] = []
    transactions = position.unsent_transactions(chunk.transactions).iter_rows(named=True)
    labels = position.unsent_labels(chunk.labels).iter_rows(named=True)
    placed += [(row["clock_ms"], 1, row["row"], row) for row in transactions]
    placed += [(row["due_ms"], 2 if row["due_ms"] == row["clock_ms"] else 0, row["row"], row) for row in labels]
    for at_ms, rank, number, row in sorted(placed, key=lambda p: p[:3]):
        if rank == 1:
            yield Moment(at_ms, number, False, row["card_id"], _transaction_message(row))
        else:
            yield Moment(at_ms, number, True, row["terminal_id"], _label_message(row))


def _transaction_message(row: dict[str, Any]) -> Callable[[int], bytes]:
    return lambda sent_at_ms: Transaction(
        row["transaction_id"],
        row["card_id"],
        row["terminal_id"],
        row["amount_minor"],
        LEDGER_CURRENCY,
        row["occurred_at_ms"],
        sent_at_ms,
    ).to_json()


def _label_message(row: dict[str, Any]) -> Callable[[int], bytes]:
    return lambda sent_at_ms: Label(
        row["transaction_id"],
        row["card_id"],
        row["terminal_id"],
        row["occurred_at_ms"],
        row["is_fraud"],
        row["known_at_ms"],
        "benchmark",
        sent_at_ms,
    ).to_json()


class LiveStreamer:
    """Sends moments as the clock reaches them; the clock starts at the first of them.

    send(topic, partition, key, value) may fail later: flush() raises it. clock_from(begin_ms) makes the clock.
    """

    def __init__(
        self,
        send: Callable[[str, int, bytes, bytes], None],
        flush: Callable[[], None],
        partitions: int,
        clock_from: Callable[[int], SimulatedClock],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._flush = flush
        self._partitions = partitions
        self._clock_from = clock_from
        self._clock: SimulatedClock | None = None
        self._now_s = now_s

    def stream(self, chunks: Iterable[Chunk], position: Position, report: Report, stop: threading.Event) -> Sent:
        """Send everything, or as much as is sent before `stop`. Raises kafka's KafkaError."""
        sent = Sent(rows=position.rows, label_rows=position.labels)
        acknowledged_s = self._now_s()
        for moment in (moment for chunk in chunks for moment in moments(chunk, position)):
            clock = self._clock = self._clock or self._clock_from(moment.at_ms)
            while not stop.is_set() and not clock.wait_until(moment.at_ms):
                acknowledged_s = self._acknowledged(sent, report, acknowledged_s)
            if stop.is_set():
                break
            self._send_one(moment, clock.now_ms())
            self._count(moment, sent)
            acknowledged_s = self._acknowledged(sent, report, acknowledged_s)
        self._flush()
        report(sent)
        return sent

    def _send_one(self, moment: Moment, now_ms: int) -> None:
        topic = topics.LABELS if moment.is_label else topics.TRANSACTIONS
        key = moment.key.encode()
        self._send(topic.name, partition_for(moment.key, self._partitions), key, moment.message(now_ms))

    def _count(self, moment: Moment, sent: Sent) -> None:
        sent.at_ms = max(sent.at_ms, moment.at_ms)
        if moment.is_label:
            sent.labels += 1
            sent.label_rows = max(sent.label_rows, moment.row + 1)
        else:
            sent.transactions += 1
            sent.rows = max(sent.rows, moment.row + 1)

    def _acknowledged(self, sent: Sent, report: Report, before_s: float) -> float:
        """Every second: wait for the acknowledgements and report."""
        now_s = self._now_s()
        if now_s - before_s < _ACKNOWLEDGE_S:
            return before_s
        self._flush()
        report(sent)
        return now_s


class LiveKafka:
    """kafka-python behind a LiveStreamer: idempotent, in order; the first failed send is raised by the next call."""

    def __init__(self, bootstrap: str, linger_ms: int) -> None:
        self._failed: list[BaseException] = []
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            client_id="producer",
            acks="all",
            enable_idempotence=True,
            linger_ms=linger_ms,
        )

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        """Hand over one record. Raises the error of an earlier one."""
        self._raise_failed()
        self._producer.send(topic, value=value, key=key, partition=partition).add_errback(self._failed.append)

    def flush(self) -> None:
        """Wait until everything is acknowledged. Raises kafka's KafkaError."""
        self._producer.flush(timeout=_FLUSH_S_MAX)
        self._raise_failed()

    def close(self) -> None:
        """Disconnect."""
        self._producer.close(timeout=5)

    def _raise_failed(self) -> None:
        if self._failed:
            raise self._failed[0]
