"""The cut between two feature definitions, simulated: real stages and a real Redis, Kafka in memory, stopped at drawn moments.

Rule 1. The old worker is stopped anywhere: between stages, half-way through a write, written but not applied, with a scorer behind.
Rule 2. After the change every accepted transaction is scored once, and the next definition's vectors are those of its own fold.
Rule 3. A cut that is wrong on purpose must be found out.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import redis
from aiokafka import TopicPartition

from adapters.kafka import partition_for
from adapters.state_store import StageState, StateMovedError, StateStore
from fraud import packed
from fraud.features import FEATURE_HASH
from fraud.packed import OriginMarks, unpack
from stream_features import rebuild as rebuild_module
from stream_features import stage as stage_module
from stream_features import terminal_stage
from stream_features.card_stage import CardStage
from stream_features.label_forwarder import LabelForwarder
from stream_features.rebuild import Rebuild
from stream_features.settings import FeatureSettings
from stream_features.terminal_stage import TerminalStage
from tests.integration.faults import checker
from tests.integration.faults.logs import LogRecord, first_copies, rows_of
from tests.integration.faults.seeded_log import Shape, seeded_log

OLD_HASH = "old000000000"
P = 2
LOG = seeded_log(9, Shape(transactions=700, cards=60, terminals=40))
STEPS = 60
TOPIC = {"card": "transactions", "labels": "labels", "terminal": "terminal-log"}


class Logs:
    """Kafka in memory, as the rebuild asks it."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[LogRecord]] = defaultdict(list)
        self._at: dict[TopicPartition, int] = {}

    def append(self, topic: str, p: int, key: bytes | None, value: bytes | None) -> None:
        records = self.records[topic, p]
        records.append(LogRecord(topic, p, len(records), 5, key, value, {}))

    def assign(self, sources: list[TopicPartition]) -> None:
        self._at = dict.fromkeys(sources, 0)

    def seek(self, source: TopicPartition, offset: int) -> None:
        self._at[source] = offset

    async def getmany(self, source: TopicPartition, timeout_ms: int, max_records: int) -> Mapping[Any, Any]:
        at = self._at[source]
        found = self.records[source.topic, source.partition][at : at + 7]
        self._at[source] = at + len(found)
        return {source: found} if found else {}

    async def beginning_offsets(self, sources: list[TopicPartition]) -> Mapping[Any, int]:
        return dict.fromkeys(sources, 0)

    async def end_offsets(self, sources: list[TopicPartition]) -> Mapping[Any, int]:
        return {s: len(self.records[s.topic, s.partition]) for s in sources}


@dataclass
class Release:
    """The stages of one release, driven by hand."""

    store: StateStore
    logs: Logs
    stages: dict[tuple[str, int], Any]

    async def take(self, name: Any, p: int, count: int, written: int | None = None) -> None:
        """One batch; `written`: only so many of its writes are done, and then the process is gone."""
        stage, records = self.stages[name, p], self.logs.records[TOPIC[name], p]
        first = stage.state.next or 0
        batch = records[first : first + count]
        if not batch:
            return
        decoded = stage.decode(batch)
        if missing := stage.missing(decoded):
            found = await self.store.load(name, p, missing, stage.state.next)
            stage.load(list(zip(missing, found, strict=True)))
        step = stage.step(decoded)
        for topic, target, rows in step.writes[:written]:
            for key, value, _ in rows:
                self.logs.append(topic, target, key, value)
        if written is None:
            await self.store.apply(name, p, step.effect)
            stage.settle(step.effect)


async def release(url: str, feature_hash: str, logs: Logs, retired: frozenset[str] = frozenset()) -> Release:
    store = StateStore(url, feature_hash)
    await store.start()
    stages: dict[tuple[str, int], Any] = {}
    for p in range(P):
        states = {name: await store.read(name, p) for name in ("card", "labels", "terminal")}  # type: ignore[arg-type]  # the names are stages
        stages["card", p] = CardStage(p, P, states["card"], 10)
        stages["labels", p] = LabelForwarder(p, P, states["labels"])
        stages["terminal", p] = TerminalStage(p, states["terminal"], 10, retired=retired)
    return Release(store, logs, stages)


