"""The feature views: names by rule, one order, one hash.

Rule 1. A name that changes breaks every model and every stored vector: the names stand here once more, on purpose.
"""

from __future__ import annotations

import math

import pytest

from fraud import features
from fraud.features import CARD_NAMES, CARD_SPAN_MS, FEATURES, NAMES, REQUEST_NAMES, TERMINAL_NAMES, TERMINAL_SPAN_MS
from fraud.windows import DAY_MS

CARD = (
    "count", "sum_amount_minor", "mean_amount_minor", "std_amount_minor", "max_amount_minor", "distinct_terminals",
    "distinct_merchants", "distinct_devices", "distinct_countries", "small_share",
)  # fmt: skip
TERMINAL = ("count", "sum_amount_minor", "distinct_cards", "small_share")
RISK = ("matured_count", "fraud_count", "fraud_share")
EXPECTED = [
    "request_amount_minor",
    "request_hour",
    "request_weekday",
    *[f"card_{n}_{w}" for w in ("5m", "1h", "24h", "7d", "30d") for n in CARD],
    "card_amount_over_mean_30d",
    "card_amount_deviations_30d",
    "card_night_share_30d",
    "card_amount_over_recent_median",
    "card_seconds_since_last",
    "card_distance_km_since_last",
    "card_speed_kmh_since_last",
    "card_new_device",
    "card_new_country",
    "card_new_merchant",
    "card_age_days",
    "card_max_amount_over_typical_7d",
    "card_amount_over_typical",
    *[f"terminal_{n}_{w}" for w in ("5m", "1h", "24h", "7d") for n in TERMINAL],
    *[f"terminal_{n}_{w}" for w in ("1d", "7d", "28d") for n in RISK],
    "terminal_days_since_first_fraud",
    "terminal_days_since_last_fraud",
    "terminal_fraud_streak",
    "terminal_unexplained_fraud_streak",
    "terminal_days_since_last_genuine",
]


def test_the_names_follow_the_rule_and_keep_their_order() -> None:
    assert list(NAMES) == EXPECTED


def test_the_vector_is_request_then_card_then_terminal() -> None:
    assert NAMES == REQUEST_NAMES + CARD_NAMES + TERMINAL_NAMES
    assert len(set(NAMES)) == len(NAMES)


def test_the_spans_are_the_longest_window_and_its_delay() -> None:
    assert CARD_SPAN_MS == 30 * DAY_MS
    assert TERMINAL_SPAN_MS == (7 + 28) * DAY_MS


def test_the_hash_is_that_of_the_released_views() -> None:
    #  It changes with any view, window or KERNEL_VERSION: state and models of another hash are then never read.
    assert features.FEATURE_HASH == "6639b88a9ef4"


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_features_default_is_within_its_range_or_no_value(feature: features.Feature) -> None:
    assert feature.low <= feature.high
    assert math.isnan(feature.default) or feature.low <= feature.default <= feature.high
    assert feature.meaning
    assert feature.unit
