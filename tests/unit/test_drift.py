"""Distances and alarms against the textbook's formulas, written out slowly, and against chance.

Rule 1. A window's counts do not depend on how its rows came in batches.
"""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2

from fraud import drift
from fraud.drift import Alarm, Bins, Reference, Window, binned_ks, chance_psi, jensen_shannon, judge, psi
from fraud.features import NAMES

counts = st.lists(st.integers(0, 5000), min_size=2, max_size=12)


@given(counts, st.data())
def test_distances_are_those_of_the_textbook(reference: list[int], data: st.DataObject) -> None:
    size = len(reference)
    window = data.draw(st.lists(st.integers(0, 5000), min_size=size, max_size=size))
    if not sum(reference) or not sum(window):
        return
    p = [(c + 0.5) / (sum(reference) + 0.5 * size) for c in reference]
    q = [(c + 0.5) / (sum(window) + 0.5 * size) for c in window]
    expected = sum((b - a) * log(b / a) for a, b in zip(p, q, strict=True))
    assert psi(np.array(reference), np.array(window)) == pytest.approx(expected)
    assert jensen_shannon(np.array(reference), np.array(window)) == pytest.approx(
        float(jensenshannon(reference, window, base=2)), abs=1e-7
    )
    cumulated = [abs(sum(reference[:i]) / sum(reference) - sum(window[:i]) / sum(window)) for i in range(size + 1)]
    assert binned_ks(np.array(reference), np.array(window)) == pytest.approx(max(cumulated))


def test_equal_shares_have_no_distance_and_disjoint_ones_the_largest() -> None:
    one, other = np.array([100, 0, 300]), np.array([0, 50, 0])
    assert jensen_shannon(one, one * 3) == pytest.approx(0, abs=1e-7)
    assert (jensen_shannon(one, other), binned_ks(np.array([4, 0]), np.array([0, 9]))) == (1, 1)


def test_chance_exceeds_its_bound_as_rarely_as_stated() -> None:
    bound = chance_psi(20_000, 500, 11)
    assert bound == pytest.approx((1 / 20_000 + 1 / 500) * chi2.ppf(1 - 1e-4, 10), rel=0.02)
    random = np.random.default_rng(3)
    share = np.arange(1, 12) / np.arange(1, 12).sum()
    exceeded = sum(psi(random.multinomial(20_000, share), random.multinomial(500, share)) > bound for _ in range(3000))
    moved = np.roll(share, 2)
    found = sum(psi(random.multinomial(20_000, share), random.multinomial(500, moved)) > bound for _ in range(100))
    assert exceeded <= 3
    assert found == 100


def test_few_values_are_counted_one_by_one_and_a_new_one_is_unseen() -> None:
    bins = Bins.of([0.0, 1, 1, 3])
    #                               0  1  3 | unseen, null, outside
    assert bins.count([0, 3, 2, 9, np.nan, 3]).tolist() == [1, 0, 2, 2, 1, 2]


def test_many_values_are_counted_in_tenths_that_are_open_at_both_ends() -> None:
    bins = Bins.of(np.arange(1000.0))
    assert (bins.size, bins.by_value) == (10, False)
    assert bins.count(np.arange(1000.0)).tolist() == [100] * 10 + [0, 0, 0]
    outside = bins.count([-5, 4000, 12])
    assert (outside[0], outside[9], outside[-1]) == (2, 1, 2)


def test_a_column_without_any_value_has_only_missing_ones_and_a_value_is_unseen() -> None:
    bins = Bins.of([np.nan, np.nan])
    assert bins.count([np.nan, 4.0]).tolist() == [1, 1, 1]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50), st.integers(0, 50))
def test_a_window_is_the_sum_of_its_batches(scores: list[float], cut: int) -> None:
    reference = some_reference()
    column = np.array(scores, np.float32)
    whole, parts = Window(0, 1), Window(0, 1)
    whole.add_scores(reference, column)
    parts.add_scores(reference, column[:cut])
    parts.add_scores(reference, column[cut:])
    assert (whole.counts["score"] == parts.counts["score"]).all()
    assert (whole.alerted, whole.rows("score")) == (parts.alerted, len(scores))
    assert whole.probability == pytest.approx(parts.probability)


def some_reference() -> Reference:
    random = np.random.default_rng(1)
    columns = {name: random.normal(size=5000) for name in NAMES[:3]}
    return Reference.of("v", 0.9, {**columns, "score": random.random(5000).astype(np.float32)})


def window_of(rows: int, shift: float = 0.0, seed: int = 2) -> Window:
    random, window = np.random.default_rng(seed), Window(0, 1)
    window.add_features(some_reference(), (random.normal(size=(rows, 3)) + shift).astype(np.float32), NAMES[:3])
    window.add_scores(some_reference(), random.random(rows).astype(np.float32))
    return window


def test_a_window_with_too_few_rows_is_not_judged() -> None:
    assert judge(some_reference(), window_of(drift.ROWS_MIN - 1)) is None
    assert judge(some_reference(), window_of(drift.ROWS_MIN)) is not None


def test_what_moved_is_above_its_threshold_and_the_rest_below() -> None:
    judged = judge(some_reference(), window_of(2000, shift=1.0))
    assert judged is not None
    assert judged.columns[NAMES[0]].excess > 1 > judged.columns["score"].excess
    assert judged.columns[NAMES[0]].by == "psi"
    assert judged.alert_share == pytest.approx(0.1, abs=0.03)
    assert judged.excesses()[drift.ALERT_RATE] < 0.5


def test_the_weekday_is_shown_but_never_an_alarm() -> None:
    assert set(NAMES) >= drift.CALENDAR, "a calendar feature has another name now"
    reference = Reference.of("v", 0.5, {"request_weekday": np.arange(7000) % 7, "score": np.zeros(7000)})
    window = Window(0, 1)
    window.add_features(reference, np.full((1000, 1), 3, np.float32), ("request_weekday",))
    judged = judge(reference, window)
    assert judged is not None
    assert judged.columns["request_weekday"].excess > 1
    assert "request_weekday" not in judged.excesses()


def test_an_alarm_needs_two_windows_in_a_row_either_way() -> None:
    def after(*excesses: float) -> list[bool]:
        state, raised = Alarm(), []
        for excess in excesses:
            state = state.after(excess)
            raised.append(state.raised)
        return raised

    assert after(1.5, 0.4, 1.5, 1.5) == [False, False, False, True]
    # Between half the threshold and the threshold nothing changes.
    assert after(1.5, 1.5, 0.7, 0.4, 0.7, 0.4, 0.4) == [False, True, True, True, True, True, False]


def test_a_rate_of_alerts_is_off_by_a_factor_and_by_more_than_chance() -> None:
    reference = some_reference()  # a tenth alerts

    def excess(every: int, rows: int) -> float:
        window = Window(0, 1)
        window.add_scores(reference, np.where(np.arange(rows) % every == 0, 0.95, 0.2).astype(np.float32))
        judged = judge(reference, window)
        assert judged is not None
        return judged.excesses()[drift.ALERT_RATE]

    assert excess(every=30, rows=4000) > 1
    assert excess(every=15, rows=4000) < 1, "within the factor, though more than chance"
    assert excess(every=3, rows=4000) > 1
    rare = Reference.of("v", 0.9, {"score": (np.arange(20_000) % 2000 == 0).astype(np.float32)})
    window = Window(0, 1)
    window.add_scores(rare, (np.arange(500) % 250 == 0).astype(np.float32))
    judged = judge(rare, window)
    assert judged is not None
    assert judged.excesses()[drift.ALERT_RATE] < 1, "four times the rate, but two alerts are chance"
