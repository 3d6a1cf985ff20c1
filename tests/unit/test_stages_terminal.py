"""The terminal stage without a broker: packed rows in, full vectors out, repeated rows without effect.

Rule 1. Card vectors are a constant: only what this stage adds is looked at.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adapters.state_store import StageState
from fraud import packed
from fraud.features import FEATURE_HASH, NAMES, TERMINAL_NAMES
from fraud.transaction import id_hash
from fraud.windows import DAY_MS
from stream_features.stage import FeatureHashMismatchError, Step
from stream_features.terminal_stage import TerminalStage

T = 1_530_000_000_000
CARD_WIDTH = len(NAMES) - len(TERMINAL_NAMES)
Row = tuple[int, int, int]  # origin offset, number of the transaction, event time


def transactions(log_offset: int, rows: list[Row], *, origin: int = 0, feature_hash: str = FEATURE_HASH) -> Any:
    columns: dict[str, packed.Column] = {
        "origin_partition": np.full(len(rows), origin, np.int32),
        "origin_offset": np.array([row[0] for row in rows]),
        "transaction_id": [f"t{row[1]}" for row in rows],
        "card_id": [f"c{row[1] % 3}" for row in rows],
        "terminal_id": ["m1"] * len(rows),
        "amount_minor": np.array([100 + row[1] for row in rows]),
        "occurred_at_ms": np.array([row[2] for row in rows]),
        "ingested_at_ms": np.array([row[0] for row in rows]),
        "transaction_hash": np.array([id_hash(f"t{row[1]}") for row in rows], np.uint64),
        "vector": np.full((len(rows), CARD_WIDTH), 0.5, np.float32),
    }
    return _record(log_offset, packed.pack(packed.CARD_VECTORS, columns, {"feature_hash": feature_hash}))


def labels(log_offset: int, rows: list[Row], *, is_fraud: int = 1) -> Any:
    columns: dict[str, packed.Column] = {
        "origin_partition": np.zeros(len(rows), np.int32),
        "origin_offset": np.array([row[0] for row in rows]),
        "transaction_id": [f"t{row[1]}" for row in rows],
        "transaction_hash": np.array([id_hash(f"t{row[1]}") for row in rows], np.uint64),
        "terminal_id": ["m1"] * len(rows),
        "occurred_at_ms": np.array([row[2] for row in rows]),
        "known_at_ms": np.array([row[2] + 7 * DAY_MS for row in rows]),
        "is_fraud": np.full(len(rows), is_fraud, np.uint8),
    }
    return _record(log_offset, packed.pack(packed.LABELS, columns, {"feature_hash": FEATURE_HASH}))


def _record(offset: int, value: bytes) -> Any:
    return SimpleNamespace(offset=offset, key=None, value=value, timestamp=0)


def stage(state: StageState | None = None) -> TerminalStage:
    return TerminalStage(0, state or StageState(), 100, clock=lambda: 42)


def taken(of: TerminalStage, *records: Any) -> Step:
    step = of.step(of.decode(records))
    of.settle(step.effect)
    return step


def vectors(*steps: Step) -> packed.Batch | None:
    values = [value for step in steps for topic, _, rs in step.writes if topic == "features" for _, value, _ in rs]
    assert len(values) <= 1
    return packed.unpack(values[0], (packed.VECTORS,)) if values else None


def feature(batch: packed.Batch | None, name: str) -> list[float]:
    assert batch is not None
    column: list[float] = batch.array("vector")[:, NAMES.index(name)].tolist()
    return column


def letters(step: Step) -> list[tuple[dict[str, str], bytes]]:
    return [
        ({name: told.decode() for name, told in headers}, value)
        for topic, _, records in step.writes
        if topic == "terminal-log.dlq"
        for _, value, headers in records
    ]


def test_a_full_vector_is_the_card_vector_and_the_terminals() -> None:
    batch = vectors(taken(stage(), transactions(0, [(10, 1, T), (11, 2, T + 1)])))
    assert batch is not None
    assert batch.array("vector").shape == (2, len(NAMES))
    assert np.all(batch.array("vector")[:, :CARD_WIDTH] == 0.5)
    assert feature(batch, "terminal_count_1h") == [0, 1]
    assert batch.array("origin_offset").tolist() == [10, 11]
    assert batch.text("transaction_id") == ["t1", "t2"]


def test_a_label_changes_the_vectors_after_it_and_none_before() -> None:
    #  log    t1 ........ t2 | label of t1: fraud | t3         (8 days later: t1 is mature)
    later = T + 8 * DAY_MS
    step = taken(
        stage(),
        transactions(0, [(0, 1, T), (1, 2, later)]),
        labels(1, [(0, 1, T)]),
        transactions(2, [(2, 3, later)]),
    )
    assert feature(vectors(step), "terminal_fraud_count_7d") == [0, 0, 1]
    assert step.effect.counters["labels_applied"] == 1


def test_a_later_label_that_says_otherwise_reverses_it() -> None:
    later = T + 8 * DAY_MS
    step = taken(
        stage(),
        transactions(0, [(0, 1, T)]),
        labels(1, [(0, 1, T)]),
        transactions(2, [(1, 2, later)]),
        labels(3, [(1, 1, T)], is_fraud=0),
        transactions(4, [(2, 3, later)]),
    )
    assert feature(vectors(step), "terminal_fraud_count_7d") == [0, 1, 0]


def test_rows_that_were_seen_before_change_nothing_and_write_nothing() -> None:
    of = stage()
    taken(of, transactions(0, [(0, 1, T), (1, 2, T)]), labels(1, [(0, 1, T)]))
    again = taken(of, transactions(2, [(0, 1, T), (1, 2, T)]), labels(3, [(0, 1, T)]))
    assert again.writes == []
    assert again.effect.counters == {"dead_letters": 0, "repeated": 3}
    assert (again.effect.next, list(again.effect.changes)) == (4, [])
    fresh = vectors(taken(of, transactions(4, [(1, 2, T), (2, 3, T)])))
    assert fresh is not None
    assert fresh.array("origin_offset").tolist() == [2]
    assert feature(fresh, "terminal_count_1h") == [2]


def test_marks_are_kept_per_origin() -> None:
    of = stage()
    step = taken(of, transactions(0, [(5, 1, T)]), transactions(1, [(2, 2, T)], origin=1), labels(2, [(9, 1, T)]))
    assert step.effect.marks == {("transactions", 0): 5, ("transactions", 1): 2, ("labels", 0): 9}
    heir = stage(StageState(next=3, marks=step.effect.marks))
    assert taken(heir, transactions(3, [(5, 1, T)]), transactions(4, [(2, 2, T)], origin=1)).writes == []


def test_a_label_for_an_unknown_transaction_is_a_dead_letter_that_names_its_origin() -> None:
    step = taken(stage(), transactions(0, [(0, 1, T)]), labels(1, [(7, 9, T)]))
    [(told, value)] = letters(step)
    assert (told["reason"], told["topic"], told["partition"], told["offset"]) == (
        "LABEL_UNKNOWN_TRANSACTION",
        "labels",
        "0",
        "7",
    )
    assert json.loads(value)["transaction_id"] == "t9"
    assert step.effect.counters["labels_unknown"] == 1


def test_a_transaction_too_late_for_its_terminal_is_a_dead_letter_among_batches() -> None:
    step = taken(stage(), transactions(0, [(0, 1, T)]), transactions(1, [(1, 2, T - 36 * DAY_MS), (2, 3, T)]))
    [(told, value)] = letters(step)
    assert (told["reason"], told["topic"], told["offset"]) == ("TOO_LATE", "transactions", "1")
    assert json.loads(value)["transaction_id"] == "t2"
    batch = vectors(step)
    assert batch is not None
    assert batch.array("origin_offset").tolist() == [0, 2]


def test_a_label_older_than_any_window_expires() -> None:
    step = taken(
        stage(), transactions(0, [(0, 1, T), (1, 2, T + 30 * DAY_MS), (2, 3, T + 71 * DAY_MS)]), labels(1, [(0, 1, T)])
    )
    assert step.effect.counters["labels_expired"] == 1
    assert letters(step) == []


def test_a_record_that_is_no_packed_batch_is_a_dead_letter_and_the_rest_goes_on() -> None:
    step = taken(stage(), _record(0, b"noise"), transactions(1, [(0, 1, T)]))
    [(told, value)] = letters(step)
    assert (told["reason"], told["topic"], told["offset"], value) == ("PACKED_INVALID", "terminal-log", "0", b"noise")
    assert step.effect.counters["accepted"] == 1


def test_vectors_of_another_feature_definition_are_never_folded() -> None:
    with pytest.raises(FeatureHashMismatchError, match="offset 3 was written with features another"):
        stage().decode([transactions(3, [(0, 1, T)], feature_hash="another")])


def test_records_of_retired_features_leave_no_mark_and_come_again_from_the_new_card_stage() -> None:
    of = TerminalStage(0, StageState(), 100, clock=lambda: 42, retired=frozenset({"retired00000"}))
    first = taken(of, transactions(0, [(0, 1, T), (1, 2, T)], feature_hash="retired00000"))
    assert first.writes == []
    assert vectors(taken(of, transactions(1, [(0, 1, T), (1, 2, T)]))) is not None
    with pytest.raises(FeatureHashMismatchError, match=f"other0000000.*{FEATURE_HASH}.*fraudstream features rebuild"):
        of.decode([transactions(2, [(2, 3, T)], feature_hash="other0000000")])


def test_history_folds_what_another_definition_wrote_and_writes_no_vectors() -> None:
    past = TerminalStage(0, StageState(), 100, clock=lambda: 42, history=True)
    folded, worked = stage(), past
    step = taken(worked, transactions(0, [(0, 1, T), (1, 2, T + 1)], feature_hash="other0000000"))
    plain = taken(folded, transactions(0, [(0, 1, T), (1, 2, T + 1)]))
    assert step.writes == []
    assert step.effect.changes == plain.effect.changes
    assert step.effect.marks == plain.effect.marks
