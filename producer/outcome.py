"""What became of the transactions that were sent: scored, dead-lettered, or ignored as duplicates.

Rule 1. The log is the witness: every score and dead letter names the partition and offset of its transaction, and those
        offsets are counted once each.
Rule 2. Waiting is bounded: without progress for a stated time it ends with the name of the stage that lags.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import redis
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from adapters.state_store import StateReader
from fraud import packed, topics
from fraud.dead_letters import BadMessageError
from fraud.packed import Batch, OriginMarks, unpack
from fraud.topics import Topic, dead_letter_topic

DEAD_LETTER_SOURCES: Final = (topics.TRANSACTIONS, topics.TERMINAL_LOG, topics.FEATURES)
_POLL_MS: Final = 200
_LOOK_S: Final = 1.0


class StackMissingError(RuntimeError):
    """The broker has not the stack's topics; the message names the remedy."""


class StalledError(RuntimeError):
    """Nothing moved for too long; the message names the stage that lags."""


@dataclass(slots=True)
class Counts:
    """What became of the transactions so far; scored_twice counts offsets, repeated_rows rows that readers drop."""

    scored: int = 0
    dead_lettered: int = 0
    duplicates_ignored: int = 0
    scored_twice: int = 0
    repeated_rows: int = 0

    @property
    def done(self) -> int:
        """Transactions whose fate is known."""
        return self.scored + self.dead_lettered + self.duplicates_ignored


def end_offsets(consumer: KafkaConsumer, topic: Topic, partitions: int) -> tuple[int, ...]:
    """The next offset of each partition. Raises StackMissingError when the topic is not as the settings say."""
    present = consumer.partitions_for_topic(topic.name)
    expected = partitions if topic.partitioned else 1
    if present is None:
        raise StackMissingError(
            f"the broker has no topic {topic.name}: start the stack (fraudstream up), or make the topics "
            "(python -m adapters.init_topics)"
        )
    if len(present) != expected:
        raise StackMissingError(
            f"topic {topic.name} has {len(present)} partitions, FRAUD_PARTITIONS says {expected}: "
            f"set it to {len(present)}"
        )
    places = [TopicPartition(topic.name, p) for p in range(expected)]
    ends = consumer.end_offsets(places)
    return tuple(ends[place] for place in places)


def connect(bootstrap: str) -> KafkaConsumer:
    """A consumer without a group, for offsets and tails. Raises kafka's KafkaError when no broker answers."""
    return KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )


class Fates:
    """The fate of each offset of `transactions` from `begins` on; pure counting, fed with records."""

    def __init__(self, begins: Sequence[int]) -> None:
        self._begins = tuple(begins)
        self._scored = [np.zeros(1024, np.bool_) for _ in begins]
        self._dead = [np.zeros(1024, np.bool_) for _ in begins]
        self._marks: dict[int, OriginMarks] = {}  # origins ascend within a partition of `scores`, not across them
        self.counts = Counts()

    def take_scores(self, value: bytes | None, partition: int = 0) -> None:
        """Count one record of a partition of `scores`. What is no batch of scores counts nothing."""
        try:
            batch = unpack(value, (packed.SCORES,))
        except BadMessageError:
            return
        fresh = self._marks.setdefault(partition, OriginMarks()).fresh(batch)
        self.counts.repeated_rows += self._ours(batch) - self._ours(fresh)
        for origin, offsets in self._places(fresh):
            seen = self._mask(self._scored, origin, int(offsets.max()))
            self.counts.scored_twice += int(seen[offsets].sum())
            self.counts.scored += int((~seen[offsets]).sum())
            seen[offsets] = True

    def take_dead_letter(self, headers: Sequence[tuple[str, bytes]] | None) -> None:
        """Count one dead letter of a transaction; others, such as labels', count nothing."""
        of = dict(headers or ())
        if of.get("topic") != topics.TRANSACTIONS.name.encode():
            return
        partition, offset = int(of["partition"]), int(of["offset"])
        if partition >= len(self._begins) or offset < self._begins[partition]:
            return
        seen = self._mask(self._dead, partition, offset - self._begins[partition])
        self.counts.dead_lettered += not seen[offset - self._begins[partition]]
        seen[offset - self._begins[partition]] = True

    def _ours(self, batch: Batch) -> int:
        return sum(len(offsets) for _, offsets in self._places(batch))

    def _places(self, batch: Batch) -> list[tuple[int, npt.NDArray[np.int64]]]:
        """Offsets since the begin, by partition."""
        places = []
        partitions, offsets = batch.array("origin_partition"), batch.array("origin_offset")
        for partition in np.unique(partitions).tolist():
            if partition < len(self._begins):
                since = offsets[partitions == partition] - self._begins[partition]
                since = since[since >= 0]
                if len(since):
                    places.append((partition, since))
        return places

    @staticmethod
    def _mask(masks: list[npt.NDArray[np.bool_]], partition: int, highest: int) -> npt.NDArray[np.bool_]:
        mask = masks[partition]
        if highest >= len(mask):
            masks[partition] = mask = np.concatenate(
                [mask, np.zeros(max(len(mask), highest + 1 - len(mask)), np.bool_)]
            )
        return mask


