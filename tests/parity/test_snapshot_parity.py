"""The nightly job against its oracle, with late rows, repeated ones, and labels that are known later.

Rule 1. What the comparison must catch is fed to it: a snapshot that looks ahead differs from the oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from fraud.batch_features import CARD_COLUMNS, TERMINAL_COLUMNS
from fraud.windows import DAY_MS, HOUR_MS
from tests.parity import snapshot_oracle as oracle
from tests.parity.snapshot_oracle import Paid, Said
from trainer.batch_path.snapshot import LABEL_COLUMNS, TRANSACTION_COLUMNS, History, Snapshot, snapshot
from trainer.batch_path.vectors import joined_with, vectors_for

BEGIN_MS = 17_622 * DAY_MS  # 2018-04-01
DAYS = 50
MIDNIGHTS = [BEGIN_MS + day * DAY_MS for day in (0, 1, 8, 30, 41, 49)]


@cache
def log(seed: int = 1) -> tuple[list[Paid], list[Said]]:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, DAYS * DAY_MS, 1_500)) + BEGIN_MS
    # Some exactly at a midnight: the next day's, not the one's before.
    times[::97] = times[::97] // DAY_MS * DAY_MS
    paid, said = [], []
    for i, at_ms in enumerate(sorted(times.tolist())):
        late_ms = int(random.integers(1, 20)) * HOUR_MS if random.random() < 0.2 else 0
        nowhere = random.random() < 0.2
        row = Paid(
            f"t{i}", f"c{random.integers(0, 25)}", f"m{random.integers(0, 15)}", int(random.integers(0, 90_000)), at_ms,
            at_ms + late_ms, None if nowhere else f"s{random.integers(0, 9)}", None if nowhere else ("DE", "FR", "IT")[i % 3],
        )  # fmt: skip
        paid.append(row)
        if random.random() < 0.05:
            paid.append(
                Paid(row.transaction, row.card, "m0", 1, at_ms + HOUR_MS, at_ms + late_ms + HOUR_MS, None, None)
            )
        if random.random() < 0.3:
            known_ms = at_ms + int(random.integers(1, 15 * 24)) * HOUR_MS
            said.append(Said(row.transaction, row.card, bool(random.random() < 0.7), known_ms))
            if random.random() < 0.3:
                said.append(Said(row.transaction, row.card, not said[-1].is_fraud, known_ms + 30 * HOUR_MS))
    return sorted(paid, key=lambda p: p.sent_ms), sorted(said, key=lambda s: s.known_ms)


def history(paid: list[Paid], said: list[Said]) -> History:
    kinds = 3 * [pl.String] + 3 * [pl.Int64] + 2 * [pl.String]
    labels = [(s.transaction, s.card, s.is_fraud, s.known_ms) for s in said]
    return History.of(
        pl.DataFrame(
            [tuple(vars(p).values()) for p in paid],
            schema=dict(zip(TRANSACTION_COLUMNS, kinds, strict=True)),
            orient="row",
        ),
        pl.DataFrame(labels, schema=LABEL_COLUMNS, orient="row"),
    )


def differences(found: Snapshot, paid: list[Paid], said: list[Said]) -> list[str]:
    """Where a snapshot is not what the oracle says, by column."""
    wrong: list[str] = []
    for kind, table, columns in (("card", found.cards, CARD_COLUMNS), ("terminal", found.terminals, TERMINAL_COLUMNS)):
        of: Callable[[Paid], str] = (lambda p: p.card) if kind == "card" else (lambda p: p.terminal)
        expected = oracle.of_entities(paid, said, found.midnight_ms, of, kind)
        mine = {row[f"{kind}_id"]: row for row in table.iter_rows(named=True)}
        if mine.keys() != expected.keys():
            wrong.append(f"{kind}: {sorted(mine.keys() ^ expected.keys())}")
        for name in columns:
            ours = np.array([mine[entity][name] for entity in expected if entity in mine])
            theirs = np.array([expected[entity][name] for entity in expected if entity in mine], np.float32)
            if not np.allclose(ours, theirs, rtol=1e-5, atol=1e-3, equal_nan=True):
                wrong.append(name)
    return wrong


@pytest.mark.parametrize("midnight_ms", MIDNIGHTS)
def test_a_snapshot_is_what_a_rescan_of_every_row_gives(midnight_ms: int) -> None:
    paid, said = log()
    assert differences(snapshot(history(paid, said), midnight_ms), paid, said) == []


def test_the_log_holds_what_makes_it_hard() -> None:
    paid, said = log()
    assert any(p.at_ms // DAY_MS < p.sent_ms // DAY_MS for p in paid), "late over a midnight"
    assert any(p.at_ms % DAY_MS == 0 for p in paid), "at a midnight"
    assert len(oracle.once(paid)) < len(paid), "repeated"
    known = [oracle.fraud_at(said, BEGIN_MS + day * DAY_MS) for day in range(DAYS)]
    assert any(before - after for before, after in pairwise(known)), "corrected"


def moved(said: list[Said], ms: int) -> list[Said]:
    return [Said(s.transaction, s.card, s.is_fraud, s.known_ms - ms) for s in said]


def punctual(paid: list[Paid]) -> list[Paid]:
    return [replace(p, sent_ms=p.at_ms) for p in paid]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("labels of tomorrow", lambda paid, said: (paid, moved(said, DAY_MS))),
        ("rows that were sent after the midnight", lambda paid, said: (punctual(paid), said)),
        ("the labels of yesterday only", lambda paid, said: (paid, moved(said, -DAY_MS))),
        ("labels as they came first", lambda paid, said: (paid, list({(s.card, s.transaction): s for s in reversed(said)}.values()))),
    ],
)  # fmt: skip
def test_a_snapshot_that_knows_something_else_is_caught(
    fault: str, told: Callable[[list[Paid], list[Said]], tuple[list[Paid], list[Said]]]
) -> None:
    paid, said = log()
    wrong = [name for at in MIDNIGHTS[3:] for name in differences(snapshot(history(*told(paid, said)), at), paid, said)]
    assert wrong, fault
    if "label" in fault:
        assert all("fraud" in name for name in wrong), wrong


def test_the_same_night_made_later_is_the_same() -> None:
    paid, said = log()
    early = [p for p in paid if p.sent_ms < MIDNIGHTS[3]], [s for s in said if s.known_ms < MIDNIGHTS[3]]
    then, later = snapshot(history(*early), MIDNIGHTS[3]), snapshot(history(paid, said), MIDNIGHTS[3])
    assert then.cards.equals(later.cards)
    assert then.terminals.equals(later.terminals)


def test_a_moment_that_is_no_midnight_is_refused() -> None:
    with pytest.raises(ValueError, match="no midnight"):
        snapshot(history(*log()), MIDNIGHTS[1] + 1)


def rows_at(*times_ms: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "card_id": ["c1"] * len(times_ms),
            "terminal_id": ["m1"] * len(times_ms),
            "occurred_at_ms": list(times_ms),
            "request_amount_minor": [500.0] * len(times_ms),
            "request_hour": [0.0] * len(times_ms),
            "request_weekday": [0.0] * len(times_ms),
        }
    )


def test_a_row_is_joined_with_the_midnight_before_it() -> None:
    #  midnight            midnight + 1 d
    #     |--------------------|--------
    #     x (at it)          x  x
    paid, said = log()
    first = MIDNIGHTS[3]
    times = [first + DAY_MS - 1, first, first + DAY_MS]
    asked: list[int] = []

    def of_night(midnight_ms: int) -> Snapshot:
        asked.append(midnight_ms)
        return snapshot(history(paid, said), midnight_ms)

    vectors = vectors_for(rows_at(*times), of_night)
    assert asked == [first, first + DAY_MS]
    np.testing.assert_array_equal(vectors[0, 3:], vectors[1, 3:])
    assert not np.array_equal(vectors[0, 3:], vectors[2, 3:], equal_nan=True)


def test_a_row_older_than_the_snapshot_is_never_joined_with_it() -> None:
    found = snapshot(history(*log()), MIDNIGHTS[3])
    with pytest.raises(ValueError, match="looking ahead"):
        joined_with(rows_at(MIDNIGHTS[3] - 1), found)
