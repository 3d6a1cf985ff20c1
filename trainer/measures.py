"""What scores are worth: quality, alerts within the budget, and money, for many models on the same rows.

Rule 1. Every model is measured on the same rows, and every draw of the bootstrap weighs them alike: differences are paired.
Rule 2. What is drawn anew is cards, not rows: the transactions of one card stand and fall together, and seven days are too
        few to draw days from. Frauds at one terminal are still taken as independent, so the intervals are a little narrow.
Rule 3. Rows of equal score are taken together; where the alert budget ends among them, each has the same share of it.

An interval holds the middle of the draws (Poisson bootstrap: a card counts k times with the chance of Poisson(1)).
Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979; Chamandy, Muralidharan,
Najmi, Naidu, "Estimating uncertainty for massive data streams", Google, 2012.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.decision import APPROVE, COSTS, DECLINE, REVIEW, Costs, decide
from fraud.model import Floats
from fraud.windows import DAY_MS

Array = npt.NDArray[np.float64]

MEASURES: Final = ("auc", "ap", "cp_at_100", "precision_at_budget", "recall_at_budget", "cost_minor_a_day", "brier")
LOWER_IS_BETTER: Final = frozenset({"cost_minor_a_day", "brier"})
DRAWS: Final = 200
CONFIDENCE: Final = 0.95
_K: Final = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value and where the middle of its draws lies; NaN where it is undefined (one class only)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """The rows that everything is measured on; card: 0 .. cards - 1; days: distinct days (UTC) among them."""

    is_fraud: npt.NDArray[np.bool_]
    amount_minor: npt.NDArray[np.int64]
    card: npt.NDArray[np.int64]
    cards: int
    day: npt.NDArray[np.int64]
    days: int
    alerts_per_day_max: int
    costs: Costs = COSTS

    @classmethod
    def of(cls, frame: pl.DataFrame, alerts_per_day_max: int, costs: Costs = COSTS) -> JudgedRows:
        """From rows with card_id, occurred_at_ms, is_fraud, request_amount_minor (exact up to 2^24 minor units)."""
        card = frame["card_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
        day = (frame["occurred_at_ms"] // DAY_MS).to_numpy()
        return cls(
            is_fraud=frame["is_fraud"].to_numpy(),
            amount_minor=frame["request_amount_minor"].fill_nan(0).cast(pl.Int64).to_numpy(),
            card=card,
            cards=int(card.max()) + 1 if len(card) else 0,
            day=day,
            days=max(1, len(np.unique(day))),
            alerts_per_day_max=alerts_per_day_max,
            costs=costs,
        )

    @property
    def budget(self) -> int:
        """Alerts over all days."""
        return self.alerts_per_day_max * self.days


def cost_minor(rows: JudgedRows, decision: npt.NDArray[np.uint8]) -> Array:
    """What each decision costs now that the truth is known, float64 [rows] minor units (see fraud/decision.py)."""
    approved = np.where(rows.is_fraud, rows.amount_minor + rows.costs.chargeback_minor, 0)
    declined = np.where(rows.is_fraud, 0, rows.costs.refusal_minor)
    chosen = np.select([decision == APPROVE, decision == REVIEW], [approved, rows.costs.review_minor], declined)
    assert DECLINE == 2  # the remaining one
    return chosen.astype(np.float64)


@dataclass(frozen=True)
class Ranking:
    """One model's order of the rows, ready to be measured under many weights."""

    rows: JudgedRows
    score: Floats
    _order: npt.NDArray[np.intp] = field(init=False)
    _ends: npt.NDArray[np.intp] = field(init=False)
    _by_day: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]] = field(init=False)
    _by_row: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        order = np.argsort(-self.score, kind="stable")
        sorted_score = self.score[order]
        set_once = object.__setattr__
        set_once(self, "_order", order)
        set_once(self, "_ends", np.flatnonzero(np.r_[sorted_score[1:] != sorted_score[:-1], True]))
        set_once(self, "_by_day", _cards_by_day(self.rows, self.score))
        decided = cost_minor(self.rows, decide(self.score, self.rows.amount_minor, 0.0, self.rows.costs))
        passed = cost_minor(self.rows, np.full(len(order), APPROVE, np.uint8))
        by_row = {
            "fraud": self.rows.is_fraud.astype(np.float64)[order],
            "decided": decided[order],
            "passed": passed[order],
            "squares": ((self.score.astype(np.float64) - self.rows.is_fraud) ** 2)[order],
        }
        set_once(self, "_by_row", by_row)

    def measures(self, card_weight: Array) -> Array:
        """MEASURES in their order, NaN where undefined; card_weight [cards]: how often each card counts."""
        weight = card_weight[self.rows.card][self._order]
        if not len(weight) or weight.sum() == 0:
            return np.full(len(MEASURES), np.nan)
        truth, flagged = self._cumulated(weight * self._by_row["fraud"]), self._cumulated(weight)
        budget = min(self.rows.budget, flagged[-1])
        hits = float(np.interp(budget, flagged, truth))
        fraud = truth[-1] if truth[-1] > 0 else np.nan
        saved = self._cumulated(weight * (self._by_row["passed"] - self._by_row["decided"]))
        cost = float(weight @ self._by_row["passed"]) - float(np.interp(budget, flagged, saved))
        return np.array(
            [
                _auc(truth, flagged),
                _average_precision(truth, flagged) if truth[-1] > 0 else np.nan,
                self._card_precision(card_weight),
                hits / budget if truth[-1] > 0 else np.nan,
                hits / fraud,
                cost / self.rows.days,
                float(weight @ self._by_row["squares"]) / flagged[-1],
            ]
        )

    def recall_of(self, chosen: npt.NDArray[np.bool_], card_weight: Array) -> float:
        """Share of the chosen rows that the budget reaches; NaN when there are none."""
        weight = card_weight[self.rows.card][self._order]
        of_them = self._cumulated(weight * chosen[self._order])
        if not of_them[-1]:
            return float("nan")
        return float(np.interp(self.rows.budget, self._cumulated(weight), of_them) / of_them[-1])

    def _cumulated(self, by_row: Array) -> Array:
        """From nothing flagged to all: sums at or above each distinct score, [distinct + 1]."""
        return np.concatenate([np.zeros(1), np.cumsum(by_row)[self._ends]])

    def _card_precision(self, card_weight: Array) -> float:
        found = np.zeros(self.rows.cards, np.bool_)
        hits = 0.0
        for cards, compromised in self._by_day:
            looked_for = ~found[cards]
            ranked, is_hit = cards[looked_for], compromised[looked_for]
            weight = card_weight[ranked]
            taken = np.clip(_K - (np.cumsum(weight) - weight), 0, weight)
            hits += float(taken @ is_hit)
            found[ranked[(taken > 0) & is_hit]] = True
        return hits / (_K * len(self._by_day)) if self._by_day else float("nan")


