"""The scoring loop: poll a batch of `features`, judge it in one call, write alerts, then scores, then commit.

Rule 1. Nothing is buffered between two polls: what was polled is written and acknowledged before the next poll.
Rule 2. What is done stands in `scores` itself (marks.py). The group's offset only says where to begin reading, so it is
        committed a few times a second, not per batch; after a rebalance the marks are read again.
Rule 3. Kafka away: writes are retried in place by the producer, reads by the consumer, up to a deadline; then the
        process ends, and its supervisor starts it again. So does a consumer that Kafka answers but that gets nothing
        of what is there: kafka-python 3 has stalled so (its issues 3106 and 3131), and nothing here may wait for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import Any, Final, Protocol

import numpy as np
import structlog
from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.errors import FencedInstanceIdError, KafkaError
from kafka.structs import OffsetAndMetadata

from adapters.kafka import Record, await_topic, dead_letter
from adapters.telemetry import counter, gauge, histogram, observe_many
from fraud import metrics, topics
from fraud.alert import Alert
from fraud.decision import DECISIONS
from fraud.flood import FloodGuard
from fraud.packed import Batch, OriginMarks
from scorer.batch_path import BatchPath, BatchVerdicts
from scorer.judge import Verdicts, alerts_of, concatenated, judge
from scorer.lane import Lane, Refused, Taken
from scorer.slot import ModelSlot

STAGE: Final = "scorer"
POLL_MS: Final = 200
COMMIT_SECONDS: Final = 0.5
COMMIT_SECONDS_MAX: Final = 3.0
QUIET_SECONDS: Final = 10.0  # a loop that has not polled for so long is not healthy
LOOK_SECONDS: Final = 3.0  # after that long without a record the loop asks Kafka what is there
PROBE_SECONDS_MAX: Final = 2.0

log = structlog.get_logger("scorer")


class KafkaAwayError(RuntimeError):
    """Kafka did not answer for longer than FRAUD_KAFKA_AWAY_SECONDS_MAX."""


class ConsumerStuckError(RuntimeError):
    """Records were there for longer than LOOK_SECONDS, and no poll returned them."""


class Writer(Protocol):
    """Where decisions go; each call returns when everything is acknowledged, and raises KafkaError otherwise."""

    def alerts(self, alerts: Sequence[Alert]) -> None:
        """Write alerts."""

    def records(self, topic: str, records: Iterable[tuple[int, Record]]) -> None:
        """Write records, each to its partition."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long Kafka may be away, how much of the stream may be refused, and what share of the declined is let through."""

    kafka_away_seconds_max: float
    dead_letter_share_max: float
    dead_letter_records_min: int
    exploration_share: float


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Notes which partitions came or went. Called on the consumer's own thread, so it touches nothing of the loop."""

    def __init__(self) -> None:
        self.moved: deque[TopicPartition] = deque()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.moved.extend(revoked)

    on_partitions_assigned = on_partitions_revoked
    on_partitions_lost = on_partitions_revoked


