"""The card stage without a broker: hand-made records in, writes and one effect out.

Rule 1. The clock is a constant; equal records give equal bytes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adapters.kafka import partition_for
from adapters.state_store import StageState
from fraud import packed
from fraud.features import FEATURE_HASH
from fraud.transaction import Transaction, id_hash
from fraud.windows import DAY_MS, MINUTE_MS
from stream_features.card_stage import CardStage
from stream_features.stage import Step

T = 1_530_000_000_000


def record(
    offset: int, number: int, *, at_ms: int = T, card: str = "c1", terminal: str = "m1", amount: int = 100
) -> Any:
    one = Transaction(f"t{number}", card, terminal, amount, "EUR", at_ms, max(at_ms, T))
    return SimpleNamespace(offset=offset, key=card.encode(), value=one.to_json(), timestamp=7_000 + offset)


def stage(state: StageState | None = None, partitions: int = 1, entities_max: int = 100) -> CardStage:
    return CardStage(0, partitions, state or StageState(), entities_max, clock=lambda: 42)


def taken(of: CardStage, *records: Any) -> Step:
    step = of.step(of.decode(records))
    of.settle(step.effect)
    return step


def rows(step: Step, topic: str = "terminal-log") -> dict[int, list[packed.Batch]]:
    return {
        partition: [packed.unpack(value, (packed.CARD_VECTORS,)) for _, value, _ in records]
        for name, partition, records in step.writes
        if name == topic
    }


def test_an_accepted_transaction_leaves_with_its_origin_and_its_vector() -> None:
    batch = rows(taken(stage(), record(5, 1), record(6, 2, amount=900)))[0][0]
    assert batch.text("transaction_id") == ["t1", "t2"]
    assert batch.array("origin_offset").tolist() == [5, 6]
    assert batch.array("origin_partition").tolist() == [0, 0]
    assert batch.array("transaction_hash").tolist() == [id_hash("t1"), id_hash("t2")]
    assert batch.array("ingested_at_ms").tolist() == [7_005, 7_006]
    assert batch.array("vector")[:, 0].tolist() == [100, 900]
    assert batch.meta == {"feature_hash": FEATURE_HASH, "stage_at_ms": 42}


def test_the_effect_goes_from_the_stored_watermark_to_after_the_last_record() -> None:
    of = stage(StageState(next=5, event_time_ms=T + 9))
    effect = taken(of, record(5, 1), record(6, 2)).effect
    assert (effect.first, effect.next) == (5, 7)
    assert effect.event_time_ms == T + 9  # it never goes back
    assert taken(of, record(7, 3)).effect.first == 7


def test_every_transaction_ends_in_exactly_one_way() -> None:
    step = taken(
        stage(),
        record(0, 1),
        record(1, 1),  # again
        record(2, 2, at_ms=T - 31 * DAY_MS),  # further behind than any window
        SimpleNamespace(offset=3, key=b"c1", value=b"bad", timestamp=0),
        record(4, 3, at_ms=T - MINUTE_MS),  # late, yet accepted
    )
    assert step.effect.counters == {"accepted": 2, "duplicates": 1, "dead_letters": 2, "late": 1}
    assert rows(step)[0][0].array("origin_offset").tolist() == [0, 4]
    [(_, partition, letters)] = [write for write in step.writes if write[0] == "transactions.dlq"]
    told = [{name: value.decode() for name, value in headers} for _, _, headers in letters]
    assert partition == 0
    assert {(t["offset"], t["reason"]) for t in told} == {("3", "NOT_JSON"), ("2", "TOO_LATE")}
    assert {t["topic"] for t in told} == {"transactions"}


def test_a_batch_of_bad_messages_alone_still_moves_the_watermark() -> None:
    step = taken(stage(), SimpleNamespace(offset=0, key=None, value=None, timestamp=0))
    assert [write[0] for write in step.writes] == ["transactions.dlq"]
    assert (step.effect.next, step.effect.event_time_ms, list(step.effect.changes)) == (1, 0, [])


def test_rows_go_to_the_partition_of_their_terminal_in_the_order_of_their_offsets() -> None:
    written = rows(taken(stage(partitions=3), *(record(i, i, terminal=f"m{i % 10}") for i in range(50))))
    assert len(written) == 3
    for partition, batches in written.items():
        for batch in batches:
            assert {partition_for(terminal, 3) for terminal in batch.text("terminal_id")} == {partition}
            assert np.all(np.diff(batch.array("origin_offset")) > 0)


def test_a_packed_record_holds_at_most_its_limit_of_rows() -> None:
    [batches] = rows(taken(stage(), *(record(i, i) for i in range(packed.ROWS_MAX + 1)))).values()
    assert [batch.rows for batch in batches] == [packed.ROWS_MAX, 1]


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [7, 13, 40]])
def test_the_size_of_batches_changes_no_vector(sizes: list[int]) -> None:
    records = [record(i, i, at_ms=T + i % 7 * MINUTE_MS, card=f"c{i % 4}", amount=i) for i in range(60)]
    of, at, vectors = stage(), 0, []
    for size in sizes:
        vectors += [b.array("vector") for b in rows(taken(of, *records[at : at + size]))[0]]
        at += size
    once = [b.array("vector") for b in rows(taken(stage(), *records))[0]]
    assert np.concatenate(vectors).tobytes() == np.concatenate(once).tobytes()


def test_a_stage_that_goes_on_from_the_stored_logs_says_what_the_first_one_would_have_said() -> None:
    records = [record(i, i, at_ms=T + i * MINUTE_MS, card=f"c{i % 3}") for i in range(40)]
    first = stage()
    stored: dict[str, bytes] = {}
    for entity, operation, blob in taken(first, *records[:20]).effect.changes:
        assert operation == "append"
        stored[entity] = stored.get(entity, b"") + blob
    heir = stage(StageState(next=20))
    decoded = heir.decode(records[20:])
    assert heir.missing(decoded) == ["c2", "c0", "c1"]
    heir.load([(entity, stored[entity]) for entity in heir.missing(decoded)])
    assert heir.missing(decoded) == []
    there, here = rows(heir.step(decoded))[0][0], rows(taken(first, *records[20:]))[0][0]
    assert there.array("vector").tobytes() == here.array("vector").tobytes()


def test_settling_forgets_the_cards_that_were_not_used_for_longest() -> None:
    of = stage(entities_max=2)
    taken(of, *(record(i, i, card=f"c{i}") for i in range(2)))
    taken(of, record(2, 2, card="c2"), record(3, 3, card="c1"))
    assert of.cached() == 2
    assert of.missing(of.decode([record(4, 4, card="c0"), record(5, 5, card="c1")])) == ["c0"]
