"""The scoring loop: poll a batch of `features`, judge it in one call, write alerts, then scores, then commit.

Rule 1. Nothing is buffered between two polls: what was polled is written and acknowledged before the next poll.
Rule 2. What is done stands in `scores` itself (marks.py). The group's offset only says where to begin reading, so it is
        committed a few times a second, not per batch; after a rebalance the marks are read again.
Rule 3. Kafka away: writes are retried in place by the producer, reads by the consumer, up to a deadline; then the
        process ends, and its supervisor starts it again. So does a consumer that Kafka answers but that gets nothing
        of what is there: a client may stall (kafka-python 3 did), and nothing here waits for it without looking.
Rule 4. One event loop: consumer, producer and heartbeats share it with the judging, so whatever blocks here (a model's
        prediction, a look into Redis) is bounded, far below the ten seconds of a session.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Final, Protocol

import numpy as np
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from adapters.kafka import TOPIC_WAIT_S, Record, dead_letter
from adapters.telemetry import counter, gauge, histogram, observe_many
from fraud import metrics, topics
from fraud.alert import Alert
from fraud.decision import DECISIONS
from fraud.flood import FloodGuard
from fraud.packed import Batch, OriginMarks
from scorer.batch_path import BatchPath, BatchVerdicts
from scorer.judge import Verdicts, alerts_of, concatenated, judge
from scorer.kafka_away import KafkaAwayError
from scorer.lane import Lane, Refused, Taken
from scorer.membership import Membership
from scorer.slot import ModelSlot

STAGE: Final = "scorer"
POLL_MS: Final = 200
REBALANCE_LOOK_SECONDS: Final = 1.0  # a poll during a rebalance waits for its end: after that long the loop looks up
COMMIT_SECONDS: Final = 0.5
COMMIT_SECONDS_MAX: Final = 3.0
QUIET_SECONDS: Final = 10.0  # a loop that has not polled for so long is not healthy
LOOK_SECONDS: Final = 3.0  # after that long without a record the loop asks Kafka what is there
PROBE_SECONDS_MAX: Final = 2.0

log = structlog.get_logger("scorer")


class ConsumerStuckError(RuntimeError):
    """Records were there for longer than LOOK_SECONDS, and no poll returned them."""


class Writer(Protocol):
    """Where decisions go; each call returns when everything is acknowledged, and raises otherwise what ends the process."""

    async def alerts(self, alerts: Sequence[Alert]) -> None:
        """Write alerts."""

    async def records(self, topic: str, records: Iterable[tuple[int, Record]]) -> None:
        """Write records, each to its partition."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long Kafka may be away, how much of the stream may be refused, and what share of the declined is let through."""

    kafka_away_seconds_max: float
    dead_letter_share_max: float
    dead_letter_records_min: int
    exploration_share: float


async def _nobody() -> bool:
    """Nobody else has this scorer's name."""
    return False


