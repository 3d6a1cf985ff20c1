"""How good decisions were, on transactions whose labels are mature. Pure: columns in, numbers out.

Rule 1. A declined transaction never shows what it was. Where the world hides it, the declined are left out and the few that
        were let through in their stead (explored) count for all of them: weights(), below.
Rule 2. Rows of equal score are taken together in AUC and AP: neither depends on the order of the rows.
Rule 3. None is undefined (no fraud, no genuine one, nobody to detect), never 0.

Weighting by the inverse of the chance to be seen: Horvitz and Thompson, "A Generalization of Sampling Without Replacement
From a Finite Universe", Journal of the American Statistical Association 1952.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.decision import APPROVE, COSTS, DECLINE, REVIEW, Costs
from fraud.windows import DAY_MS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
QUANTILES: Final = (0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Matured:
    """Decided transactions with what became known of them, column by column, each [rows].

    card: any number that stands for the card. decision: index into fraud.decision.DECISIONS. explored: would have been
    declined and was let through. score: probability in [0, 1].
    """

    card: Ints
    occurred_at_ms: Ints
    amount_minor: Ints
    score: npt.NDArray[np.float32]
    decision: npt.NDArray[np.uint8]
    explored: Mask
    is_fraud: Mask

    def __len__(self) -> int:
        return len(self.card)

    def take(self, keep: Mask) -> Matured:
        """The rows of a mask."""
        return Matured(
            self.card[keep],
            self.occurred_at_ms[keep],
            self.amount_minor[keep],
            self.score[keep],
            self.decision[keep],
            self.explored[keep],
            self.is_fraud[keep],
        )

    @property
    def day(self) -> Ints:
        """Days since the epoch, UTC."""
        return self.occurred_at_ms // DAY_MS


def weights(rows: Matured, hidden: bool, censored: Mask | None = None) -> Floats:
    """How often each row counts, [rows]: 1, or where the declined are `hidden` 0 for these and more for the explored ones.

    censored: which rows were declined, where another path decided; else the rows' own decisions tell.
    """
    weight = np.ones(len(rows))
    if hidden:
        declined, explored = rows.decision == DECLINE if censored is None else censored, rows.explored
        weight[declined] = 0.0
        if explored.any():
            weight[explored] = (declined.sum() + explored.sum()) / explored.sum()
    return weight


def without_known_cards(rows: Matured, known_card: Ints, known_at_ms: Ints) -> Mask:
    """Which rows remain without cards whose fraud was known before the row's day (UTC) began, [rows]."""
    order = np.argsort(known_at_ms, kind="stable")
    cards, first = np.unique(known_card[order], return_index=True)
    if not len(cards):
        return np.ones(len(rows), np.bool_)
    known_from = known_at_ms[order][first]
    place = np.minimum(np.searchsorted(cards, rows.card), len(cards) - 1)
    is_known = (cards[place] == rows.card) & (known_from[place] < rows.day * DAY_MS)
    return np.asarray(~is_known)


def auc(is_fraud: Mask, score: npt.ArrayLike, weight: Floats | None = None) -> float | None:
    """Area under the ROC curve: the chance that a fraud scores above a genuine one, ties counting half. Range 0 .. 1."""
    fraud, genuine = _cumulated(is_fraud, score, weight)
    if not len(fraud) or fraud[-1] == 0 or genuine[-1] == 0:
        return None
    return float(np.trapezoid(np.r_[0, fraud], np.r_[0, genuine]) / (fraud[-1] * genuine[-1]))


def average_precision(is_fraud: Mask, score: npt.ArrayLike, weight: Floats | None = None) -> float | None:
    """Sum over thresholds of precision times the gain in recall. Range 0 .. 1."""
    fraud, genuine = _cumulated(is_fraud, score, weight)
    if not len(fraud) or fraud[-1] == 0:
        return None
    flagged = fraud + genuine
    precision = np.divide(fraud, flagged, out=np.zeros_like(fraud), where=flagged > 0)
    return float(np.sum(np.diff(np.r_[0, fraud]) * precision) / fraud[-1])


def _cumulated(is_fraud: Mask, score: npt.ArrayLike, weight: Floats | None) -> tuple[Floats, Floats]:
    """Weight of frauds and of genuine ones at or above each distinct score, from the highest down."""
    scores = np.asarray(score, np.float64)
    count = np.ones(len(scores)) if weight is None else weight
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True]) if len(scores) else np.empty(0, np.int64)
    fraud = np.cumsum(np.where(is_fraud, count, 0.0)[order])[last]
    genuine = np.cumsum(np.where(is_fraud, 0.0, count)[order])[last]
    return fraud, genuine