def _cards_by_day(
    rows: JudgedRows, score: Floats
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:  # fmt: skip
    frame = pl.DataFrame({"day": rows.day, "card": rows.card, "score": score, "is_fraud": rows.is_fraud})
    by_card = frame.group_by("day", "card").agg(pl.col("score").max(), pl.col("is_fraud").max())
    ranked = by_card.sort(["day", "score", "card"], descending=[False, True, False])
    return [
        (part["card"].to_numpy(), part["is_fraud"].to_numpy())
        for _, part in ranked.group_by("day", maintain_order=True)
    ]  # fmt: skip


def _auc(truth: Array, flagged: Array) -> float:
    genuine = flagged - truth
    if truth[-1] <= 0 or genuine[-1] <= 0:
        return float("nan")
    return float(np.trapezoid(truth, genuine) / (truth[-1] * genuine[-1]))


def _average_precision(truth: Array, flagged: Array) -> float:
    precision = np.divide(truth, flagged, out=np.zeros_like(truth), where=flagged > 0)
    return float(np.sum(np.diff(truth) * precision[1:]) / truth[-1])


@dataclass(frozen=True, slots=True)
class Measured:
    """Values [models, measures] and their draws [draws, models, measures]."""

    names: tuple[str, ...]
    values: Array
    draws: Array

    def interval(self, name: str, measure: str, confidence: float = CONFIDENCE) -> Interval:
        """A model's measure."""
        model, column = self.names.index(name), MEASURES.index(measure)
        return _interval(float(self.values[model, column]), self.draws[:, model, column], confidence)

    def difference(self, name: str, other: str, measure: str, confidence: float = CONFIDENCE) -> Interval:
        """What `name` has more than `other` of a measure, draw by draw."""
        one, two, column = self.names.index(name), self.names.index(other), MEASURES.index(measure)
        value = float(self.values[one, column] - self.values[two, column])
        return _interval(value, self.draws[:, one, column] - self.draws[:, two, column], confidence)


def measured(rows: JudgedRows, scores: Mapping[str, Floats], seed: int, draws: int = DRAWS) -> Measured:
    """All MEASURES of all models, with the draws of one paired bootstrap."""
    rankings = [Ranking(rows, score) for score in scores.values()]
    values = np.array([ranking.measures(np.ones(rows.cards)) for ranking in rankings])
    random = np.random.default_rng(seed)
    drawn = np.empty((draws, len(rankings), len(MEASURES)))
    for draw in range(draws):
        weight = random.poisson(1.0, rows.cards).astype(np.float64)
        drawn[draw] = [ranking.measures(weight) for ranking in rankings]
    return Measured(tuple(scores), values, drawn)


def recall_by_scenario(
    rows: JudgedRows, scenario: pl.Series, scores: Mapping[str, Floats], seed: int, draws: int = DRAWS
) -> dict[str, dict[str, Interval]]:
    """Recall at the alert budget of each scenario's frauds, by scenario and model.

    scenario: a name for each row, null for none. It comes from the truth, which no training reads: only an evaluation
    outside of training can give it.
    """
    rankings = {name: Ranking(rows, score) for name, score in scores.items()}
    weights = np.random.default_rng(seed).poisson(1.0, (draws, rows.cards)).astype(np.float64)
    found: dict[str, dict[str, Interval]] = {}
    for each in sorted(scenario.drop_nulls().unique().to_list()):
        chosen = (scenario == each).fill_null(False).to_numpy() & rows.is_fraud
        if chosen.any():
            found[each] = {
                name: _interval(
                    ranking.recall_of(chosen, np.ones(rows.cards)),
                    np.array([ranking.recall_of(chosen, weight) for weight in weights]),
                    CONFIDENCE,
                )
                for name, ranking in rankings.items()
            }
    return found


def _interval(value: float, draws: Array, confidence: float) -> Interval:
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
