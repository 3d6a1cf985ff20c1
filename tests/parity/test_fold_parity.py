"""The fold against the naive oracle, bit for bit, over logs made to be awkward.

Rule 1. Logs have ties, late, too late and duplicated transactions, labels before their transaction, reversed, unknown and expired.
Rule 2. Chunks begin small, so that growth, dropping, compaction and eviction happen in short logs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud.fold import LABEL, TRANSACTION, CardFold, TerminalFold
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS
from tests.parity.folded_logs import Row, Store, card_columns, expect_cards, expect_terminals, fold_rows, in_batches

FIRST_MS = 1_522_540_800_000
# Steps of event time between arrivals: window edges, ties, back in time, and beyond what is kept.
STEPS_MS = [0, 1, -1, 1000, HOUR_MS - 1, HOUR_MS, HOUR_MS + 1, -HOUR_MS, DAY_MS, -DAY_MS, 7 * DAY_MS, -7 * DAY_MS, 29 * DAY_MS,
            30 * DAY_MS, -30 * DAY_MS, -31 * DAY_MS, 35 * DAY_MS, -35 * DAY_MS, -36 * DAY_MS, 61 * DAY_MS, 75 * DAY_MS,
            365 * DAY_MS, 5 * MINUTE_MS, 5 * MINUTE_MS - 1]  # fmt: skip
AMOUNTS = [0, 1, 500, 500, 1999, 10**12 - 1, 10**12]


TERMINALS = ["t1", "t2", "t3"]
MERCHANTS = [None, "m1", "m2"]
DEVICES = [None, None, "d1", "d2"]
COUNTRIES = [None, "DE", "FR", "US"]
PLACES = [None, (0, 0), (5252, 1340), (5252, 1341), (-3387, 15121), (9000, 18000), (-9000, -18000), (4071, -7400)]
steps = st.one_of(st.sampled_from(STEPS_MS), st.integers(0, 3 * HOUR_MS), st.integers(-2 * DAY_MS, 5 * DAY_MS))
amounts = st.one_of(st.sampled_from(AMOUNTS), st.integers(0, 30_000), st.integers(0, 10**12))
hashes = st.one_of(st.integers(0, 12), st.integers(0, 2**64 - 1))
entities = st.sampled_from(["a", "b", "c"])
places = st.one_of(st.sampled_from(PLACES), st.tuples(st.integers(-9000, 9000), st.integers(-18000, 18000)))
wheres = st.tuples(
    st.sampled_from(TERMINALS), st.sampled_from(MERCHANTS), st.sampled_from(DEVICES), st.sampled_from(COUNTRIES), places
)
bare = st.tuples(st.sampled_from(TERMINALS), st.none(), st.none(), st.none(), st.none())  # as version 1 of the message


@st.composite
def logs(draw: st.DrawFn, with_labels: bool) -> list[Row]:
    """A log whose event time walks as the steps say; its labels look back at transactions, or ahead, or at none."""
    t, rows = FIRST_MS, list[Row]()
    drawn = st.tuples(entities, hashes, steps, amounts, st.one_of(wheres, bare), st.integers(0, 1))
    for entity, id_hash, step, amount, where, striking in draw(st.lists(drawn, max_size=60)):
        t = max(FIRST_MS - 100 * DAY_MS, t + step)
        rows.append(Row(entity, id_hash, t, amount, TRANSACTION, 0, *where, striking))
    if with_labels and rows:
        picks = st.tuples(st.integers(0, len(rows) - 1), st.integers(0, len(rows)), st.integers(0, 1), st.booleans())
        labels = [(place, rows[of], fraud, hit) for of, place, fraud, hit in draw(st.lists(picks, max_size=40))]
        for place, row, fraud, hit in sorted(labels, key=lambda label: -label[0]):
            rows.insert(place, Row(row.entity, (row.id_hash + (not hit)) % 2**64, row.t, 0, LABEL, fraud))
    return rows


quick = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@quick
@given(logs(with_labels=False))
def test_every_card_vector_equals_the_oracles_bit_for_bit(rows: list[Row]) -> None:
    assert fold_rows(CardFold(rows=4), rows) == expect_cards(rows)


@quick
@given(logs(with_labels=True))
def test_every_terminal_vector_and_label_outcome_equals_the_oracles(rows: list[Row]) -> None:
    assert fold_rows(TerminalFold(rows=4), rows) == expect_terminals(rows)


@quick
@given(logs(with_labels=False), sizes, st.integers(0, 3))
def test_cards_evicted_and_loaded_at_any_time_and_any_batch_size_give_the_same_vectors(
    rows: list[Row], batch_sizes: list[int], entities_max: int
) -> None:
    fold = CardFold(rows=4)
    assert in_batches(fold, rows, batch_sizes, Store(fold, entities_max).between) == expect_cards(rows)


@quick
@given(logs(with_labels=True), sizes, st.integers(0, 3))
def test_terminals_evicted_and_loaded_at_any_time_and_any_batch_size_give_the_same_vectors(
    rows: list[Row], batch_sizes: list[int], entities_max: int
) -> None:
    fold = TerminalFold(rows=4)
    assert in_batches(fold, rows, batch_sizes, Store(fold, entities_max).between) == expect_terminals(rows)


@quick
@given(logs(with_labels=False), entities, st.integers(0, 40 * DAY_MS), amounts, wheres)
def test_a_read_gives_the_vector_that_the_transaction_would_get(
    rows: list[Row], card: str, ahead_ms: int, amount: int, where: Any
) -> None:
    fold, terminals = CardFold(rows=4), TerminalFold(rows=4)
    fold_rows(fold, rows)
    fold_rows(terminals, rows)
    t = max((row.t for row in rows), default=FIRST_MS) - 30 * DAY_MS + ahead_ms
    next_row = [Row(card, 2**64 - 1, t, amount, TRANSACTION, 0, *where)]
    card_vector = served_or_none(lambda: fold.read(card, card_columns(next_row)))
    terminal_vector = served_or_none(lambda: terminals.read(card, t))
    outcome, vector, _ = fold_rows(fold, next_row)[0]
    assert vector == card_vector or outcome == "duplicate"
    assert fold_rows(terminals, next_row)[0][1] == terminal_vector


def served_or_none(read: Callable[[], npt.NDArray[np.float32]]) -> bytes | None:
    try:
        return read().tobytes()
    except ValueError:
        return None


def long_log(seed: int, count: int) -> list[Row]:
    """A seeded log of a few busy entities, mostly in order, over a year: chunks grow, drop and are compacted many times."""
    random = np.random.default_rng(seed)
    t, rows = FIRST_MS, list[Row]()
    for i in range(count):
        t += int(random.exponential(2 * HOUR_MS)) + (
            int(random.integers(0, 80)) * DAY_MS if random.random() < 0.002 else 0
        )
        back = int(random.integers(0, 40 * DAY_MS)) if random.random() < 0.05 else 0
        id_hash = i if random.random() < 0.97 else int(random.integers(max(0, i - 300), i + 1))
        where = (
            f"t{random.integers(0, 40)}", MERCHANTS[random.integers(0, 3)], f"d{random.integers(0, 8)}",
            COUNTRIES[random.integers(0, 4)], PLACES[random.integers(0, len(PLACES))],
        )  # fmt: skip
        amount = min(10**12, int(random.lognormal(8, 4)))
        striking = int(random.random() < 0.3)
        rows.append(Row(f"e{random.integers(0, 4)}", id_hash, t - back, amount, TRANSACTION, 0, *where, striking))
        if random.random() < 0.3:
            of = rows[int(random.integers(max(0, len(rows) - 400), len(rows)))]
            if of.kind == TRANSACTION:
                rows.append(Row(of.entity, of.id_hash, of.t, 0, LABEL, int(random.random() < 0.7)))
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_a_year_of_busy_entities_equals_the_oracle_with_logs_compacted_on_the_way(seed: int) -> None:
    rows = long_log(seed, count=2500)
    transactions = [row for row in rows if row.kind == TRANSACTION]
    cards, terminals = CardFold(rows=4), TerminalFold(rows=4)
    card_store, terminal_store = Store(cards, 2), Store(terminals, 2)
    assert in_batches(cards, transactions, [37], card_store.between) == expect_cards(transactions)
    assert in_batches(terminals, rows, [37], terminal_store.between) == expect_terminals(rows)
    assert card_store.sets > 0
    assert terminal_store.sets > 0
    assert all(len(log) < 32 * len(rows) // 4 for log in terminal_store.logs.values())
