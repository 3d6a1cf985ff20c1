"""A run of the producer: a checked file is streamed, and followed until the fate of every transaction is known.

Rule 1. Nothing is sent before the whole of what will be sent was checked.
Rule 2. Following starts before the first message and ends within a deadline.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final

from kafka.errors import KafkaError

from adapters.telemetry import counter, gauge
from fraud import metrics, topics
from fraud.features import FEATURE_HASH
from producer.chunks import chunks
from producer.clock import MAX, MonotonicTime, SimulatedClock
from producer.outcome import Counts, Lags, Outcome, StackMissingError
from producer.position import Position
from producer.progress import Meter
from producer.streamer import LiveKafka, LiveStreamer, Report, Sent, linger_ms_for, stream_fast
from producer.transaction_file import Extent, TransactionFile

_SAVE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """The stack that a run streams into."""

    bootstrap: str
    redis_url: str
    partitions: int
    scorer_group: str
    stall_seconds_max: float


@dataclass(frozen=True, slots=True)
class Run:
    """What is streamed: rows of a file up to its extent, from a position on, at a speed (event time per real time)."""

    file: TransactionFile
    extent: Extent
    speed: float
    position: Position = field(default_factory=Position)
    save: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    others: transactions that other producers wrote meanwhile. counts: None when the run was not followed.
    """

    sent: Sent
    send_seconds: float
    seconds: float
    others: int = 0
    counts: Counts | None = None
    stopped: bool = False

    @property
    def transactions_per_second(self) -> float:
        """End to end when followed, else of sending."""
        return self.sent.transactions / max(self.seconds, 1e-9)

    def as_dict(self) -> dict[str, int | float | bool]:
        """For scripts."""
        fields: dict[str, int | float | bool] = {"sent": self.sent.transactions, "labels_sent": self.sent.labels}
        if self.counts is not None:
            fields |= {
                "scored": self.counts.scored,
                "dead_lettered": self.counts.dead_lettered,
                "duplicates_ignored": self.counts.duplicates_ignored,
                "scored_twice": self.counts.scored_twice,
                "repeated_rows": self.counts.repeated_rows,
                "sent_by_others": self.others,
            }
        return fields | {
            "send_seconds": round(self.send_seconds, 3),
            "seconds": round(self.seconds, 3),
            "transactions_per_second": round(self.transactions_per_second, 1),
            "stopped": self.stopped,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"sent                {self.sent.transactions:>12,}   and {self.sent.labels:,} labels"
        if self.counts is not None:
            yield f"scored              {self.counts.scored:>12,}"
            yield f"dead-lettered       {self.counts.dead_lettered:>12,}"
            yield f"ignored duplicates  {self.counts.duplicates_ignored:>12,}"
            repeated = f"({self.counts.repeated_rows:,} repeated rows dropped)"
            yield f"scored twice        {self.counts.scored_twice:>12,}   {repeated}"
        if self.others:
            yield f"sent by others      {self.others:>12,}   meanwhile, counted with the scored"
        yield f"seconds             {self.seconds:>12,.1f}   ({self.send_seconds:,.1f} to send)"
        yield f"transactions/s      {self.transactions_per_second:>12,.0f}   {'end to end' if self.counts else 'sent'}"


def run(run: Run, target: Target, follow: bool, stop: threading.Event) -> Summary:
    """Stream; with `follow`, wait until all of it is scored, dead-lettered or ignored as a duplicate.

    Raises KafkaError (of either client), StackMissingError, StalledError.
    """
    remaining = run.extent.rows - min(run.position.rows, run.extent.rows)
    if not follow:
        with Meter({"sent": remaining}) as meter:
            begin_s = time.monotonic()
            sent = _send_and_save(run, target, meter, stop)
            seconds = time.monotonic() - begin_s
        return Summary(sent, seconds, seconds, stopped=stop.is_set())
    lags = Lags(target.bootstrap, target.redis_url, FEATURE_HASH, target.partitions, target.scorer_group)
    with (
        closing(lags),
        closing(Outcome(target.bootstrap, target.partitions, lags, target.stall_seconds_max)) as outcome,
        Meter({"sent": remaining, "scored": remaining}) as meter,
    ):
        begin_s = time.monotonic()
        with following(outcome, lambda now: meter.update("scored", now.scored)):
            sent = _send_and_save(run, target, meter, stop)
        send_seconds = time.monotonic() - begin_s
        expected = outcome.expected()
        counts = outcome.wait(expected, lambda now: meter.update("scored", now.scored), stop)
        seconds = time.monotonic() - begin_s
    return Summary(sent, send_seconds, seconds, expected - sent.transactions, counts, stop.is_set())


def _send_and_save(run: Run, target: Target, meter: Meter, stop: threading.Event) -> Sent:
    sent = _send(run, target, _reporting(run, meter), stop)
    if run.save is not None:
        run.save(sent.rows, sent.label_rows)
    return sent


def _send(run: Run, target: Target, report: Report, stop: threading.Event) -> Sent:
    pieces = chunks(run.file.slices(min(run.position.first_row, run.extent.rows), run.extent.rows))
    if run.speed == MAX:
        return asyncio.run(stream_fast(target.bootstrap, target.partitions, pieces, run.position, report, stop))
    linger_ms = linger_ms_for(run.extent.rows_per_event_second * run.speed)
    with closing(LiveKafka(target.bootstrap, linger_ms)) as kafka:
        real = MonotonicTime(stop)
        streamer = LiveStreamer(
            kafka.send, kafka.flush, target.partitions, lambda begin_ms: SimulatedClock(begin_ms, run.speed, real)
        )
        return streamer.stream(pieces, run.position, report, stop)


def _reporting(run: Run, meter: Meter) -> Report:
    """What is done at each acknowledgement: metrics, progress, and the position, which is saved once a second."""
    produced = counter(metrics.PRODUCED_TOTAL)
    simulated = gauge(metrics.SIMULATED_TIME_SECONDS)
    before = Sent()
    saved_s = -_SAVE_S

    def report(sent: Sent) -> None:
        nonlocal saved_s
        produced.labels(topics.TRANSACTIONS.name).inc(sent.transactions - before.transactions)
        produced.labels(topics.LABELS.name).inc(sent.labels - before.labels)
        before.transactions, before.labels = sent.transactions, sent.labels
        if sent.at_ms:
            simulated.set(sent.at_ms / 1000)
        meter.update("sent", sent.transactions)
        if run.save is not None and time.monotonic() - saved_s >= _SAVE_S:
            run.save(sent.rows, sent.label_rows)
            saved_s = time.monotonic()

    return report


@contextmanager
def following(outcome: Outcome, report: Callable[[Counts], None] = lambda _: None) -> Iterator[None]:
    """Read outcomes in a thread while the block sends."""
    done = threading.Event()
    failed: list[Exception] = []

    def follow() -> None:
        try:
            while not done.is_set():
                outcome.observe()
                report(outcome.counts)
        except (KafkaError, StackMissingError, OSError) as error:  # raised below, in the thread that asked
            failed.append(error)

    thread = threading.Thread(target=follow, name="outcome", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failed:
        raise failed[0]
