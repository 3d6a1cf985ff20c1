"""The rules: the simple start that a model must beat, and the fallback before any model.

Rule 1. A rule is data: a code, a meaning, a weight, and the conditions that must all hold, which name features.
Rule 2. A feature without a value (NaN) fulfils no condition.
Rule 3. The score is 1 - product over the fired rules of (1 - weight): each rule is taken as an independent reason,
        whose weight is the rough share of fraud among the transactions it fires for. No rule fired: 0. It is no
        calibrated probability; that is a model's work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.features import NAMES

VERSION: Final = "rules"  # where a model's version stands when the rules decide
REVIEW_THRESHOLD: Final = 0.5


@dataclass(frozen=True, slots=True)
class Condition:
    """`feature` >= `at_least`, which counts in multiples of another feature when `times` names one."""

    feature: str
    at_least: float
    times: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `weight` in (0, 1) is the score when it alone fires."""

    code: str
    meaning: str
    weight: float
    conditions: tuple[Condition, ...]


RULES: Final = (
    Rule(
        "AMOUNT_FAR_ABOVE_MEAN",
        "at least five times the card's usual amount, and far outside its spread",
        0.6,
        (
            Condition("card_amount_over_mean_30d", 5),
            Condition("card_amount_deviations_30d", 5),
            Condition("card_count_30d", 10),
        ),
    ),
    Rule(
        "AMOUNT_ABOVE_OWN_MAX",
        "at least twice the largest amount that the card paid in 30 days",
        0.5,
        (
            Condition("request_amount_minor", 2, times="card_max_amount_minor_30d"),
            Condition("card_count_30d", 20),
        ),
    ),
    Rule(
        "SPEND_BURST_24H",
        "a quarter of what the card spent in 30 days falls in the last 24 hours, and this amount is above its mean",
        0.3,
        (
            Condition("card_sum_amount_minor_24h", 0.25, times="card_sum_amount_minor_30d"),
            Condition("card_amount_over_mean_30d", 2),
            Condition("card_count_30d", 20),
        ),
    ),
    Rule("CARD_VELOCITY_1H", "eight payments by one card within an hour", 0.5, (Condition("card_count_1h", 8),)),
    Rule(
        "CARD_TESTING_1H",
        "five earlier payments within an hour at four merchants or more, most of them small",
        0.7,
        (
            Condition("card_count_1h", 5),
            Condition("card_distinct_merchants_1h", 4),
            Condition("card_small_share_1h", 0.6),
        ),
    ),
    Rule(
        "IMPOSSIBLE_SPEED",
        "at least 200 km from the last payment, faster than an airliner",
        0.7,
        (Condition("card_distance_km_since_last", 200), Condition("card_speed_kmh_since_last", 1000)),
    ),
    Rule(
        "NEW_DEVICE_ABROAD",
        "a device and a country that the card has not shown in 30 days, and an amount above its mean",
        0.5,
        (
            Condition("card_new_device", 1),
            Condition("card_new_country", 1),
            Condition("card_amount_over_mean_30d", 1.5),
            Condition("card_count_30d", 5),
        ),
    ),
    Rule(
        "TERMINAL_FRAUD_STREAK",
        "the terminal's last three payments whose labels are due are all known fraud",
        0.8,
        (Condition("terminal_fraud_streak", 3),),
    ),
    Rule(
        "TERMINAL_FRAUD_7D",
        "a third of the terminal's matured week is known fraud",
        0.7,
        (Condition("terminal_fraud_share_7d", 1 / 3), Condition("terminal_fraud_count_7d", 2)),
    ),
    Rule(
        "TERMINAL_FRAUD_28D",
        "a tenth of the terminal's matured four weeks is known fraud, more than one case",
        0.3,
        (Condition("terminal_fraud_share_28d", 0.1), Condition("terminal_fraud_count_28d", 2)),
    ),
)


@dataclass(frozen=True, slots=True)
class _Conditions:
    """The conditions of all rules side by side, so that a few calls judge them all.

    features, at_least: column and limit of each; scaled: places of those whose limit counts in multiples of a feature,
    scales: the columns of these; firsts: place of each rule's first; kept: 1 - weight of each rule.
    """

    features: npt.NDArray[np.intp]
    at_least: npt.NDArray[np.float32]
    scaled: npt.NDArray[np.intp]
    scales: npt.NDArray[np.intp]
    firsts: npt.NDArray[np.intp]
    kept: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rules: tuple[Rule, ...], names: tuple[str, ...]) -> _Conditions:
        """The conditions of `rules` over the columns `names`."""
        every = [condition for rule in rules for condition in rule.conditions]
        scaled = [(place, names.index(each.times)) for place, each in enumerate(every) if each.times is not None]
        counts = [len(rule.conditions) for rule in rules]
        return cls(
            features=np.array([names.index(each.feature) for each in every], np.intp),
            at_least=np.array([each.at_least for each in every], np.float32),
            scaled=np.array([place for place, _ in scaled], np.intp),
            scales=np.array([column for _, column in scaled], np.intp),
            firsts=np.cumsum([0, *counts[:-1]], dtype=np.intp),
            kept=np.array([1.0 - rule.weight for rule in rules]),
        )


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Rules over the features `names`, which are the columns of the vectors that they judge."""

    version: str
    rules: tuple[Rule, ...]
    names: tuple[str, ...]
    _conditions: _Conditions = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_conditions", _Conditions.of(self.rules, self.names))

    def fired(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which rules fire, bool [rows, rules in their order]; vectors: float32 [rows, names]."""
        all_ = self._conditions
        limits = np.empty((len(vectors), len(all_.features)), np.float32)
        limits[:] = all_.at_least
        limits[:, all_.scaled] *= vectors[:, all_.scales]
        result: npt.NDArray[np.bool_] = np.logical_and.reduceat(
            vectors[:, all_.features] >= limits, all_.firsts, axis=1
        )
        return result

    def score(self, which: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """The score in [0, 1], float32 [rows], of the rules that fired (see Rule 3)."""
        kept = np.where(which, self._conditions.kept, 1.0).prod(axis=1)
        result: npt.NDArray[np.float32] = (1.0 - kept).astype(np.float32)
        return result

    def codes(self, which: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        """Reason codes of the rules that fired for one row, bool [rules]."""
        return tuple(f"RULE_{self.rules[i].code}" for i in np.flatnonzero(which).tolist())


BOOK: Final = RuleBook(VERSION, RULES, NAMES)
fired, score, codes = BOOK.fired, BOOK.score, BOOK.codes
