"""The scorer's lanes and loop without Kafka: what is taken, what is written, in which order.

Rule 1. The consumer and the writer are stand-ins that record what happens; everything else is the real code.
Rule 2. Crashes are simulated by throwing the loop away at a chosen write and starting another from the written marks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaTimeoutError
from prometheus_client import CollectorRegistry, Histogram

from adapters.kafka import AsyncWriter, Record
from adapters.model_store import Aliases, ModelStore
from adapters.telemetry import observe_many
from fraud import rules
from fraud.alert import Alert, parse_alert
from fraud.decision import APPROVE, DECISIONS
from fraud.features import FEATURE_HASH, NAMES
from fraud.flood import DeadLetterFloodError
from fraud.packed import ROWS_MAX, SCORES, VECTORS, Batch, OriginMarks, unpack
from scorer import marks
from scorer.judge import alerts_of, concatenated, judge
from scorer.kafka_away import KafkaAwayError
from scorer.lane import FeatureHashMismatchError, Lane
from scorer.loop import LOOK_SECONDS, ConsumerStuckError, Limits, ScoringLoop
from scorer.membership import NameTakenError
from scorer.slot import CHALLENGER, ModelSlot
from scorer.writer import ScoreWriter
from tests.scoring.packed_vectors import packed_rows
from tests.scoring.published_models import point_to, publish

FEATURES = "features"
DAY_MS = 86_400_000
LIMITS = Limits(60.0, 0.5, 1000, 0.0)


class SimulatedCrash(Exception):
    """The process dies here."""


@dataclass(frozen=True)
class Polled:
    """A consumer record, as far as the scorer looks at it."""

    value: bytes | None
    offset: int
    partition: int = 0
    topic: str = FEATURES
    key: bytes | None = None


@dataclass
class Log:
    """A writer that keeps what is written, and dies at write number `crash_at`."""

    crash_at: int | None = None
    writes: list[str] = field(default_factory=list)
    alerts_written: list[Alert] = field(default_factory=list)
    scores: list[tuple[int, bytes]] = field(default_factory=list)
    dead: list[Record] = field(default_factory=list)

    def _count(self, what: str) -> None:
        if self.crash_at is not None and len(self.writes) >= self.crash_at:
            raise SimulatedCrash
        self.writes.append(what)

    async def alerts(self, alerts: Sequence[Alert]) -> None:
        if alerts:
            self._count("alerts")
            self.alerts_written += alerts

    async def records(self, topic: str, records: Iterable[tuple[int, Record]]) -> None:
        for partition, record in records:
            self._count(topic)
            if topic == "scores":
                self.scores.append((partition, record[1]))
            else:
                self.dead.append(record)

    async def marks(self, partitions: Iterable[int]) -> dict[int, OriginMarks]:
        return {
            wanted: marks.merged(unpack(raw, (SCORES,)).meta for p, raw in self.scores if p == wanted)
            for wanted in partitions
        }

    def scored(self) -> list[Batch]:
        return [unpack(raw, (SCORES,)) for _, raw in self.scores]


def take(loop: ScoringLoop, polled: Mapping[TopicPartition, Sequence[Polled]]) -> None:
    asyncio.run(loop.take(polled))


def loop_on(log: Log, folder: Path, limits: Limits = LIMITS) -> ScoringLoop:
    return ScoringLoop(None, log, ModelSlot(folder), log.marks, limits, now_ms=lambda: 1_790_000_000_500)


def polled(*values: bytes | None, partition: int = 0, first: int = 0) -> dict[TopicPartition, list[Polled]]:
    records = [Polled(value, first + i, partition) for i, value in enumerate(values)]
    return {TopicPartition(FEATURES, partition): records}


def origins(batches: Iterable[Batch]) -> list[tuple[int, int]]:
    return [
        pair
        for batch in batches
        for pair in zip(batch.array("origin_partition").tolist(), batch.array("origin_offset").tolist(), strict=True)
    ]


def test_every_row_gets_one_score_in_its_partition_and_every_alert_its_row(tmp_path: Path) -> None:
    log = Log()
    one = polled(packed_rows(range(30)), packed_rows(range(30, 40), 1))
    two = polled(packed_rows(range(40, 45)), partition=3)
    take(loop_on(log, tmp_path), {**one, **two})
    expected = [(0, o) for o in range(30)] + [(1, o) for o in range(30, 40)] + [(0, o) for o in range(40, 45)]
    assert origins(log.scored()) == expected
    assert [partition for partition, _ in log.scores] == [0, 3]
    alerted = {a.alert_id for a in log.alerts_written}
    assert alerted == {f"{p}-{o}" for p, o in expected if o % 3 == 0}
    assert log.writes == ["alerts", "scores", "scores"]


def test_scores_say_what_decided_and_alerts_carry_the_codes_of_the_rules(tmp_path: Path) -> None:
    log = Log()
    take(loop_on(log, tmp_path), polled(packed_rows([0, 1])))
    (batch,) = log.scored()
    assert batch.meta == {
        "feature_hash": FEATURE_HASH,
        "model_version": "rules",
        "challenger_version": None,
        "stage_at_ms": 1_790_000_000_500,
        "threshold": rules.REVIEW_THRESHOLD,
        "marks": {"0": 1},
        "batch_version": None,
        "snapshot_date": None,
    }
    assert [DECISIONS[d] for d in batch.array("decision")] == ["review", "approve"]
    assert batch.array("score").tolist() == batch.array("rules_score").tolist() == [0.5, 0.0]
    (alert,) = log.alerts_written
    assert alert.reason_codes == ("RULE_CARD_VELOCITY_1H",)
    assert parse_alert(alert.to_json()) == alert


def test_a_large_poll_is_written_in_records_of_bounded_rows_each_with_its_own_marks(tmp_path: Path) -> None:
    log = Log()
    values = [packed_rows(range(first, first + ROWS_MAX)) for first in range(0, 3 * ROWS_MAX, ROWS_MAX)]
    take(loop_on(log, tmp_path), polled(packed_rows(range(5), 1), *values))
    assert [batch.rows for batch in log.scored()] == [ROWS_MAX, ROWS_MAX, ROWS_MAX, 5]
    assert [batch.meta["marks"] for batch in log.scored()] == [
        {"0": ROWS_MAX - 6, "1": 4},
        {"0": 2 * ROWS_MAX - 6, "1": 4},
        {"0": 3 * ROWS_MAX - 6, "1": 4},
        {"0": 3 * ROWS_MAX - 1, "1": 4},
    ]


@pytest.mark.parametrize("crash_at", range(7))
def test_after_a_crash_at_any_write_nothing_is_missing_and_no_score_stands_twice(tmp_path: Path, crash_at: int) -> None:
    first = {
        **polled(packed_rows(range(700)), packed_rows(range(9), 1)),
        **polled(packed_rows(range(700, 720)), partition=1),
    }
    second = polled(packed_rows(range(720, 760)), first=2)
    log = Log(crash_at=crash_at)
    loop = loop_on(log, tmp_path)
    crashed = False
    try:
        take(loop, first)
        take(loop, second)
    except SimulatedCrash:
        crashed = True
    assert crashed == (crash_at < 6)
    log.crash_at = None
    again = loop_on(log, tmp_path)  # nothing was committed: both polls come again
    take(again, first)
    take(again, second)
    everything = [(0, o) for o in range(760)] + [(1, o) for o in range(9)]
    assert sorted(origins(log.scored())) == sorted(everything)
    decided = {
        (p, o)
        for batch in log.scored()
        for (p, o), d in zip(origins([batch]), batch.array("decision").tolist(), strict=True)
        if d != APPROVE
    }
    assert {(a.origin_partition, a.origin_offset) for a in log.alerts_written} == decided


def test_rows_that_come_again_are_dropped_also_within_one_poll(tmp_path: Path) -> None:
    log = Log()
    loop = loop_on(log, tmp_path)
    take(loop, polled(packed_rows([1, 2, 3]), packed_rows([2, 3, 4]), packed_rows([2, 5], 1)))
    take(loop, polled(packed_rows([4]), packed_rows([5], 1), first=3))
    assert origins(log.scored()) == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 5)]


def test_a_bad_record_goes_to_the_dead_letters_with_its_bytes_and_reason_and_its_neighbours_are_scored(
    tmp_path: Path,
) -> None:
    log = Log()
    good = packed_rows([1])
    bad = [
        None,
        b"",
        b"not packed",
        good[:40],
        packed_rows([1], width=len(NAMES) - 1),
        packed_rows([1], meta={}),
        packed_rows([1], meta={"feature_hash": None}),
        good.replace(b'"<f4"', b'"<i4"'),
    ]
    take(loop_on(log, tmp_path), polled(packed_rows([1, 2]), *bad, packed_rows([3])))
    assert origins(log.scored()) == [(0, 1), (0, 2), (0, 3)]
    assert [value for _, value, _ in log.dead] == [raw or b"" for raw in bad]
    assert [dict(headers)["reason"] for _, _, headers in log.dead] == [b"PACKED_INVALID"] * len(bad)
    assert [dict(headers)["offset"] for _, _, headers in log.dead] == [str(i).encode() for i in range(1, 9)]


def test_a_flood_of_bad_records_stops_the_scorer_before_it_eats_the_stream(tmp_path: Path) -> None:
    log = Log()
    loop = loop_on(log, tmp_path, Limits(60.0, 0.5, 100, 0.0))
    take(loop, polled(*[b"bad"] * 40, *[packed_rows([i]) for i in range(40)]))
    with pytest.raises(DeadLetterFloodError, match="features"):
        take(loop, polled(*[b"bad"] * 40))
    assert len(log.dead) == 40


def test_vectors_of_other_features_stop_the_scorer_and_both_hashes_are_named(tmp_path: Path) -> None:
    log = Log()
    with pytest.raises(FeatureHashMismatchError, match=rf"aaaaaaaaaaaa.*{FEATURE_HASH}"):
        take(loop_on(log, tmp_path), polled(packed_rows([1], meta={"feature_hash": "aaaaaaaaaaaa"})))
    assert log.writes == []


def test_one_call_over_many_records_scores_as_one_call_per_record() -> None:
    batches = [unpack(packed_rows(range(first, first + 10)), (VECTORS,)) for first in (0, 10, 20)]
    together = judge(concatenated(batches), None, 0.0)
    alone = [judge(batch, None, 0.0) for batch in batches]
    assert together.score.tobytes() == b"".join(v.score.tobytes() for v in alone)
    whole = alerts_of(concatenated(batches), together, None, 1)
    assert whole == [a for batch, v in zip(batches, alone, strict=True) for a in alerts_of(batch, v, None, 1)]


def test_of_several_records_the_larger_mark_counts() -> None:
    #  a scorer that slept through a rebalance writes its old marks last
    tail = [{"marks": {"0": 10, "1": 3}}, {"marks": {"0": 20, "1": 5}}, {"marks": {"0": 15}}, {}]
    assert marks.to_meta(marks.merged(tail)) == {"0": 20, "1": 5}


def test_a_lane_that_begins_with_marks_takes_only_what_is_above_them() -> None:
    lane = Lane(0, OriginMarks({("transactions", 0): 4}))
    taken = lane.take([Polled(packed_rows([3, 4, 5, 6]), 0)])
    assert origins(taken.fresh) == [(0, 5), (0, 6)]
    assert taken.repeated_rows == 2


def test_vectors_of_retired_features_are_skipped_and_those_of_any_others_refused_with_both_named() -> None:
    old, other = (Polled(packed_rows([1], meta={"feature_hash": told}), 0) for told in ("retired00000", "other0000000"))
    lane = Lane(0, OriginMarks(), lambda feature_hash: feature_hash == "retired00000")
    taken = lane.take([old, Polled(packed_rows([1, 2]), 1)])
    assert origins(taken.fresh) == [(0, 1), (0, 2)]  # what was skipped left no mark: it comes again
    with pytest.raises(FeatureHashMismatchError, match=f"other0000000.*{FEATURE_HASH}"):
        lane.take([other])


def test_observing_in_bulk_equals_observing_one_by_one() -> None:
    values = np.array([0, 0.001, 0.0010001, 0.5, 0.5, 7, -1, 1e9])
    registry = CollectorRegistry()
    bulk = Histogram("bulk_seconds", "bulk", buckets=(0.001, 0.5, 10), registry=registry)
    single = Histogram("single_seconds", "single", buckets=(0.001, 0.5, 10), registry=registry)
    observe_many(bulk, values)
    observe_many(bulk, [])
    for value in values:
        single.observe(value)
    samples = {
        name: [
            (s.labels, s.value)
            for m in registry.collect()
            if m.name == name
            for s in m.samples
            if "created" not in s.name
        ]
        for name in ("bulk_seconds", "single_seconds")
    }
    assert samples["bulk_seconds"] == samples["single_seconds"]


def with_shadow(log: Log, folder: Path) -> tuple[ScoringLoop, ModelSlot]:
    shadow = ModelSlot(folder, lambda _: None, role=CHALLENGER)
    shadow.settle(60)
    champion = ModelSlot(folder, lambda _: None)
    champion.settle(60)
    return ScoringLoop(None, log, champion, log.marks, LIMITS, now_ms=lambda: 1_790_000_000_500, shadow=shadow), shadow


def test_a_challenger_scores_every_row_in_the_same_pass_and_decides_nothing(tmp_path: Path) -> None:
    champion, challenger = publish(tmp_path, 3), publish(tmp_path, 30)
    point_to(tmp_path, champion)
    alone, both = Log(), Log()
    take(with_shadow(alone, tmp_path)[0], polled(packed_rows(range(30))))
    ModelStore(tmp_path).shadow(challenger)
    loop, shadow = with_shadow(both, tmp_path)
    take(loop, polled(packed_rows(range(30))))
    (without,), (with_it,) = alone.scored(), both.scored()
    assert without.meta["challenger_version"] is None
    assert np.isnan(without.array("challenger_score")).all()
    assert (with_it.meta["model_version"], with_it.meta["challenger_version"]) == (champion, challenger)
    assert shadow.model is not None
    expected = shadow.model.score(unpack(packed_rows(range(30)), (VECTORS,)).array("vector"))
    assert with_it.array("challenger_score").tobytes() == expected.tobytes()
    assert not np.array_equal(expected, with_it.array("score"))
    for name in ("score", "decision", "explored"):
        assert with_it.array(name).tobytes() == without.array(name).tobytes(), name
    assert [a.to_json() for a in both.alerts_written] == [a.to_json() for a in alone.alerts_written]


def test_models_come_and_go_between_batches_and_every_row_is_scored_once_by_the_version_it_names(
    tmp_path: Path,
) -> None:
    versions = [publish(tmp_path, rounds) for rounds in (3, 4, 5)]
    store, log = ModelStore(tmp_path), Log()
    now = [0.0]
    champion = ModelSlot(tmp_path, lambda _: None, lambda: now[0])
    shadow = ModelSlot(tmp_path, lambda _: None, lambda: now[0], CHALLENGER)
    loop = ScoringLoop(None, log, champion, log.marks, LIMITS, now_ms=lambda: 0, shadow=shadow)
    roles = [(None, None), (0, 1), (1, None), (1, 2), (2, None)]
    for step, (deciding, beside) in enumerate(roles):
        new = Aliases(*(None if v is None else versions[v] for v in (deciding, beside)))
        store.set_aliases(store.aliases(), new)
        now[0] += 100
        for slot in (champion, shadow):
            slot.settle(60)
        take(loop, polled(packed_rows(range(10 * step, 10 * step + 10)), first=step))
    assert origins(log.scored()) == [(0, offset) for offset in range(50)]
    named = [(b.meta["model_version"], b.meta["challenger_version"]) for b in log.scored()]
    assert named == [
        ("rules" if deciding is None else versions[deciding], None if beside is None else versions[beside])
        for deciding, beside in roles
    ]
    assert [bool(np.isnan(b.array("challenger_score")).all()) for b in log.scored()] == [True, False, True, False, True]


class Silent:
    """A consumer of one partition whose polls take a second and return nothing, then what the test says.

    rebalance_at: the poll at which the group gives the partition anew; lost_at: at which it is taken and not given again.
    """

    def __init__(self, end: int | None, position: int, rebalance_at: int = 0, lost_at: int = 0) -> None:
        self.now_s = 0.0
        self.end, self.at = end, position
        self.answers: dict[int, dict[TopicPartition, list[Polled]]] = {}
        self.polls = 0
        self.rebalance_at, self.lost_at = rebalance_at, lost_at
        self.committed: list[dict[TopicPartition, int]] = []
        self.commit_fails = False
        self.rejoining: asyncio.Task[None] | None = None

    def subscribe(self, topics: Sequence[str], listener: ConsumerRebalanceListener) -> None:
        self.listener = listener

    async def topics(self) -> set[str]:
        return {FEATURES}

    async def _rejoin(self) -> None:
        await self.listener.on_partitions_revoked({TopicPartition(FEATURES, 0)})
        if self.polls != self.lost_at:
            await self.listener.on_partitions_assigned({TopicPartition(FEATURES, 0)})

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Polled]]:
        self.now_s += 1.0
        self.polls += 1
        if self.polls in (1, self.rebalance_at, self.lost_at):
            self.rejoining = asyncio.ensure_future(self._rejoin())  # beside the loop, as the client's own task does it
        await asyncio.sleep(0)
        return self.answers.get(self.polls, {})

    async def end_offsets(self, asked: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        if self.end is None:
            raise KafkaTimeoutError
        return dict.fromkeys(asked, self.end)

    async def position(self, _: TopicPartition) -> int:
        return self.at

    def highwater(self, _: TopicPartition) -> int:
        return self.end or 0

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        if self.commit_fails:
            raise CommitFailedError
        self.committed.append(offsets)


class StopAfter:
    """An event that is set after that many looks."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