class ScoringLoop:
    """The loop over a kafka-python consumer that is not yet subscribed.

    read_marks(partitions): the marks of these partitions of `scores`. now_ms: the wall clock.
    shadow: the slot of the challenger; None: nobody scores in shadow. batch_path: None: that path does not score.
    is_retired(hash): whether features are, so that their vectors are skipped.
    """

    def __init__(
        self,
        consumer: Any,
        writer: Writer,
        slot: ModelSlot,
        read_marks: Callable[[Iterable[int]], Mapping[int, OriginMarks]],
        limits: Limits,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        clock: Callable[[], float] = time.monotonic,
        shadow: ModelSlot | None = None,
        batch_path: BatchPath | None = None,
        is_retired: Callable[[str], bool] = lambda feature_hash: False,
    ) -> None:
        self._is_retired = is_retired
        self._consumer = consumer
        self._writer = writer
        self._slot = slot
        self._shadow = shadow
        self._batch_path = batch_path
        self._read_marks = read_marks
        self._limits = limits
        self._now_ms = now_ms
        self._clock = clock
        self._guard = FloodGuard(topics.FEATURES.name, limits.dead_letter_share_max, limits.dead_letter_records_min)
        self._rebalances = _Rebalances()
        self._lanes: dict[int, Lane] = {}
        self._uncommitted: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._commit_at = 0.0
        self._answered_at = clock()
        self._polled_at: float | None = None
        self._assigned: set[TopicPartition] = set()
        self._ends: dict[TopicPartition, int] = {}

    def run(self, stop: Event) -> None:
        """Score until `stop` is set, then commit. Raises what ends the process."""
        await_topic(self._consumer, topics.FEATURES.name, stop)
        self._consumer.subscribe(topics=[topics.FEATURES.name], listener=self._rebalances)
        while not stop.is_set():
            polled = self._consumer.poll(timeout_ms=POLL_MS)
            self._polled_at = self._clock()
            self._forget_moved()
            self._slot.refresh()
            if self._shadow is not None:
                self._shadow.refresh()
            if self._batch_path is not None:
                self._batch_path.slot.refresh()
            if polled:
                self._answered_at = self._polled_at
                self._ends.clear()
                self.take(polled)
            else:
                self._ask_kafka()
            self._commit_when_due(idle=not polled)
            self._show_lag()
        self._commit_when_due(idle=True)

    def health(self) -> str | None:
        """None when the loop polls and has partitions, else the reason."""
        if self._polled_at is None:
            return f"the topic {topics.FEATURES.name} is not there yet"
        if self._clock() - self._polled_at > QUIET_SECONDS:
            return "the last poll is more than 10 s ago"
        if not self._assigned:
            return f"no partition of {topics.FEATURES.name} is assigned: does the topic exist?"
        return None

    def take(self, polled: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Judge and write one poll's records."""
        started = self._clock()
        self._open_lanes(polled)
        taken = {tp.partition: self._lanes[tp.partition].take(records) for tp, records in polled.items()}
        refused = [each for one in taken.values() for each in one.refused]
        self._guard.admit(sum(map(len, polled.values())), len(refused))
        self._bury(refused)
        self._judge_and_write(taken)
        for tp, records in polled.items():
            self._uncommitted[tp] = self._positions[tp] = records[-1].offset + 1
        counter(metrics.TRANSACTIONS_TOTAL).labels(STAGE, "duplicate").inc(sum(t.repeated_rows for t in taken.values()))
        histogram(metrics.STAGE_LATENCY_SECONDS).labels(STAGE).observe(self._clock() - started)

    def _forget_moved(self) -> None:
        """Drop what is known of partitions that came or went: another scorer may have written since."""
        while self._rebalances.moved:
            tp = self._rebalances.moved.popleft()
            self._lanes.pop(tp.partition, None)
            self._uncommitted.pop(tp, None)
            self._positions.pop(tp, None)
        self._assigned = set(self._consumer.assignment())

    def _open_lanes(self, polled: Iterable[TopicPartition]) -> None:
        unknown = sorted(tp.partition for tp in polled if tp.partition not in self._lanes)
        if unknown:
            for partition, done in self._read_marks(unknown).items():
                self._lanes[partition] = Lane(partition, done, self._is_retired)

    def _bury(self, refused: Sequence[Refused]) -> None:
        if not refused:
            return
        letters = [(0, dead_letter(r.error, r.record.key, r.record.value, _source(r.record))) for r in refused]
        self._writer.records(topics.dead_letter_topic(topics.FEATURES).name, letters)
        for each in refused:
            log.warning("dead letter", reason=str(each.error), source=_source(each.record))
            counter(metrics.DEAD_LETTERS_TOTAL).labels(topics.FEATURES.name, each.error.reason).inc()
        counter(metrics.TRANSACTIONS_TOTAL).labels(STAGE, "dead_letter").inc(len(refused))

    def _judge_and_write(self, taken: Mapping[int, Taken]) -> None:
        batches = [batch for one in taken.values() for batch in one.fresh]
        if not batches:
            return
        batch = concatenated(batches)
        began_s = time.thread_time()
        model = self._slot.model
        challenger = None if self._shadow is None else self._shadow.model
        verdicts = judge(batch, model, self._limits.exploration_share, challenger=challenger)
        scored_at_ms = self._now_ms()
        alerts = alerts_of(batch, verdicts, model, scored_at_ms)
        _spent("streaming", began_s)
        self._writer.alerts(alerts)
        beside = self._judge_beside(batch)
        records: list[tuple[int, Record]] = []
        first = 0
        for partition, one in taken.items():
            rows = slice(first, first + sum(b.rows for b in one.fresh))
            records += self._lanes[partition].scores(batch, verdicts, rows, scored_at_ms, beside)
            newest_ms = int(batch.array("occurred_at_ms")[rows].max(initial=0))
            gauge(metrics.EVENT_TIME_SECONDS).labels(STAGE, str(partition)).set(newest_ms / 1000)
            first = rows.stop
        self._writer.records(topics.SCORES.name, records)
        _observe(batch, verdicts, alerts, self._now_ms())

    def _judge_beside(self, batch: Batch) -> BatchVerdicts | None:
        """What the batch path makes of a batch; no alert waits for it."""
        if self._batch_path is None:
            return None
        began_s = time.thread_time()
        beside = self._batch_path.judge(batch)
        _spent("batch", began_s)
        return beside

    def _commit_when_due(self, *, idle: bool) -> None:
        if not self._uncommitted or (self._clock() < self._commit_at and not idle):
            return
        offsets = {tp: OffsetAndMetadata(offset, "", -1) for tp, offset in self._uncommitted.items()}
        self._uncommitted.clear()
        self._commit_at = self._clock() + COMMIT_SECONDS
        try:
            self._consumer.commit(offsets, timeout_ms=int(COMMIT_SECONDS_MAX * 1000))
        except FencedInstanceIdError:
            raise
        except KafkaError as error:
            log.warning("offsets not committed; the marks know what is done", reason=repr(error))

    def _ask_kafka(self) -> None:
        now = self._clock()
        if now - self._answered_at < LOOK_SECONDS:
            return
        asked = sorted(self._assigned) or [TopicPartition(topics.FEATURES.name, 0)]
        try:
            ends = self._consumer.end_offsets(asked, int(PROBE_SECONDS_MAX * 1000))
            missed = sum(max(0, end - self._place(tp)) for tp, end in self._ends.items() if tp in self._assigned)
        except (KafkaError, KeyError) as error:  # KeyError: the answer leaves out a partition that is moving
            if now - self._answered_at > self._limits.kafka_away_seconds_max:
                raise KafkaAwayError(
                    f"Kafka has not answered for {now - self._answered_at:.0f} s: {error!r}"
                ) from error
            return
        if missed:
            raise ConsumerStuckError(f"{missed} records have been there for over {LOOK_SECONDS:.0f} s, and none came")
        self._answered_at, self._ends = self._clock(), dict(ends)

    def _place(self, tp: TopicPartition) -> int:
        """The offset of the next record that this loop has not seen."""
        if tp in self._positions:
            return self._positions[tp]
        return int(self._consumer.position(tp, timeout_ms=int(PROBE_SECONDS_MAX * 1000)) or 0)

    def _show_lag(self) -> None:
        for tp in self._assigned & self._positions.keys():
            with suppress(KafkaError):  # a partition that goes just now
                highwater = self._consumer.highwater(tp)
                lag = max(0, (highwater or 0) - self._positions[tp])
                gauge(metrics.LAG_RECORDS).labels(STAGE, tp.topic, str(tp.partition)).set(lag)


def _spent(path: str, began_s: float) -> None:
    """Count this thread's CPU seconds since began_s."""
    counter(metrics.PATH_CPU_SECONDS_TOTAL).labels(path).inc(max(0.0, time.thread_time() - began_s))


def _source(record: Any) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _observe(batch: Batch, verdicts: Verdicts, alerts: Sequence[Alert], now_ms: int) -> None:
    counter(metrics.TRANSACTIONS_TOTAL).labels(STAGE, "accepted").inc(batch.rows)
    histogram(metrics.BATCH_ROWS).labels(STAGE).observe(batch.rows)
    observe_many(histogram(metrics.EVENT_TO_SCORE_SECONDS), (now_ms - batch.array("ingested_at_ms")) / 1000)
    observe_many(histogram(metrics.SCORE), verdicts.score)
    decided = np.bincount(verdicts.decision, minlength=len(DECISIONS)).tolist()
    for decision, rows in zip(DECISIONS, decided, strict=True):
        counter(metrics.SCORES_TOTAL).labels(decision).inc(rows)
    for alert in alerts:
        counter(metrics.ALERTS_TOTAL).labels(alert.decision).inc()
