"""Reason codes and features in words.

Rule 1. Words derive from the feature's definition; what has no short phrase here is told by its definition's own meaning.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from fraud import rules
from fraud.features import FEATURES, VIEWS, Entity, Feature

_PHRASES: Final = {
    "amount_minor": "amount",
    "hour": "hour of the day",
    "weekday": "day of the week",
    "count": "payments",
    "sum_amount_minor": "amount paid",
    "mean_amount_minor": "average amount",
    "std_amount_minor": "spread of the amounts",
    "max_amount_minor": "largest amount",
    "distinct_terminals": "different terminals",
    "distinct_merchants": "different merchants",
    "distinct_devices": "different devices",
    "distinct_countries": "different countries",
    "distinct_cards": "different cards",
    "small_share": "share of small amounts",
    "amount_over_mean": "amount against the card's average",
    "amount_deviations": "how unusual the amount is",
    "night_share": "share of payments at night",
    "amount_over_recent_median": "amount against the recent median",
    "amount_over_typical": "amount against what is usual",
    "max_amount_over_typical": "most unusual amount",
    "seconds_since_last": "time since the last payment",
    "distance_km_since_last": "distance from the last payment",
    "speed_kmh_since_last": "speed since the last payment",
    "new_device": "device not seen before",
    "new_country": "country not seen before",
    "new_merchant": "merchant not seen before",
    "age_days": "age of the card here",
    "matured_count": "payments whose truth is due",
    "fraud_count": "known frauds",
    "fraud_share": "share of known fraud",
    "days_since_first_fraud": "time since the first known fraud",
    "days_since_last_fraud": "time since the last known fraud",
    "fraud_streak": "known frauds in a row",
    "unexplained_fraud_streak": "known frauds in a row with ordinary amounts",
    "days_since_last_genuine": "time since the last payment without known fraud",
}
_SPANS: Final = {
    "5m": "5 minutes",
    "1h": "1 hour",
    "24h": "24 hours",
    "1d": "1 day",
    "7d": "7 days",
    "28d": "28 days",
    "30d": "30 days",
}
_WHOSE: Final = {Entity.REQUEST: "This payment", Entity.CARD: "Card", Entity.TERMINAL: "Terminal"}


@dataclass(frozen=True, slots=True)
class Words:
    """title: a short phrase. meaning: a sentence. unit: of the feature's value, empty for a rule."""

    title: str
    meaning: str
    unit: str


def _titles() -> dict[str, str]:
    titles: dict[str, str] = {}
    for view in VIEWS:
        for aggregate in view.aggregates:
            phrase = _PHRASES.get(aggregate.name, aggregate.meaning)
            windows = view.windows if aggregate.windowed else ()
            for window in windows:
                span = _SPANS.get(window.name, window.name)
                titles[f"{view.entity}_{aggregate.name}_{window.name}"] = f"{phrase}, {span}"
            if not windows:
                titles[f"{view.entity}_{aggregate.name}"] = phrase
    return titles


_TITLES: Final = _titles()


def feature_words(feature: Feature) -> Words:
    """A feature in words."""
    return Words(f"{_WHOSE[feature.entity]}: {_TITLES[feature.name]}", feature.meaning, feature.unit)


def dictionary() -> dict[str, dict[str, Any]]:
    """Every reason code in words, for the browser."""
    found = {feature.name.upper(): asdict(feature_words(feature)) for feature in FEATURES}
    for rule in rules.RULES:
        title = f"Rule: {rule.code.replace('_', ' ').lower()}"
        found[f"RULE_{rule.code}"] = asdict(Words(title, rule.meaning, ""))
    return found
