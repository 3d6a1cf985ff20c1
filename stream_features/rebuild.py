"""A new feature definition beside the old one: its state is folded from the log's past, reaches the live edge, and takes over.

Rule 1. What the old definition has served and had scored, the new one folds as history; what it has not, the new worker takes as
        its own work. The cut between the two is computed from watermarks alone, so it does not matter how the old worker ended.
Rule 2. The old state is fenced before the last round: what stood then is the cut. Only then does the new definition become active.
Rule 3. Every batch takes effect as a worker's does, with its watermark: a rebuild that was killed goes on where it was.

    terminal-log  |== vectors scored ==|-- not yet scored --|          T: the cut of a partition
                                       T
    transactions  |========== all that the log has before T ==|--      C: the first transaction that stands in the log behind T
                                                              C        the new worker writes it, and all after it, again
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from adapters.feature_switch import STAGES, FeatureSwitch
from adapters.lake import Lake
from adapters.state_store import Effect, Stage, StateStore
from fraud import packed, topics
from fraud.dead_letters import BadMessageError
from fraud.features import FEATURE_HASH
from fraud.packed import OriginMarks, unpack
from stream_features.card_stage import CardStage
from stream_features.history import History
from stream_features.settings import FeatureSettings
from stream_features.terminal_stage import TerminalStage

EDGE_RECORDS: Final = 2000
ROUNDS_MAX: Final = 20

Origin = tuple[str, int]
Say = Callable[[str], None]


class RebuildRefusedError(RuntimeError):
    """There is nothing to change over from, or to; the message says why."""


@dataclass(slots=True)
class _Cut:
    """What the old definition has done, read before the log's ends: so all that it speaks of is in the log."""

    cards: list[int]
    labels: list[int]
    terminals: list[int]
    unscored: list[
        dict[Origin, float]
    ]  # of each partition of `features`: the lowest origins that may not be scored yet
    first_behind: dict[Origin, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was folded, of it records of the lake, in how many seconds, and how many transactions are behind the live edge."""

    transactions: int
    rows_of_terminals: int
    records_of_lake: int
    seconds: float
    behind: int


class Rebuild:
    """Folds the past into the state of this program's definition. `lake`: where to look before Kafka."""

    def __init__(self, settings: FeatureSettings, lake: Lake | None, say: Say) -> None:
        self._settings = settings
        self._partitions = range(settings.partitions)
        self._lake = lake
        self._say = say
        self._said_s = 0.0
        self._taken = {"card": 0, "terminal": 0}
        self._new = StateStore(settings.redis_url, FEATURE_HASH)
        self.switch = FeatureSwitch(self._new)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
        self._admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)

    async def start(self) -> None:
        """Connect. Raises RebuildRefusedError when there is no other definition to change over from."""
        await self._new.start()
        await self._consumer.start()
        await self._admin.start()
        definitions = await self.switch.read()
        if definitions.active is None:
            raise RebuildRefusedError("no features are active yet: a worker that starts begins with the oldest record")
        if definitions.active == FEATURE_HASH:
            raise RebuildRefusedError(
                f"features {FEATURE_HASH} of this release are active: there is nothing to rebuild"
            )
        if FEATURE_HASH in definitions.retired:
            await self.switch.drop(FEATURE_HASH)  # it went on without us: begin anew
        self.old_hash = definitions.active
        self._old = StateStore(self._settings.redis_url, self.old_hash)
        self._history = History(self._consumer, self._lake, self.old_hash)
        cached, partitions = self._settings.entities_cached_max, self._settings.partitions
        self._cards = [
            CardStage(p, partitions, await self._new.read("card", p), cached, history=True) for p in self._partitions
        ]
        self._terminals = [
            TerminalStage(p, await self._new.read("terminal", p), cached, history=True) for p in self._partitions
        ]

    async def stop(self) -> None:
        """Close the connections."""
        await self._consumer.stop()
        await self._admin.close()
        await self._new.stop()
        if hasattr(self, "_old"):
            await self._old.stop()

    async def reach_the_edge(self) -> Rebuilt:
        """Fold until fewer than EDGE_RECORDS stand between this state and the old one's."""
        began_s, behind = time.monotonic(), 0
        for _ in range(ROUNDS_MAX):
            await self._round()
            behind = await self._behind()
            if behind < EDGE_RECORDS:
                break
        taken, seconds = self._taken, time.monotonic() - began_s
        return Rebuilt(taken["card"], taken["terminal"], self._history.records_of_lake, seconds, behind)

    async def take_over(self) -> int:
        """Fence the old definition, fold the rest, become active, drop the old state; returns the keys that were dropped."""
        await self.switch.fence(self.old_hash, self._settings.partitions)
        await self._round()
        await self.switch.activate(FEATURE_HASH, instead_of=self.old_hash)
        return await self.switch.drop(self.old_hash)

    async def _round(self) -> None:
        cut = await self._read_cut()
        for p in self._partitions:
            await self._fold_terminals(p, cut)
        for p in self._partitions:
            await self._fold_cards(p, _target(cut, topics.TRANSACTIONS.name, p, cut.cards[p]))
            await self._move_labels(p, _target(cut, topics.LABELS.name, p, cut.labels[p]))

    async def _read_cut(self) -> _Cut:
        committed = {
            (tp.topic, tp.partition): at.offset
            for tp, at in (await self._admin.list_consumer_group_offsets(self._settings.scorer_group)).items()
        }
        positions: dict[Stage, list[int]] = {}
        for stage in STAGES:
            states = [await self._old.read(stage, p) for p in self._partitions]
            positions[stage] = [state.next or 0 for state in states]
        unscored = [
            await self._unscored(p, max(0, committed.get((topics.FEATURES.name, p), 0))) for p in self._partitions
        ]
        return _Cut(positions["card"], positions["labels"], positions["terminal"], unscored)

    async def _unscored(self, partition: int, scored_to: int) -> dict[Origin, float]:
        source = TopicPartition(topics.FEATURES.name, partition)
        begin = (await self._consumer.beginning_offsets([source]))[source]
        end = await self._end(topics.FEATURES.name, partition)
        lowest: dict[Origin, float] = {}
        plain = History(self._consumer, None, self.old_hash)
        async for records in plain.read(topics.FEATURES.name, partition, max(begin, scored_to), end):
            for record in records:
                _lower(lowest, unpack(record.value, (packed.VECTORS,)))
        return lowest

    async def _end(self, topic: str, partition: int) -> int:
        source = TopicPartition(topic, partition)
        end: int = (await self._consumer.end_offsets([source]))[source]
        return end

    async def _fold_terminals(self, p: int, cut: _Cut) -> None:
        """Fold the terminal's log up to the cut, and note the first origins of what stands behind it."""
        stage, name = self._terminals[p], topics.TERMINAL_LOG.name
        end = await self._end(name, p)
        behind: OriginMarks | None = None
        async for records in self._history.read(name, p, stage.state.next or 0, end):
            rest: Sequence[Any] = records
            if behind is None:
                count = _before_cut(records, cut.terminals[p], cut.unscored[p])
                if count:
                    await self._take("terminal", p, stage, records[:count])
                if count == len(records):
                    continue
                rest, behind = records[count:], OriginMarks(stage.state.marks)
            for record in rest:
                if (batch := _batch(record)) is not None:
                    _lower(cut.first_behind, behind.fresh(batch))

    async def _fold_cards(self, p: int, target: int) -> None:
        stage = self._cards[p]
        async for records in self._history.read(topics.TRANSACTIONS.name, p, stage.state.next or 0, target):
            await self._take("card", p, stage, records)

    async def _move_labels(self, p: int, target: int) -> None:
        stored, old = await self._new.read("labels", p), await self._old.read("labels", p)
        if target > (stored.next or 0):
            effect = Effect(stored.next, target, old.event_time_ms, {}, {"forwarded": target - (stored.next or 0)}, ())
            await self._new.apply("labels", p, effect)

    async def _take(self, name: Stage, p: int, stage: Any, records: Sequence[Any]) -> None:
        """One batch, as a worker takes it, but nothing is written to Kafka."""
        decoded = stage.decode(records)
        if missing := stage.missing(decoded):
            logs = await self._new.load(name, p, missing, stage.state.next)
            stage.load(list(zip(missing, logs, strict=True)))
        step = stage.step(decoded)
        await self._new.apply(name, p, step.effect)
        stage.settle(step.effect)
        self._taken[name] += len(decoded)
        if time.monotonic() - self._said_s > 1:
            self._said_s = time.monotonic()
            self._say(f"{self._taken['terminal']:,} rows of terminals, {self._taken['card']:,} transactions folded")

    async def _behind(self) -> int:
        old = [(await self._old.read("card", p)).next or 0 for p in self._partitions]
        return sum(old) - sum(stage.state.next or 0 for stage in self._cards)