async def _nobody() -> bool:
    return False


async def _somebody() -> bool:
    return True


def run_on(
    consumer: Silent,
    folder: Path,
    polls: int,
    log: Log | None = None,
    name_is_taken: Callable[[], Awaitable[bool]] = _nobody,
) -> ScoringLoop:
    log = log or Log()
    loop = ScoringLoop(
        consumer,
        log,
        ModelSlot(folder),
        log.marks,
        LIMITS,
        now_ms=lambda: 0,
        clock=lambda: consumer.now_s,
        name_is_taken=name_is_taken,
    )
    asyncio.run(loop.run(StopAfter(polls)))  # type: ignore[arg-type]  # as much of an event as the loop asks for
    return loop


def test_a_consumer_that_gets_nothing_of_what_is_there_ends_the_scorer(tmp_path: Path) -> None:
    consumer = Silent(end=7, position=4)
    with pytest.raises(ConsumerStuckError, match="3 records"):
        run_on(consumer, tmp_path, 100)
    assert consumer.now_s >= 2 * LOOK_SECONDS


def test_an_idle_stream_and_records_that_came_just_now_are_no_stuck_consumer(tmp_path: Path) -> None:
    run_on(Silent(end=4, position=4), tmp_path, 100)
    consumer = Silent(end=5, position=4)
    consumer.answers = {
        5: polled(packed_rows(range(5)), first=4)
    }  # after it was first seen to be there, before the next look
    run_on(consumer, tmp_path, 100)


