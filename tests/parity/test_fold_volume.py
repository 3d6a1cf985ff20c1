"""The fold against the oracle over many long logs with everything that a log can contain, 200,000 events in a run.

Rule 1. Hypothesis draws the shape of a log (how many entities, how much is late, tied, repeated, absent ...) and its seed; the rows
        follow from these. Cards are folded first, what they accept goes to the terminals, with labels in between.
Rule 2. Memory holds ten entities: the rest is evicted after every batch and loaded again from what was stored.
Rule 3. FRAUD_PARITY_EVENTS says how many events: `FRAUD_PARITY_EVENTS=1000000 make test ARGS="-m volume --timeout 3600"`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud.fold import LABEL, TRANSACTION, CardFold, TerminalFold
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS
from tests.parity.folded_logs import Row, Served, Store, expect_cards, expect_terminals, in_batches

EVENTS = int(os.environ.get("FRAUD_PARITY_EVENTS", "200000"))
LOG_ROWS = 2500
ENTITIES_MAX = 10
FIRST_MS = 1_522_540_800_000
SENT_AGAIN_WITHIN = 400


@dataclass(frozen=True)
class Shape:
    """How a log is made; shares are of its transactions."""

    seed: int
    cards: int
    terminals: int
    minutes_between: float
    late: float
    tied: float
    repeated: float
    jumps: float  # clocks that are an hour ahead for a while
    absent: float
    labelled: float
    quiet_year: bool
    batch_rows: tuple[int, ...]


shares = st.sampled_from([0.0, 0.02, 0.2])
shapes = st.builds(
    Shape,
    seed=st.integers(0, 2**32),
    cards=st.sampled_from([15, 40, 200]),
    terminals=st.sampled_from([15, 40, 200]),
    minutes_between=st.sampled_from([0.2, 10, 60, 300]),
    late=shares,
    tied=shares,
    repeated=shares,
    jumps=shares,
    absent=st.sampled_from([0.0, 0.1, 1.0]),
    labelled=st.sampled_from([0.1, 0.5]),
    quiet_year=st.booleans(),
    batch_rows=st.lists(st.sampled_from([1, 7, 50, 500]), min_size=1, max_size=3).map(tuple),
)


def log_of(shape: Shape) -> list[Row]:
    """The rows of a log in arrival order, labels among them. One terminal has a tenth of all traffic."""
    random, rows = np.random.default_rng(shape.seed), list[Row]()
    t = FIRST_MS
    for i in range(LOG_ROWS):
        if random.random() >= shape.tied:
            t += int(random.exponential(shape.minutes_between * MINUTE_MS))
        if shape.quiet_year and i == LOG_ROWS // 2:
            t += 365 * DAY_MS
        if rows and random.random() < shape.repeated:
            rows.append(again(rows[int(random.integers(max(0, len(rows) - SENT_AGAIN_WITHIN), len(rows)))], random))
            continue
        rows.append(transaction(i, t, shape, random))
        if random.random() < shape.labelled:
            rows.append(label_of(rows[int(random.integers(0, len(rows)))], random))
    return rows


def transaction(i: int, t: int, shape: Shape, random: np.random.Generator) -> Row:
    if random.random() < shape.late:
        t -= int(random.choice([MINUTE_MS, HOUR_MS, DAY_MS, 12 * DAY_MS, 45 * DAY_MS]) * random.random())
    if random.random() < shape.jumps:
        t += HOUR_MS
    card = int(random.zipf(1.5)) % shape.cards
    terminal = 0 if random.random() < 0.1 else int(random.integers(0, shape.terminals))
    gone = random.random(4) < shape.absent
    here = int(random.integers(0, 5))
    return Row(
        f"c{card}", i, t, min(10**12, int(random.lognormal(7, 2.5))), TRANSACTION, 0, f"t{terminal}",
        None if gone[0] else f"m{terminal // 3}",
        None if gone[1] else f"d{card}-{int(random.zipf(2)) % 3}",
        None if gone[2] else ("DE", "FR", "US", "AT", "BR")[here],
        None if gone[3] else (int(random.integers(-90, 91)) * 100, here * 3000 - 6000),
    )  # fmt: skip


def again(row: Row, random: np.random.Generator) -> Row:
    """The same id once more; sometimes with another time and amount."""
    if row.kind == LABEL or random.random() < 0.7:
        return row
    return replace(row, t=row.t + int(random.integers(-HOUR_MS, HOUR_MS)), amount=row.amount // 2)


def label_of(row: Row, random: np.random.Generator) -> Row:
    """What became known of a row: right, reversed later perhaps, of the wrong time, or for a transaction that is not there yet."""
    hashed = row.id_hash + (int(random.integers(1, 50)) if random.random() < 0.1 else 0)
    return replace(row, kind=LABEL, id_hash=hashed, amount=0, is_fraud=int(random.random() < 0.6))


def folded(shape: Shape, rows: list[Row]) -> tuple[list[Served], list[Served]]:
    """What the folds say of the card's rows and of the terminals' log, in batches, with a cache of ten entities."""
    cards, terminals = CardFold(rows=4), TerminalFold(rows=4)
    of_cards = in_batches(
        cards,
        [row for row in rows if row.kind == TRANSACTION],
        list(shape.batch_rows),
        Store(cards, ENTITIES_MAX).between,
    )
    log = terminal_log(rows, of_cards)
    return of_cards, in_batches(terminals, log, list(shape.batch_rows), Store(terminals, ENTITIES_MAX).between)


def terminal_log(rows: list[Row], of_cards: list[Served]) -> list[Row]:
    """The log of the terminals: labels, and the transactions that the cards accepted."""
    outcomes = iter(of_cards)
    kept = [row for row in rows if row.kind == LABEL or next(outcomes)[0] == "accepted"]
    return [replace(row, entity=row.other, other=row.entity) for row in kept]


_seen = {"events": 0, "late": 0, "duplicate": 0, "too late": 0, "label applied": 0, "label unknown": 0}


@settings(
    max_examples=-(-EVENTS // LOG_ROWS), deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(shapes)
def every_log(shape: Shape) -> None:
    rows = log_of(shape)
    of_cards, of_terminals = folded(shape, rows)
    expected = expect_cards([row for row in rows if row.kind == TRANSACTION])
    assert of_cards == expected
    assert of_terminals == expect_terminals(terminal_log(rows, expected))
    _seen["events"] += len(rows)
    for outcome, _, late in of_cards + of_terminals:
        _seen["late"] += late
        if outcome in _seen:
            _seen[outcome] += 1


@pytest.mark.volume
@pytest.mark.timeout(3600)
def test_no_log_of_any_shape_makes_the_fold_and_the_oracle_differ_in_200_000_events() -> None:
    every_log()
    print(f"\n{_seen['events']:,} events without a difference: {_seen}")
    assert _seen["events"] >= EVENTS
    assert min(_seen.values()) > 0
