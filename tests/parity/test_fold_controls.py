"""Negative controls: mistakes that feature code makes are made on purpose, and the comparison of the parity tests finds each.

Rule 1. The comparison is that of the parity tests: (outcome, vector bytes, late) of each row against the oracle's.
Rule 2. A control first shows that the same log without the mistake has no difference.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fraud import fold_kernel as kernel
from fraud.features import NAMES
from fraud.fold import CARD_WIDTH, LABEL, CardFold, TerminalFold
from fraud.windows import DAY_MS, HOUR_MS
from tests.parity.folded_logs import (
    Row,
    Served,
    Store,
    card_columns,
    expect_cards,
    expect_terminals,
    fold_rows,
    in_batches,
)
from tests.parity.oracle import CardOracle, Paid, TerminalOracle, float32

FIRST_MS = 1_522_540_800_000


def log() -> list[Row]:
    """A month of two cards, on the hour so that window edges are met, with late and tied transactions."""
    random, rows = np.random.default_rng(4), list[Row]()
    for i in range(400):
        late_ms = int(random.integers(1, 30)) * HOUR_MS if random.random() < 0.1 else 0
        t = FIRST_MS + i // 2 * 4 * HOUR_MS + int(random.integers(0, 3)) * HOUR_MS - late_ms
        rows.append(Row(f"e{i % 2}", i, t, int(random.integers(1, 10**9)), other=f"o{random.integers(0, 9)}"))
    return rows


LOG = log()


def spread() -> list[Row]:
    """The same with amounts of a person: now and then five times what is usual."""
    random = np.random.default_rng(5)
    return [replace(row, amount=int(random.normal(5000, 1500)) * (5 if random.random() < 0.1 else 1)) for row in LOG]


def labelled() -> list[Row]:
    """The same at terminals, with amounts that are striking here and there and labels a week later, nine in ten fraud."""
    random, rows = np.random.default_rng(6), list[Row]()
    for i, row in enumerate(LOG):
        rows.append(replace(row, is_striking=int(random.random() < 0.3)))
        if i >= 84:
            of = LOG[i - 84]
            rows.append(Row(of.entity, of.id_hash, of.t, 0, LABEL, int(random.random() < 0.9)))
    return rows


SPREAD, LABELLED = spread(), labelled()


def wrong_columns(found: list[Served], expected: list[Served]) -> set[str]:
    """Names of the features that differ anywhere; the comparison of bytes first."""
    if found == expected:
        return set()
    names: set[str] = set()
    for (_, one, _), (_, other, _) in zip(found, expected, strict=True):
        if one is not None and other is not None:
            mine, theirs = np.frombuffer(one, np.uint32), np.frombuffer(other, np.uint32)
            shown = NAMES if len(mine) == CARD_WIDTH else NAMES[CARD_WIDTH:]
            names |= {shown[i] for i in np.flatnonzero(mine != theirs)}
    return names


def test_without_a_mistake_there_is_no_difference() -> None:
    assert fold_rows(CardFold(), LOG) == expect_cards(LOG)
    assert fold_rows(TerminalFold(), LOG) == expect_terminals(LOG)


@pytest.mark.parametrize("fold", [CardFold, TerminalFold])
def test_a_window_that_is_closed_on_the_left_is_caught(
    fold: type[CardFold] | type[TerminalFold], monkeypatch: pytest.MonkeyPatch
) -> None:
    #  right  (---------]        wrong  [---------]        they differ in what is exactly one window old
    monkeypatch.setattr(fold, "windows_ms", fold.windows_ms + 1)
    expected = expect_cards(LOG) if fold is CardFold else expect_terminals(LOG)
    wrong = wrong_columns(fold_rows(fold(), LOG), expected)
    assert {name.split("_", 1)[1] for name in wrong} >= {"count_1h", "count_24h"}


class FloatSums(CardOracle):
    """Sums and means as most code has them: a float32 that is added to."""

    def vector(self, seen: list[Paid], x: Paid) -> list[float]:
        values = super().vector(seen, x)
        inside = [y.amount for y in seen if x.t - 30 * DAY_MS < y.t <= x.t]
        total = np.float32(0)
        for amount in inside:
            total += np.float32(amount)
        values[NAMES.index("card_sum_amount_minor_30d")] = float(total)
        return values


class FloatSquares(CardOracle):
    """A standard deviation as much code has it: the mean of the squares less the square of the mean, in float32."""

    def vector(self, seen: list[Paid], x: Paid) -> list[float]:
        values = super().vector(seen, x)
        inside = np.array([y.amount for y in seen if x.t - 30 * DAY_MS < y.t <= x.t], np.float32)
        if len(inside):
            spread = np.mean(inside * inside) - np.mean(inside) ** 2
            values[NAMES.index("card_std_amount_minor_30d")] = float(np.sqrt(max(spread, np.float32(0))))
        return values


class MeanOfAll(CardOracle):
    """A typical amount that its own outliers move: the mean of all, which most code takes."""

    def typical(self, month: list[Paid], x: Paid) -> list[float]:
        largest, _ = super().typical(month, x)
        amounts = [y.amount for y in month]
        return [largest, x.amount / (max(sum(amounts), 100 * len(amounts)) / len(amounts)) if amounts else np.nan]


class SaidAnew(CardOracle):
    """What is usual is said anew for every vector, from the history as late transactions have made it since."""

    def typical(self, month: list[Paid], x: Paid) -> list[float]:
        for i, y in enumerate(month):
            super().typical([z for z in month[:i] if z.t > y.t - 30 * DAY_MS], y)
        return super().typical(month, x)


@pytest.mark.parametrize(
    ("oracle", "caught"),
    [
        (MeanOfAll, {"card_amount_over_typical"}),
        (SaidAnew, {"card_amount_over_typical", "card_max_amount_over_typical_7d"}),
    ],
)
def test_a_typical_amount_that_is_not_what_it_was_on_arrival_is_caught(
    oracle: Callable[[], CardOracle], caught: set[str]
) -> None:
    wrong = oracle()
    found = [wrong.apply(row.entity, row.paid()) for row in SPREAD]
    told = [(outcome, None if vector is None else vector.tobytes(), late) for outcome, vector, late in found]
    assert wrong_columns(told, fold_rows(CardFold(), SPREAD)) == caught


class ExplainedOnesToo(TerminalOracle):
    """A streak that counts frauds whose amount explains them."""

    def vector(self, seen: list[Paid], t: int) -> list[float]:
        values = super().vector(seen, t)
        values[-2] = values[-3]
        return values


class RestartedByExplainedOnes(TerminalOracle):
    """A streak that an explained fraud ends, as a genuine transaction does."""

    def vector(self, seen: list[Paid], t: int) -> list[float]:
        values = super().vector(seen, t)
        matured = sorted((y for y in seen if t - 35 * DAY_MS < y.t <= t - 7 * DAY_MS), key=lambda y: y.t)
        streak = 0
        while streak < len(matured) and matured[-1 - streak].is_fraud and not matured[-1 - streak].is_striking:
            streak += 1
        values[-2] = streak
        return values


@pytest.mark.parametrize("oracle", [ExplainedOnesToo, RestartedByExplainedOnes])
def test_a_streak_that_takes_explained_frauds_otherwise_is_caught(oracle: Callable[[], TerminalOracle]) -> None:
    assert fold_rows(TerminalFold(), LABELLED) == expect_terminals(LABELLED)
    wrong, served = oracle(), list[Served]()
    for row in LABELLED:
        if row.kind == LABEL:
            served.append((wrong.label(row.entity, row.id_hash, row.t, bool(row.is_fraud)), None, False))
        else:
            outcome, vector, late = wrong.apply(row.entity, row.paid())
            served.append((outcome, None if vector is None else vector.tobytes(), late))
    assert wrong_columns(served, fold_rows(TerminalFold(), LABELLED)) == {"terminal_unexplained_fraud_streak"}


@pytest.mark.parametrize(
    ("oracle", "caught"), [(FloatSums, "card_sum_amount_minor_30d"), (FloatSquares, "card_std_amount_minor_30d")]
)
def test_float_sums_are_caught_in_the_feature_that_has_them(oracle: Callable[[], CardOracle], caught: str) -> None:
    by_floats = oracle()
    found = [by_floats.apply(row.entity, row.paid()) for row in LOG]
    told = [(outcome, None if vector is None else vector.tobytes(), late) for outcome, vector, late in found]
    assert wrong_columns(told, fold_rows(CardFold(), LOG)) == {caught}


def test_a_replay_in_the_order_of_event_time_is_caught() -> None:
    order = sorted(range(len(LOG)), key=lambda i: LOG[i].t)
    replayed = dict(zip(order, fold_rows(CardFold(), [LOG[i] for i in order]), strict=True))
    wrong = wrong_columns([replayed[i] for i in range(len(LOG))], expect_cards(LOG))
    assert {"card_count_24h", "card_sum_amount_minor_7d", "card_seconds_since_last"} <= wrong


def test_links_that_are_lost_are_caught_in_what_is_distinct() -> None:
    """The distinct values of late reads hang on the links between equal values: here all of them are cut."""
    fold, served = CardFold(), list[Served]()
    for at in range(0, len(LOG), 20):
        served += fold_rows(fold, LOG[at : at + 20])
        halves = fold._pool.view(np.int32)
        halves[:, kernel.CARD_LINK : kernel.CARD_LINK + kernel.CARD_VALUES] &= 1
    assert any("distinct" in name for name in wrong_columns(served, expect_cards(LOG)))


# -- heavy entities -------------------------------------------------------------------------------------------------------------


def busy_card(count: int) -> list[Row]:
    """A card with 100,000 transactions a day, one in fifty late by up to half an hour; some ids and some values come again."""
    random, rows = np.random.default_rng(8), list[Row]()
    for i in range(count):
        late_ms = int(random.integers(1, HOUR_MS // 2)) if random.random() < 0.02 else 0
        hashed = i if random.random() < 0.99 else int(random.integers(0, i + 1))
        t = FIRST_MS + i * DAY_MS // 100_000 - late_ms
        where = (
            f"t{int(random.zipf(1.3)) % 5000}",
            f"m{random.integers(0, 400)}",
            f"d{random.integers(0, 3)}",
            "DE",
            (5000, 1000),
        )
        rows.append(Row("c", hashed, t, int(random.integers(0, 50_000)), 0, 0, *where))
    return rows


def test_a_card_with_100_000_transactions_a_day_equals_the_oracle() -> None:
    rows = busy_card(1500)
    assert fold_rows(CardFold(rows=4), rows) == expect_cards(rows)
    assert fold_rows(TerminalFold(rows=4), rows) == expect_terminals(rows)


def say_what_is_usual(day: list[Paid]) -> None:
    """What the oracle says of each as it arrives, by running sums, which a day of them needs; `day` is within every window."""
    usual, total, times = list[Paid](), 0, list[int]()
    for x in day:
        after = usual[bisect.bisect_right(times, x.t) :]
        count, amount = len(usual) - len(after), total - sum(y.amount for y in after)
        if count:
            x.ratio = int(min(x.amount / (max(amount, 100 * count) / count), 320.0) * 100.0) / 100.0
        x.is_usual = count < 3 or x.amount * count <= 3 * amount
        if x.is_usual:
            at = len(usual) - len(after)
            usual.insert(at, x)
            times.insert(at, x.t)
            total += x.amount


def test_a_whole_day_of_such_a_card_is_the_same_in_batches_and_at_once_and_its_last_vector_is_the_oracles() -> None:
    rows = busy_card(30_000)
    once = fold_rows(CardFold(), rows)
    fold = CardFold(rows=4)
    assert in_batches(fold, rows, [500], Store(fold, 1).between) == once
    oracle = CardOracle()
    oracle.seen["c"] = [row.paid() for row, (outcome, _, _) in zip(rows, once, strict=True) if outcome == "accepted"]
    say_what_is_usual(oracle.seen["c"])
    last = Row("c", 2**63, rows[-1].t, 700, 0, 0, "t1", "m1", "d1", "FR", (100, 100))
    expected = float32(oracle.vector(oracle.seen["c"], last.paid()))
    assert fold.read("c", card_columns([last])).tobytes() == expected.tobytes()