def _target(cut: _Cut, topic: str, partition: int, done: int) -> int:
    return int(min(done, cut.first_behind.get((topic, partition), math.inf)))


def _before_cut(records: Sequence[Any], done: int, unscored: Mapping[Origin, float]) -> int:
    """How many of consecutive records the old definition has done and had scored."""
    for count, record in enumerate(records):
        if record.offset >= done:
            return count
        batch = _batch(record) if unscored else None
        if batch is not None:
            partitions, offsets = batch.array("origin_partition"), batch.array("origin_offset")
            lowest = [unscored.get((batch.origin_topic, partition), math.inf) for partition in partitions.tolist()]
            if np.any(offsets >= np.array(lowest)):
                return count
    return len(records)


def _lower(lowest: dict[Origin, float], batch: packed.Batch) -> None:
    """Take the batch's origins into the lowest of each origin partition."""
    partitions, offsets = batch.array("origin_partition"), batch.array("origin_offset")
    for partition in np.unique(partitions).tolist():
        origin = (batch.origin_topic, partition)
        lowest[origin] = min(lowest.get(origin, math.inf), int(offsets[partitions == partition].min()))


def _batch(record: Any) -> packed.Batch | None:
    try:
        return unpack(record.value, (packed.CARD_VECTORS, packed.LABELS))
    except BadMessageError:
        return None