class ScoringLoop:
    """The loop over an aiokafka consumer that is started and not yet subscribed.

    read_marks(partitions): the marks of these partitions of `scores`. now_ms: the wall clock.
    name_is_taken(): whether another scorer has joined the group under this one's name (membership.py).
    shadow: the slot of the challenger; None: nobody scores in shadow. batch_path: None: that path does not score.
    is_retired(hash): whether features are, so that their vectors are skipped.
    """

    def __init__(
        self,
        consumer: Any,
        writer: Writer,
        slot: ModelSlot,
        read_marks: Callable[[Iterable[int]], Awaitable[Mapping[int, OriginMarks]]],
        limits: Limits,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        clock: Callable[[], float] = time.monotonic,
        shadow: ModelSlot | None = None,
        batch_path: BatchPath | None = None,
        is_retired: Callable[[str], bool] = lambda feature_hash: False,
        name_is_taken: Callable[[], Awaitable[bool]] = _nobody,
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
        self._membership = Membership(name_is_taken)
        self._lanes: dict[int, Lane] = {}
        self._uncommitted: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._commit_at = 0.0
        self._answered_at = clock()
        self._polled_at: float | None = None
        self._ends: dict[TopicPartition, int] = {}

    async def run(self, stop: Event) -> None:
        """Score until `stop` is set, then commit. Raises what ends the process."""
        await self._await_topic(stop)
        self._consumer.subscribe(topics=[topics.FEATURES.name], listener=self._membership)
        while not stop.is_set():
            polled = await self._poll()
            self._polled_at = self._clock()
            self._membership.check()
            self._forget_moved()
            self._slot.refresh()
            if self._shadow is not None:
                self._shadow.refresh()
            if self._batch_path is not None:
                self._batch_path.slot.refresh()
            if polled:
                self._answered_at = self._polled_at
                self._ends.clear()
                await self.take(polled)
            else:
                await self._ask_kafka()
            await self._commit_when_due(idle=not polled)
            self._show_lag()
        await self._commit_when_due(idle=True)

    def health(self) -> str | None:
        """None when the loop polls and has partitions, else the reason."""
        if self._polled_at is None:
            return f"the topic {topics.FEATURES.name} is not there yet"
        if self._clock() - self._polled_at > QUIET_SECONDS:
            return "the last poll is more than 10 s ago"
        if not self._membership.assigned:
            return f"no partition of {topics.FEATURES.name} is assigned: does the topic exist?"
        return None

    async def take(self, polled: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Judge and write one poll's records."""
        started = self._clock()
        await self._open_lanes(polled)
        taken = {tp.partition: self._lanes[tp.partition].take(records) for tp, records in polled.items()}
        refused = [each for one in taken.values() for each in one.refused]
        self._guard.admit(sum(map(len, polled.values())), len(refused))
        await self._bury(refused)
        await self._judge_and_write(taken)
        for tp, records in polled.items():
            self._uncommitted[tp] = self._positions[tp] = records[-1].offset + 1
        counter(metrics.TRANSACTIONS_TOTAL, STAGE, "duplicate").inc(sum(t.repeated_rows for t in taken.values()))
        histogram(metrics.STAGE_LATENCY_SECONDS, STAGE).observe(self._clock() - started)

    async def _await_topic(self, stop: Event) -> None:
        """Return when the topic is there, or `stop` is set: until then there is nothing to join for."""
        while not stop.is_set() and topics.FEATURES.name not in await self._consumer.topics():
            await asyncio.sleep(TOPIC_WAIT_S)

    async def _poll(self) -> Mapping[TopicPartition, Sequence[Any]]:
        """What comes within POLL_MS; nothing while the group rebalances."""
        try:
            async with asyncio.timeout(REBALANCE_LOOK_SECONDS):
                polled: Mapping[TopicPartition, Sequence[Any]] = await self._consumer.getmany(timeout_ms=POLL_MS)
        except TimeoutError:
            return {}
        return polled

    def _forget_moved(self) -> None:
        """Drop what is known of partitions that came or went: another scorer may have written since."""
        while self._membership.moved:
            tp = self._membership.moved.popleft()
            self._lanes.pop(tp.partition, None)
            self._uncommitted.pop(tp, None)
            self._positions.pop(tp, None)

    async def _open_lanes(self, polled: Iterable[TopicPartition]) -> None:
        unknown = sorted(tp.partition for tp in polled if tp.partition not in self._lanes)
        if unknown:
            for partition, done in (await self._read_marks(unknown)).items():
                self._lanes[partition] = Lane(partition, done, self._is_retired)

    async def _bury(self, refused: Sequence[Refused]) -> None:
        if not refused:
            return
        letters = [(0, dead_letter(r.error, r.record.key, r.record.value, _source(r.record))) for r in refused]
        await self._writer.records(topics.dead_letter_topic(topics.FEATURES).name, letters)
        for each in refused:
            log.warning("dead letter", reason=str(each.error), source=_source(each.record))
            counter(metrics.DEAD_LETTERS_TOTAL, topics.FEATURES.name, each.error.reason).inc()
        counter(metrics.TRANSACTIONS_TOTAL, STAGE, "dead_letter").inc(len(refused))

    async def _judge_and_write(self, taken: Mapping[int, Taken]) -> None:
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
        await self._writer.alerts(alerts)
        beside = self._judge_beside(batch)
        records: list[tuple[int, Record]] = []
        first = 0
        for partition, one in taken.items():
            rows = slice(first, first + sum(b.rows for b in one.fresh))
            records += self._lanes[partition].scores(batch, verdicts, rows, scored_at_ms, beside)
            newest_ms = int(batch.array("occurred_at_ms")[rows].max(initial=0))
            gauge(metrics.EVENT_TIME_SECONDS, STAGE, str(partition)).set(newest_ms / 1000)
            first = rows.stop
        await self._writer.records(topics.SCORES.name, records)
        _observe(batch, verdicts, alerts, self._now_ms())

    def _judge_beside(self, batch: Batch) -> BatchVerdicts | None:
        """What the batch path makes of a batch; no alert waits for it."""
        if self._batch_path is None:
            return None
        began_s = time.thread_time()
        beside = self._batch_path.judge(batch)
        _spent("batch", began_s)
        return beside

    async def _commit_when_due(self, *, idle: bool) -> None:
        if not self._uncommitted or (self._clock() < self._commit_at and not idle):
            return
        offsets = dict(self._uncommitted)
        self._uncommitted.clear()
        self._commit_at = self._clock() + COMMIT_SECONDS
        try:
            async with asyncio.timeout(COMMIT_SECONDS_MAX):
                await self._consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            log.warning("offsets not committed; the marks know what is done", reason=repr(error))

    async def _ask_kafka(self) -> None:
        now = self._clock()
        if now - self._answered_at < LOOK_SECONDS:
            return
        asked = sorted(self._membership.assigned) or [TopicPartition(topics.FEATURES.name, 0)]
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                ends = await self._consumer.end_offsets(asked)
                missed = 0
                for tp in self._membership.assigned & self._ends.keys():
                    missed += max(0, self._ends[tp] - await self._place(tp))
        except (KafkaError, TimeoutError) as error:
            if now - self._answered_at > self._limits.kafka_away_seconds_max:
                raise KafkaAwayError(
                    f"Kafka has not answered for {now - self._answered_at:.0f} s: {error!r}"
                ) from error
            return
        if missed:
            raise ConsumerStuckError(f"{missed} records have been there for over {LOOK_SECONDS:.0f} s, and none came")
        self._answered_at, self._ends = self._clock(), dict(ends)

    async def _place(self, tp: TopicPartition) -> int:
        """The offset of the next record that this loop has not seen."""
        if tp in self._positions:
            return self._positions[tp]
        return int(await self._consumer.position(tp))

    def _show_lag(self) -> None:
        for tp in self._membership.assigned & self._positions.keys():
            lag = max(0, (self._consumer.highwater(tp) or 0) - self._positions[tp])
            gauge(metrics.LAG_RECORDS, STAGE, tp.topic, str(tp.partition)).set(lag)


def _spent(path: str, began_s: float) -> None:
    """Count this thread's CPU seconds since began_s."""
    counter(metrics.PATH_CPU_SECONDS_TOTAL, path).inc(max(0.0, time.thread_time() - began_s))


def _source(record: Any) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _observe(batch: Batch, verdicts: Verdicts, alerts: Sequence[Alert], now_ms: int) -> None:
    counter(metrics.TRANSACTIONS_TOTAL, STAGE, "accepted").inc(batch.rows)
    histogram(metrics.BATCH_ROWS, STAGE).observe(batch.rows)
    observe_many(histogram(metrics.EVENT_TO_SCORE_SECONDS), (now_ms - batch.array("ingested_at_ms")) / 1000)
    observe_many(histogram(metrics.SCORE), verdicts.score)
    decided = np.bincount(verdicts.decision, minlength=len(DECISIONS)).tolist()
    for decision, rows in zip(DECISIONS, decided, strict=True):
        counter(metrics.SCORES_TOTAL, decision).inc(rows)
    for alert in alerts:
        counter(metrics.ALERTS_TOTAL, alert.decision).inc()
