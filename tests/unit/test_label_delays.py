"""The delays that are drawn are the delays that are stated.

Rule 1. One large fixed draw is compared with the stated distributions by Kolmogorov-Smirnov distances, whose 1 % limit
        for n values is 1.63 / sqrt(n); a wrong parameter is shown to exceed it.
"""

from __future__ import annotations

from math import erf, log, sqrt

import numpy as np
import pytest

from fraud.windows import DAY_MS
from producer.world.label_delays import (
    BENCHMARK,
    CHARGEBACK,
    CUSTOMER_REPORT,
    NEVER,
    REALISTIC,
    KnownLater,
    LabelDelays,
    known_later,
)

ROWS = 60_000
AT = np.full(ROWS, 1_735_700_000_000)


def drawn(fraud: bool, delays: LabelDelays = REALISTIC, seed: int = 1) -> KnownLater:
    return known_later(np.random.default_rng(seed), np.full(ROWS, fraud), AT, delays)


def days(known: KnownLater, source: int) -> np.ndarray:
    return np.sort((known.known_at_ms - AT)[known.source == source] / DAY_MS)


def ks_distance(values: np.ndarray, cdf: np.ndarray) -> float:
    steps = np.arange(1, len(values) + 1) / len(values)
    return float(max(np.abs(steps - cdf).max(), np.abs(steps - 1 / len(values) - cdf).max()))


def lognormal_cdf(values: np.ndarray, mean: float, sigma: float) -> np.ndarray:
    centre = log(mean) - sigma**2 / 2
    return np.array([0.5 * (1 + erf((log(v) - centre) / (sigma * sqrt(2)))) for v in values])


def test_frauds_become_known_by_the_stated_shares() -> None:
    source = drawn(fraud=True).source
    for which, share in ((CUSTOMER_REPORT, 0.70), (CHARGEBACK, 0.20), (NEVER, 0.10)):
        assert abs((source == which).mean() - share) < 4 * sqrt(share * (1 - share) / ROWS)


def test_reports_are_log_normal_with_the_stated_mean_and_the_check_can_fail() -> None:
    values = days(drawn(fraud=True), CUSTOMER_REPORT)
    limit = 1.63 / sqrt(len(values))
    assert ks_distance(values, lognormal_cdf(values, 5.0, 1.0)) < limit
    assert ks_distance(values, lognormal_cdf(values, 5.5, 1.0)) > limit
    assert abs(values.mean() - 5.0) < 0.15


def test_chargebacks_are_even_between_their_limits_and_the_check_can_fail() -> None:
    values = days(drawn(fraud=True), CHARGEBACK)
    limit = 1.63 / sqrt(len(values))
    assert ks_distance(values, (values - 30) / 90) < limit
    assert ks_distance(values, np.clip((values - 30) / 85, 0, 1)) > limit


def test_of_the_genuine_only_mistakes_are_reported_and_they_say_fraud() -> None:
    known = drawn(fraud=False, delays=LabelDelays(mistaken_share=0.01))
    assert set(np.unique(known.source)) == {NEVER, CUSTOMER_REPORT}
    assert 450 < (known.source == CUSTOMER_REPORT).sum() < 750
    assert (known.is_fraud == (known.source == CUSTOMER_REPORT)).all()


def test_what_is_never_known_has_no_moment() -> None:
    known = drawn(fraud=True)
    assert (known.known_at_ms[known.source == NEVER] == 0).all()
    assert (known.known_at_ms[known.source != NEVER] >= AT[0] + 3_600_000).all()


def test_in_benchmark_mode_everything_is_known_exactly_a_week_later() -> None:
    for fraud in (True, False):
        known = drawn(fraud, BENCHMARK)
        assert (known.known_at_ms == AT + 7 * DAY_MS).all() and (known.is_fraud == fraud).all()


def test_a_rows_fate_does_not_depend_on_what_the_others_are() -> None:
    one = known_later(np.random.default_rng(3), np.array([True, False, True]), AT[:3])
    other = known_later(np.random.default_rng(3), np.array([True, True, True]), AT[:3])
    assert one.known_at_ms[[0, 2]].tolist() == other.known_at_ms[[0, 2]].tolist()


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"report_share": -0.1}, "report_share"),
        ({"report_share": 0.9, "chargeback_share": 0.2}, "together above 1"),
        ({"report_days_mean": 0}, "report_days_mean"),
        ({"chargeback_days_min": 130}, "chargeback_days_min"),
        ({"mistaken_share": 2}, "mistaken_share"),
        ({"exact_days": -1}, "exact_days"),
    ],
)
def test_impossible_delays_are_refused_by_name(wrong: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        LabelDelays(**wrong)