def card_precision(rows: Matured, k: int) -> float | None:
    """Mean over days of the share of compromised cards among the k of highest score. Range 0 .. 1.

    A card that was found on one day is not looked for on later ones. Source: Le Borgne et al., "Reproducible Machine
    Learning for Credit Card Fraud Detection - Practical Handbook", ULB 2022, chapter 4.
    """
    found = np.empty(0, np.int64)
    shares: list[float] = []
    for day in np.unique(rows.day).tolist():
        today = rows.take((rows.day == day) & ~np.isin(rows.card, found))
        cards, of = np.unique(today.card, return_inverse=True)
        score, is_fraud = np.zeros(len(cards), np.float32), np.zeros(len(cards), np.bool_)
        np.maximum.at(score, of, today.score)
        np.logical_or.at(is_fraud, of, today.is_fraud)
        top = np.argsort(-score, kind="stable")[:k]
        hits = cards[top][is_fraud[top]]
        found = np.concatenate([found, hits])
        shares.append(len(hits) / k)
    return float(np.mean(shares)) if shares else None


def looked_at(rows: Matured, weight: Floats, alerts_per_day_max: int) -> Floats:
    """How much of each row is looked at, [rows]: each day those of highest score, as many as the budget allows."""
    found = np.zeros(len(rows))
    day = rows.day
    for each in np.unique(day).tolist():
        place = np.flatnonzero(day == each)
        order = place[np.argsort(-rows.score[place], kind="stable")]
        before = np.r_[0.0, np.cumsum(weight[order])[:-1]]
        found[order] = np.clip(alerts_per_day_max - before, 0.0, weight[order])
    return found


def at_budget(rows: Matured, weight: Floats, alerts_per_day_max: int) -> tuple[float | None, float | None]:
    """Precision and recall when each day the transactions of highest score are looked at, as many as the budget allows."""
    found = looked_at(rows, weight, alerts_per_day_max)
    caught, all_fraud = float(found[rows.is_fraud].sum()), float(weight[rows.is_fraud].sum())
    return (
        caught / float(found.sum()) if found.any() else None,
        caught / all_fraud if all_fraud else None,
    )


@dataclass(frozen=True, slots=True)
class Detection:
    """cards: with fraud. seconds: event time to detection of those detected, ascending."""

    cards: int
    seconds: Floats

    @property
    def share(self) -> float | None:
        """Share of the cards with fraud that were detected."""
        return len(self.seconds) / self.cards if self.cards else None

    def quantile(self, q: float) -> float | None:
        """Quantile over the detected cards, seconds."""
        return float(np.quantile(self.seconds, q)) if len(self.seconds) else None


def detection(rows: Matured, from_ms: int) -> Detection:
    """From each card's first fraud to its first fraud that was not approved.

    rows: reach back before from_ms; cards whose first fraud there is older than from_ms are not counted.
    """
    fraud = rows.take(rows.is_fraud)
    order = np.lexsort((fraud.occurred_at_ms, fraud.card))
    fraud = Matured(*(getattr(fraud, name)[order] for name in Matured.__slots__))
    cards, first = np.unique(fraud.card, return_index=True)
    begins = fraud.occurred_at_ms[first]
    is_new = begins >= from_ms
    caught = fraud.take(fraud.decision != APPROVE)
    caught_card, caught_first = np.unique(caught.card, return_index=True)
    seconds = np.full(len(cards), np.nan)
    seconds[np.searchsorted(cards, caught_card)] = caught.occurred_at_ms[caught_first]
    seconds = (seconds - begins) / 1000
    return Detection(int(is_new.sum()), np.sort(seconds[is_new & ~np.isnan(seconds)]))


@dataclass(frozen=True, slots=True)
class Money:
    """Minor units: of frauds that were not approved, of frauds that were, and of reviews and refused honest customers."""

    saved_minor: int
    lost_minor: int
    spent_minor: int


def money(rows: Matured, weight: Floats, costs: Costs = COSTS) -> Money:
    """What the decisions have saved, lost and spent, by the costs that they are made with."""
    worth = (rows.amount_minor + costs.chargeback_minor) * weight
    approved = rows.decision == APPROVE
    spent = weight[rows.decision == REVIEW].sum() * costs.review_minor
    spent += weight[(rows.decision == DECLINE) & ~rows.is_fraud].sum() * costs.refusal_minor
    return Money(
        saved_minor=round(float(worth[rows.is_fraud & ~approved].sum())),
        lost_minor=round(float(worth[rows.is_fraud & approved].sum())),
        spent_minor=round(float(spent)),
    )