class Scorer:
    """Scores what it reads of `features`: rows that it has not seen, unless their definition is retired."""

    def __init__(self, logs: Logs) -> None:
        self.logs, self.committed = logs, [0] * P
        self.scored: Counter[Any] = Counter()
        self._marks = [OriginMarks() for _ in range(P)]

    def score(self, p: int, count: int, only: str) -> None:
        for record in self.logs.records["features", p][self.committed[p] :][:count]:
            batch = unpack(record.value, (packed.VECTORS,))
            self.committed[p] += 1
            if batch.meta["feature_hash"] == only:
                fresh = self._marks[p].fresh(batch)
                places = zip(
                    fresh.array("origin_partition").tolist(), fresh.array("origin_offset").tolist(), strict=True
                )
                self.scored.update(("transactions", *place) for place in places)


@pytest.fixture
def empty_redis(redis_url: str) -> Iterator[str]:
    """Another database of the session's Redis."""
    url = redis_url.rsplit("/", 1)[0] + "/9"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


def as_hash(monkeypatch: pytest.MonkeyPatch, feature_hash: str) -> None:
    """From here on the stages are of the release with that hash."""
    for module in (stage_module, terminal_stage):
        monkeypatch.setattr(module, "FEATURE_HASH", feature_hash)


def wired(url: str, logs: Logs, scorer: Scorer) -> Rebuild:
    """A rebuild that asks the logs in memory."""

    async def nothing() -> None:
        return None

    async def committed(group: str) -> Mapping[Any, Any]:
        return {TopicPartition("features", p): SimpleNamespace(offset=scorer.committed[p]) for p in range(P)}

    class Plain(SimpleNamespace):
        start = stop = close = staticmethod(nothing)

    work = Rebuild.__new__(Rebuild)
    settings = FeatureSettings(redis_url=url, partitions=P, entities_cached_max=10)
    original = (rebuild_module.AIOKafkaConsumer, rebuild_module.AIOKafkaAdminClient)
    rebuild_module.AIOKafkaConsumer = lambda **_: _Consumer(logs)  # type: ignore[misc,assignment]  # put back below
    rebuild_module.AIOKafkaAdminClient = lambda **_: Plain(list_consumer_group_offsets=committed)  # type: ignore[misc,assignment]  # put back below
    try:
        work.__init__(settings, None, lambda line: None)  # type: ignore[misc]  # built under the fakes
    finally:
        rebuild_module.AIOKafkaConsumer, rebuild_module.AIOKafkaAdminClient = original  # type: ignore[misc]  # put back
    return work


