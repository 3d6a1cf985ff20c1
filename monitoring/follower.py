"""Following topics from where a journal stands: records in, positions with the journal's next commit.

Rule 1. The journal says where to read on, never a consumer group.
Rule 2. Records that the log no longer has are said and left out; a log that is shorter than the journal ends the process.
Rule 3. Kafka away: waited for up to a deadline; then the process ends, and its supervisor starts it again. So does a consumer
        that gets nothing of what is there: kafka-python 3 has stalled so (its issues 3106 and 3131).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from adapters.telemetry import gauge
from fraud import metrics
from fraud.topics import Topic
from monitoring.journal import Journal, JournalRefusedError, Source

LOG_SETTLES_S: Final = 10.0
LOG_POLL_S: Final = 0.2
QUIET_S: Final = 10.0
_PROBE_S_MAX: Final = 2
_RECORDS_MAX: Final = 500
# Nobody waits for what is made here: a fetch a second, not one for each small batch.
_WAIT_MS: Final = 1_000
_ENOUGH_BYTES: Final = 1024 * 1024

log = structlog.get_logger("monitoring")


class KafkaAwayError(RuntimeError):
    """Kafka did not answer for longer than FRAUD_KAFKA_AWAY_SECONDS_MAX, or has not the topics yet."""


class ConsumerStuckError(RuntimeError):
    """Records were there for longer than QUIET_S, and no poll returned any."""


def connect(bootstrap: str, client_id: str, away_s_max: float) -> KafkaConsumer:
    """A consumer without a group. Raises KafkaError when no broker answers in time."""
    return KafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_poll_records=_RECORDS_MAX,
        fetch_max_wait_ms=_WAIT_MS,
        fetch_min_bytes=_ENOUGH_BYTES,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        reconnect_backoff_max_ms=1_000,
        bootstrap_timeout_ms=int(away_s_max * 1000),
        allow_auto_create_topics=False,
    )


class Follower:
    """Every partition of `topics`, each from where the journal stands. stage: its name in metrics."""

    def __init__(
        self,
        consumer: Any,
        journal: Journal,
        topics: Sequence[Topic],
        stage: str,
        away_s_max: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer = consumer
        self._journal = journal
        self._topics = topics
        self._stage = stage
        self._away_s_max = away_s_max
        self._clock = clock
        self._sources: list[TopicPartition] = []
        self._answered_at = clock()
        self._polled_at: float | None = None
        self._ends: dict[TopicPartition, int] = {}

    def start(self) -> None:
        """Find the partitions and go to their positions. Raises KafkaAwayError, JournalRefusedError, KafkaError."""
        for topic in self._topics:
            partitions = self._consumer.partitions_for_topic(topic.name)
            if not partitions:
                raise KafkaAwayError(f"there is no topic {topic.name} yet: the init step has not made it")
            self._sources += [TopicPartition(topic.name, number) for number in sorted(partitions)]
        self._consumer.assign(self._sources)
        begins, ends = self._consumer.beginning_offsets(self._sources), self._settled_ends()
        for tp in self._sources:
            self._consumer.seek(tp, self._resumed(tp, begins[tp], ends[tp]))
        log.info("following", topics=[topic.name for topic in self._topics], partitions=len(self._sources))

    def poll(self, timeout_ms: int = _WAIT_MS) -> list[tuple[Source, list[Any]]]:
        """New records by source, in log order; the journal's positions move past them. Raises KafkaAwayError, ConsumerStuckError."""
        polled = self._consumer.poll(timeout_ms=timeout_ms)
        self._polled_at = self._clock()
        if polled:
            self._answered_at = self._polled_at
            self._ends.clear()
        else:
            self._ask_kafka()
        taken = []
        for tp, records in polled.items():
            source = Source(tp.topic, tp.partition)
            self._journal.read_up_to(source, records[-1].offset + 1)
            taken.append((source, records))
        return taken

    def show_lag(self) -> None:
        """Put the records not taken yet into the metrics."""
        for tp in self._sources:
            high = self._consumer.highwater(tp)
            at = self._journal.position(Source(tp.topic, tp.partition))
            if high is not None and at is not None:
                gauge(metrics.LAG_RECORDS).labels(self._stage, tp.topic, str(tp.partition)).set(max(0, high - at))

    def health(self) -> str | None:
        """None when polls happen and Kafka answers, else the reason."""
        now = self._clock()
        if self._polled_at is None:
            return "not assigned yet"
        if now - self._polled_at > QUIET_S:
            return "the last poll is more than 10 s ago"
        if now - self._answered_at > 2 * QUIET_S:
            return f"Kafka has not answered for {now - self._answered_at:.0f} s"
        return None

    def _settled_ends(self) -> dict[TopicPartition, int]:
        """The ends of the logs; a broker that was killed shows lower ones for a moment while it recovers."""
        deadline = self._clock() + LOG_SETTLES_S
        while True:
            ends: dict[TopicPartition, int] = self._consumer.end_offsets(self._sources)
            behind = [tp for tp in self._sources if ends[tp] < (self._journal.position(Source(*tp)) or 0)]
            if not behind or self._clock() > deadline:
                return ends
            time.sleep(LOG_POLL_S)

    def _resumed(self, tp: TopicPartition, begin: int, end: int) -> int:
        source = Source(tp.topic, tp.partition)
        at = self._journal.position(source)
        if at is None:
            at = begin
        if at > end:
            raise JournalRefusedError(
                f"{tp.topic}/{tp.partition}: the log ends at offset {end}, {self._journal.path} has read up to {at}: "
                "it belongs to another Kafka; delete the file, it is made again from the logs"
            )
        if at < begin:
            log.warning(
                "the log no longer has what was not read yet",
                topic=tp.topic,
                partition=tp.partition,
                first_lost=at,
                lost=begin - at,
            )
        at = max(at, begin)
        self._journal.read_up_to(source, at)
        return at

    def _ask_kafka(self) -> None:
        now = self._clock()
        if now - self._answered_at < QUIET_S:
            return
        try:
            ends = self._consumer.end_offsets(self._sources, timeout_ms=_PROBE_S_MAX * 1000)
        except KafkaError as error:
            if now - self._answered_at > self._away_s_max:
                raise KafkaAwayError(f"Kafka has not answered for {now - self._answered_at:.0f} s: {error}") from error
            return
        missed = sum(max(0, end - (self._journal.position(Source(*tp)) or 0)) for tp, end in self._ends.items())
        if missed:
            raise ConsumerStuckError(f"{missed} records have been there for over {QUIET_S:.0f} s, and none came")
        self._answered_at, self._ends = self._clock(), dict(ends)
