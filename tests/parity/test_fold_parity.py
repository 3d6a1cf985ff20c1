"""The fold against the naive oracle, bit for bit, over logs made to be awkward.

Rule 1. Logs have ties, late, too late and duplicated transactions, labels before their transaction, reversed, unknown and expired.
Rule 2. Chunks begin small, so that growth, dropping, compaction and eviction happen in short logs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud.fold import LABEL, TRANSACTION, CardFold, TerminalFold
from fraud.windows import DAY_MS, HOUR_MS
from tests.parity.oracle import CardOracle, TerminalOracle

OUTCOMES = ["accepted", "duplicate", "too late", "label applied", "label unknown", "label expired"]
FIRST_MS = 1_522_540_800_000
# Steps of event time between arrivals: window edges, ties, back in time, and beyond what is kept.
STEPS_MS = [0, 1, -1, 1000, HOUR_MS - 1, HOUR_MS, HOUR_MS + 1, -HOUR_MS, DAY_MS, -DAY_MS, 7 * DAY_MS, -7 * DAY_MS, 29 * DAY_MS,
            30 * DAY_MS, -30 * DAY_MS, -31 * DAY_MS, 35 * DAY_MS, -35 * DAY_MS, -36 * DAY_MS, 61 * DAY_MS, 75 * DAY_MS]  # fmt: skip
AMOUNTS = [0, 1, 500, 500, 1999, 10**12 - 1, 10**12]


@dataclass(frozen=True)
class Row:
    """One line of a log."""

    entity: str
    id_hash: int
    t: int
    amount: int
    kind: int = TRANSACTION
    is_fraud: int = 0


steps = st.one_of(st.sampled_from(STEPS_MS), st.integers(0, 3 * HOUR_MS), st.integers(-2 * DAY_MS, 5 * DAY_MS))
amounts = st.one_of(st.sampled_from(AMOUNTS), st.integers(0, 30_000), st.integers(0, 10**12))
hashes = st.one_of(st.integers(0, 12), st.integers(0, 2**64 - 1))
entities = st.sampled_from(["a", "b", "c"])


@st.composite
def logs(draw: st.DrawFn, with_labels: bool) -> list[Row]:
    """A log whose event time walks as the steps say; its labels look back at transactions, or ahead, or at none."""
    t, rows = FIRST_MS, list[Row]()
    for entity, id_hash, step, amount in draw(st.lists(st.tuples(entities, hashes, steps, amounts), max_size=60)):
        t = max(FIRST_MS - 100 * DAY_MS, t + step)
        rows.append(Row(entity, id_hash, t, amount))
    if with_labels and rows:
        picks = st.tuples(st.integers(0, len(rows) - 1), st.integers(0, len(rows)), st.integers(0, 1), st.booleans())
        labels = [(place, rows[of], fraud, hit) for of, place, fraud, hit in draw(st.lists(picks, max_size=40))]
        for place, row, fraud, hit in sorted(labels, key=lambda label: -label[0]):
            rows.insert(place, Row(row.entity, (row.id_hash + (not hit)) % 2**64, row.t, 0, LABEL, fraud))
    return rows


def columns(rows: list[Row]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return (
        np.array([row.id_hash % 2**64 for row in rows], np.uint64),
        np.array([row.t for row in rows], np.int64),
        np.array([row.amount for row in rows], np.int64),
    )


def fold_cards(fold: CardFold, rows: list[Row]) -> list[tuple[str, bytes | None, bool]]:
    result = fold.apply([row.entity for row in rows], *columns(rows))
    return served(result.outcome, result.vectors, result.late)


def fold_terminals(fold: TerminalFold, rows: list[Row]) -> list[tuple[str, bytes | None, bool]]:
    kinds, frauds = np.array([r.kind for r in rows], np.uint8), np.array([r.is_fraud for r in rows], np.uint8)
    result = fold.apply(kinds, [row.entity for row in rows], *columns(rows), frauds)
    return served(result.outcome, result.vectors, result.late)


def served(outcomes, vectors, late):  # type: ignore[no-untyped-def]
    for outcome, vector in zip(outcomes, vectors, strict=True):
        assert outcome == 0 or np.isnan(vector).all()
    return [
        (OUTCOMES[outcome], vector.tobytes() if outcome == 0 else None, bool(is_late))
        for outcome, vector, is_late in zip(outcomes, vectors, late, strict=True)
    ]


def expect_cards(rows: list[Row]) -> list[tuple[str, bytes | None, bool]]:
    oracle = CardOracle()
    expected = [oracle.apply(row.entity, row.id_hash, row.t, row.amount) for row in rows]
    return [(outcome, vector.tobytes() if vector is not None else None, late) for outcome, vector, late in expected]


def expect_terminals(rows: list[Row]) -> list[tuple[str, bytes | None, bool]]:
    oracle, expected = TerminalOracle(), list[tuple[str, bytes | None, bool]]()
    for row in rows:
        if row.kind == LABEL:
            expected.append((oracle.label(row.entity, row.id_hash, row.t, bool(row.is_fraud)), None, False))
        else:
            outcome, vector, late = oracle.apply(row.entity, row.id_hash, row.t, row.amount)
            expected.append((outcome, vector.tobytes() if vector is not None else None, late))
    return expected


def in_batches(fold, step, rows, sizes, between):  # type: ignore[no-untyped-def]
    """Fold `rows` in batches of the sizes, repeated; `between(next_rows)` runs before each."""
    got, at, turn = [], 0, 0
    while at < len(rows):
        batch = rows[at : at + sizes[turn % len(sizes)]]
        between(batch)
        got += step(fold, batch)
        at, turn = at + len(batch), turn + 1
    return got


class Store:
    """Stores changes as the stream's state store does, and loads what is missing."""

    def __init__(self, fold: CardFold | TerminalFold, entities_max: int) -> None:
        self.fold, self.entities_max, self.logs, self.sets = fold, entities_max, dict[str, bytes](), 0

    def between(self, batch: list[Row]) -> None:
        for entity_id, operation, blob in self.fold.take_changes():
            self.logs[entity_id] = blob if operation == "set" else self.logs.get(entity_id, b"") + blob
            self.sets += operation == "set"
        self.fold.evict(self.entities_max)
        for entity_id in self.fold.missing(row.entity for row in batch):
            self.fold.load(entity_id, self.logs.get(entity_id, b""))


quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@quick
@given(logs(with_labels=False))
def test_every_card_vector_equals_the_oracles_bit_for_bit(rows: list[Row]) -> None:
    assert fold_cards(CardFold(rows=4), rows) == expect_cards(rows)


@quick
@given(logs(with_labels=True))
def test_every_terminal_vector_and_label_outcome_equals_the_oracles(rows: list[Row]) -> None:
    assert fold_terminals(TerminalFold(rows=4), rows) == expect_terminals(rows)


@quick
@given(logs(with_labels=False), sizes, st.integers(0, 3))
def test_cards_that_are_evicted_and_loaded_at_any_time_give_the_same_vectors(
    rows: list[Row], batch_sizes: list[int], entities_max: int
) -> None:
    fold = CardFold(rows=4)
    assert in_batches(fold, fold_cards, rows, batch_sizes, Store(fold, entities_max).between) == expect_cards(rows)


@quick
@given(logs(with_labels=True), sizes, st.integers(0, 3))
def test_terminals_that_are_evicted_and_loaded_at_any_time_give_the_same_vectors(
    rows: list[Row], batch_sizes: list[int], entities_max: int
) -> None:
    fold = TerminalFold(rows=4)
    assert in_batches(fold, fold_terminals, rows, batch_sizes, Store(fold, entities_max).between) == expect_terminals(
        rows
    )