class _Consumer:
    """The logs, with the start and stop of a client."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logs, name)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


async def change(url: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Logs, Scorer, list[int]]:
    """The old release to a drawn moment, the change beside it, the next release to the end; and the cuts of terminal-log."""
    rng = np.random.default_rng(seed)
    logs = Logs()
    scorer = Scorer(logs)
    for sent in LOG:
        logs.append(sent.topic, partition_for((sent.key or b"").decode(), P), sent.key, sent.value)
    as_hash(monkeypatch, OLD_HASH)
    old = await release(url, OLD_HASH, logs)
    work = wired(url, logs, scorer)
    await work.switch.claim(OLD_HASH)
    prepared_at = int(rng.integers(STEPS // 3, STEPS))
    for i in range(STEPS):
        name = ("card", "labels", "terminal", "terminal", "score")[int(rng.integers(5))]
        p, count = int(rng.integers(P)), int(rng.integers(1, 40))
        if name == "score":
            scorer.score(p, count, OLD_HASH)
        else:
            await old.take(name, p, count)
        if i == prepared_at:
            as_hash(monkeypatch, FEATURE_HASH)
            await work.start()
            await work.reach_the_edge()
            as_hash(monkeypatch, OLD_HASH)
    for name in ("card", "labels", "terminal"):  # the batch under way when it ends: written, or half of it
        await old.take(name, int(rng.integers(P)), 20, written=int(rng.integers(3)))
    as_hash(monkeypatch, FEATURE_HASH)
    await work.take_over()
    new = await release(url, FEATURE_HASH, logs, frozenset({OLD_HASH}))
    cuts = [new.stages["terminal", p].state.next or 0 for p in range(P)]
    await _run_to_the_end(new, scorer)
    await work.stop()
    for one in (old, new):
        await one.store.stop()
    return logs, scorer, cuts


async def _run_to_the_end(new: Release, scorer: Scorer) -> None:
    for name in ("card", "labels", "terminal"):
        for p in range(P):
            while (new.stages[name, p].state.next or 0) < len(new.logs.records[TOPIC[name], p]):
                await new.take(name, p, 50)
    for p in range(P):
        scorer.score(p, 1_000_000, FEATURE_HASH)


def wrong_in(logs: Logs, scorer: Scorer, cuts: list[int]) -> list[str]:
    """What is not as it should be: transactions not scored once, vectors that are not those of the definition."""
    cards = [checker.expected_cards(logs.records["transactions", p]) for p in range(P)]
    vectors = {origin: row["vector"] for one in cards for origin, row in one.rows.items()}
    wrong: list[str] = []
    labels = [checker.expected_labels(logs.records["labels", p]) for p in range(P)]
    due = {origin for one in cards + labels for origin in one.rows}
    expected_scored = set()
    for p in range(P):
        records = logs.records["terminal-log", p]
        order = records[: cuts[p]] + _of(records[cuts[p] :], FEATURE_HASH)
        log, _ = first_copies(rows_of(order, (packed.CARD_VECTORS, packed.LABELS)), "terminal-log")
        expected = checker.expected_terminals(
            {o: r | ({"vector": vectors[o]} if o in vectors else {}) for o, r in log.items()}
        )
        due -= log.keys()
        served, more = first_copies(
            rows_of(_of(logs.records["features", p], FEATURE_HASH), (packed.VECTORS,)), "features"
        )
        wrong += more + checker._compare_rows(
            served, {o: r for o, r in expected.rows.items() if o in served}, "features"
        )
        expected_scored |= expected.rows.keys()
    wrong += [f"never folded: {origin}" for origin in due]
    wrong += [f"not scored: {origin}" for origin in expected_scored - scorer.scored.keys()]
    wrong += [f"nobody's: {origin}" for origin in scorer.scored.keys() - expected_scored]
    return wrong + [f"scored {times} times: {origin}" for origin, times in scorer.scored.items() if times > 1]


def _of(records: list[LogRecord], feature_hash: str) -> list[LogRecord]:
    kinds = (packed.CARD_VECTORS, packed.LABELS, packed.VECTORS)
    return [record for record in records if unpack(record.value, kinds).meta["feature_hash"] == feature_hash]


@pytest.mark.parametrize("seed", range(8))
def test_wherever_the_old_worker_ends_each_transaction_is_scored_once(
    empty_redis: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, scorer, cuts = asyncio.run(change(empty_redis, seed, monkeypatch))
    found = wrong_in(logs, scorer, cuts)
    assert not found, checker.summary(found)
    served = [
        unpack(r.value, (packed.VECTORS,)).meta["feature_hash"] for p in range(P) for r in logs.records["features", p]
    ]
    assert {OLD_HASH, FEATURE_HASH} == set(served)
    with redis.Redis.from_url(empty_redis) as client:
        assert not list(client.scan_iter(f"*{OLD_HASH}*"))


def test_a_cut_that_forgets_what_is_not_scored_yet_is_found_out(
    empty_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(self: Rebuild, partition: int, scored_to: int) -> dict[Any, float]:
        return {}

    monkeypatch.setattr(Rebuild, "_unscored", none)
    found = wrong_in(*asyncio.run(change(empty_redis, 1, monkeypatch)))
    assert any("not scored" in one for one in found)


def test_a_cut_that_forgets_what_stands_behind_it_is_found_out(
    empty_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_module, "_target", lambda cut, topic, partition, done: done)
    found = wrong_in(*asyncio.run(change(empty_redis, 1, monkeypatch)))
    assert any("never folded" in one for one in found)


def test_a_fenced_state_keeps_its_watermark_and_takes_nothing_more(empty_redis: str) -> None:
    async def fenced() -> tuple[StageState, StageState]:
        store = StateStore(empty_redis, OLD_HASH)
        await store.start()
        switch = rebuild_module.FeatureSwitch(store)
        effect = rebuild_module.Effect(None, 7, 9, {}, {}, ())
        await store.apply("card", 0, effect)
        await switch.fence(OLD_HASH, 2)
        await switch.fence(OLD_HASH, 2)
        for partition, first in ((0, 7), (0, None), (1, None)):
            with pytest.raises(StateMovedError):
                await store.apply("card", partition, rebuild_module.Effect(first, 8, 9, {}, {}, ()))
        states = await store.read("card", 0), await store.read("card", 1)
        await store.stop()
        return states

    first, second = asyncio.run(fenced())
    assert (first.next, second.next) == (7, 0)