class Lags:
    """How far the stages are: from their stored state, the log's ends and the scorer's group offset."""

    def __init__(self, bootstrap: str, redis_url: str, feature_hash: str, partitions: int, scorer_group: str) -> None:
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        self._state = StateReader(redis_url, feature_hash)
        self._partitions = partitions
        self._scorer_group = scorer_group

    def duplicates(self) -> int:
        """Transactions that the card stage has ever ignored as duplicates; 0 when its state cannot be read."""
        try:
            return self._state.counters("card", range(self._partitions)).get("duplicates", 0)
        except (redis.RedisError, OSError):
            return 0

    def taken(self) -> dict[str, int | None]:
        """Records that each stage has taken of its source, over all partitions; None where that cannot be known."""
        counts: dict[str, int | None] = {}
        for stage in ("card", "terminal"):
            try:
                counts[stage] = sum(self._state.read(stage, p).next or 0 for p in range(self._partitions))
            except (redis.RedisError, OSError):
                counts[stage] = None
        counts["scorer"] = self._committed(self._scorer_group, topics.FEATURES.name)
        return counts

    def _committed(self, group: str, topic: str) -> int | None:
        try:
            offsets: Mapping[str, Any] = self._admin.list_group_offsets([group])
        except KafkaError:
            return None
        of_group = offsets.get(group, {})
        return sum(int(entry.offset) for place, entry in of_group.items() if place.topic == topic and entry.offset > 0)

    def close(self) -> None:
        """Disconnect."""
        self._admin.close()
        self._state.close()


def lagging(taken: Mapping[str, int | None], ends: Mapping[str, int]) -> str:
    """The first stage that has not taken all of its source: where the stream stands still."""
    sources = (
        ("card stage", topics.TRANSACTIONS.name),
        ("terminal stage", topics.TERMINAL_LOG.name),
        ("scorer", topics.FEATURES.name),
    )
    for stage, source in sources:
        count = taken.get(stage.removesuffix(" stage"))
        if count is None:
            return f"the {stage}'s progress cannot be read: see fraudstream status"
        if count < ends[source]:
            taken_of = f"it has taken {count:,} of {ends[source]:,} records of {source}"
            return f"the {stage} lags: {taken_of}; see fraudstream status"
    return "every stage has taken its source: see the scorer's log"


class Outcome:
    """Follows the fate of what is sent from its making on. Used by one thread.

    Duplicates are counted by the card stage, not by offset: where it lags at the start, those of its backlog count too.
    """

    def __init__(
        self,
        bootstrap: str,
        partitions: int,
        lags: Lags,
        stall_seconds_max: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partitions = partitions
        self._lags = lags
        self._stall_seconds_max = stall_seconds_max
        self._now_s = now_s
        self._consumer = connect(bootstrap)
        self.begins = end_offsets(self._consumer, topics.TRANSACTIONS, partitions)
        self.fates = Fates(self.begins)
        self._duplicates_before = lags.duplicates()
        self._follow()

    def _follow(self) -> None:
        places: dict[TopicPartition, int] = {}
        for topic in (topics.SCORES, *map(dead_letter_topic, DEAD_LETTER_SOURCES)):
            for partition, end in enumerate(end_offsets(self._consumer, topic, self._partitions)):
                places[TopicPartition(topic.name, partition)] = end
        self._consumer.assign(list(places))
        for place, end in places.items():
            self._consumer.seek(place, end)

    @property
    def counts(self) -> Counts:
        """What is known so far."""
        return self.fates.counts

    def observe(self, timeout_ms: int = _POLL_MS) -> bool:
        """Read what has come, waiting at most `timeout_ms` for it; say whether anything came."""
        found = self._consumer.poll(timeout_ms=timeout_ms, max_records=2000)
        for place, records in found.items():
            for record in records:
                if place.topic == topics.SCORES.name:
                    self.fates.take_scores(record.value, place.partition)
                else:
                    self.fates.take_dead_letter(record.headers)
        return bool(found)

    def expected(self) -> int:
        """Transactions in the log since the begin, whoever sent them."""
        return sum(end_offsets(self._consumer, topics.TRANSACTIONS, self._partitions)) - sum(self.begins)

    def wait(self, expected: int, progress: Callable[[Counts], None], stop: threading.Event) -> Counts:
        """Return when the fate of `expected` transactions is known, or at `stop`. Raises StalledError."""
        moved_s, looked_s, last = self._now_s(), 0.0, None
        while self.counts.done < expected and not stop.is_set():
            self.observe()
            progress(self.counts)
            if self._now_s() - looked_s < _LOOK_S:
                continue
            looked_s = self._now_s()
            self.counts.duplicates_ignored = self._lags.duplicates() - self._duplicates_before
            state = (asdict(self.counts), self._lags.taken())
            if state != last:
                last, moved_s = state, looked_s
            elif looked_s - moved_s > self._stall_seconds_max:
                raise StalledError(self._stall(expected))
        while self.observe():  # rows written again after a crash may still come
            pass
        return self.counts

    def _stall(self, expected: int) -> str:
        sources = (topics.TRANSACTIONS, topics.TERMINAL_LOG, topics.FEATURES)
        ends = {topic.name: sum(end_offsets(self._consumer, topic, self._partitions)) for topic in sources}
        return (
            f"no progress for {self._stall_seconds_max:.0f} s with the fate of {expected - self.counts.done:,} of "
            f"{expected:,} transactions unknown; {lagging(self._lags.taken(), ends)}"
        )

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()