def test_a_broker_that_does_not_answer_is_waited_for_and_then_ends_the_scorer(tmp_path: Path) -> None:
    run_on(Silent(end=None, position=4), tmp_path, 50)
    with pytest.raises(KafkaAwayError):
        run_on(Silent(end=None, position=4), tmp_path, 100)


def test_during_a_rebalance_no_consumer_is_stuck_and_no_partition_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConsumerStuckError):  # the same without the rebalance
        run_on(Silent(end=7, position=4), tmp_path, 100)
    loop = run_on(Silent(end=7, position=4, lost_at=2), tmp_path, 100)
    assert "no partition" in (loop.health() or "")


def test_after_a_rebalance_the_marks_are_read_again_and_say_what_another_scorer_has_done(tmp_path: Path) -> None:
    for rebalance_at, twice in ((3, 0), (0, 5)):  # without the rebalance this scorer knows only its own rows
        consumer, log = Silent(end=20, position=0, rebalance_at=rebalance_at), Log()
        consumer.answers = {2: polled(packed_rows(range(5))), 5: polled(packed_rows(range(5, 15)), first=1)}
        other = Log()
        take(loop_on(other, tmp_path), polled(packed_rows(range(10))))
        log.records = partial(_then, log, other)  # type: ignore[method-assign]  # the other one writes meanwhile
        run_on(consumer, tmp_path, 6, log)
        rows = origins(log.scored())
        assert len(rows) - len(set(rows)) == 5 + twice, rebalance_at
        assert set(rows) == {(0, offset) for offset in range(15)}


async def _then(log: Log, other: Log, topic: str, records: Iterable[tuple[int, Record]]) -> None:
    """Write, and after the first time let the other scorer's rows stand there, too."""
    await Log.records(log, topic, records)
    if len(log.scores) == 1:
        log.scores += other.scores


def test_who_lost_its_name_to_another_scorer_ends_and_does_not_join_again(tmp_path: Path) -> None:
    run_on(
        Silent(end=4, position=4), tmp_path, 50, name_is_taken=_somebody
    )  # the first join finds what a dead one left
    consumer = Silent(end=4, position=4, rebalance_at=7)
    with pytest.raises(NameTakenError):
        run_on(consumer, tmp_path, 50, name_is_taken=_somebody)
    assert consumer.polls == 7
    assert consumer.rejoining is not None
    assert consumer.rejoining.cancelled(), "it joined again, and took the name back"


def test_offsets_are_committed_as_rows_are_done_and_a_commit_that_fails_ends_nothing(
    tmp_path: Path,
) -> None:
    consumer = Silent(end=9, position=4)
    consumer.answers = {2: polled(packed_rows(range(5)), first=4), 4: polled(packed_rows(range(5, 9)), first=5)}
    run_on(consumer, tmp_path, 5)
    assert [offsets[TopicPartition(FEATURES, 0)] for offsets in consumer.committed] == [5, 6]
    consumer = Silent(end=5, position=4)
    consumer.commit_fails = True
    consumer.answers = {2: polled(packed_rows(range(5)), first=4)}
    run_on(consumer, tmp_path, 11)
    assert consumer.polls == 10


def test_a_write_that_kafka_does_not_acknowledge_ends_at_the_deadline_and_one_that_it_does_keeps_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[tuple[str, int, list[bytes]]] = []

    async def write(_: AsyncWriter, topic: str, partition: int, records: Sequence[Record]) -> None:
        written.append((topic, partition, [value for _, value, _ in records]))
        if topic == "never":
            await asyncio.Event().wait()

    monkeypatch.setattr(AsyncWriter, "write", write)
    writer = ScoreWriter("nowhere:1", 1, 0.05)
    records: list[tuple[int, Record]] = [(0, (None, b"a", [])), (1, (None, b"b", [])), (0, (None, b"c", []))]
    asyncio.run(writer.records("scores", records))
    assert sorted(written) == [("scores", 0, [b"a", b"c"]), ("scores", 1, [b"b"])]
    with pytest.raises(KafkaAwayError):
        asyncio.run(writer.records("never", records))
