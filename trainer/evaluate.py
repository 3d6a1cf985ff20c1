"""How good scores are: AUC, average precision, card precision at k; and the score from which on alerts begin.

Rule 1. Rows of equal score are taken together: no measure depends on the order of the rows.
Rule 2. A card that is known to be compromised is no discovery: it leaves the test from the day on that begins knowing it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.windows import DAY_MS

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """The three measures; None where undefined (one class only)."""

    auc: float | None
    ap: float | None
    cp_at_100: float | None


def auc(is_fraud: npt.ArrayLike, score: npt.ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that a fraud scores above a genuine one, ties counting half. Range 0 .. 1."""
    truth, genuine_below = _cumulated(is_fraud, score)
    fraud, genuine = truth[-1], genuine_below[-1]
    if fraud == 0 or genuine == 0:
        return None
    return float(np.trapezoid(np.r_[0, truth], np.r_[0, genuine_below]) / (fraud * genuine))


def average_precision(is_fraud: npt.ArrayLike, score: npt.ArrayLike, weight: Array | None = None) -> float | None:
    """Sum over thresholds of precision times the gain in recall. Range 0 .. 1; `weight` counts a row that often."""
    truth, genuine = _cumulated(is_fraud, score, weight)
    if truth[-1] == 0:
        return None
    flagged = truth + genuine
    precision = np.divide(truth, flagged, out=np.zeros_like(truth), where=flagged > 0)
    return float(np.sum(np.diff(np.r_[0, truth]) * precision) / truth[-1])


def _cumulated(is_fraud: npt.ArrayLike, score: npt.ArrayLike, weight: Array | None = None) -> tuple[Array, Array]:
    """Frauds and genuine ones at or above each distinct score, from the highest down."""
    truth, scores = np.asarray(is_fraud, np.float64), np.asarray(score, np.float64)
    if len(truth) == 0:
        return np.zeros(1), np.zeros(1)
    count = np.ones(len(truth)) if weight is None else weight
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    return np.cumsum((truth * count)[order])[last], np.cumsum(((1 - truth) * count)[order])[last]


def without_known_cards(rows: pl.DataFrame, known_frauds: pl.DataFrame) -> pl.DataFrame:
    """The rows without cards whose fraud was known before the row's day (UTC) began.

    rows: card_id, occurred_at_ms. known_frauds: card_id, known_at_ms.
    """
    first_known = known_frauds.group_by("card_id").agg(pl.col("known_at_ms").min().alias("_known_at_ms"))
    day_begins = pl.col("occurred_at_ms") // DAY_MS * DAY_MS
    return (
        rows.join(first_known, on="card_id", how="left", maintain_order="left")
        .filter(pl.col("_known_at_ms").is_null() | (pl.col("_known_at_ms") >= day_begins))
        .drop("_known_at_ms")
    )


def card_precision(rows: pl.DataFrame, k: int = 100) -> float | None:
    """Mean over days of the share of compromised cards among the k of highest score.

    rows: card_id, occurred_at_ms, is_fraud, score. A card that was found on one day is not looked for on later ones.
    """
    found: set[str] = set()
    shares: list[float] = []
    by_card = (
        rows.with_columns((pl.col("occurred_at_ms") // DAY_MS).alias("day"))
        .group_by("day", "card_id")
        .agg(pl.col("score").max(), pl.col("is_fraud").max())
    )
    for _, day in by_card.sort("day", "card_id").group_by("day", maintain_order=True):
        looked_for = day.filter(~pl.col("card_id").is_in(list(found)))
        top = looked_for.sort("score", descending=True, maintain_order=True).head(k)
        hits = top.filter(pl.col("is_fraud"))["card_id"].to_list()
        found.update(hits)
        shares.append(len(hits) / k)
    return float(np.mean(shares)) if shares else None


def measure(rows: pl.DataFrame, known_frauds: pl.DataFrame) -> tuple[Scores, pl.DataFrame]:
    """The three measures over the rows that remain without known cards, and these rows.

    rows: card_id, occurred_at_ms, is_fraud, score.
    """
    judged = without_known_cards(rows, known_frauds)
    truth, score = judged["is_fraud"].to_numpy(), judged["score"].to_numpy()
    return Scores(auc(truth, score), average_precision(truth, score), card_precision(judged)), judged


def threshold_for_budget(rows: pl.DataFrame, alerts_per_day_max: int) -> float:
    """The score from which on alerts begin, so that the days of `rows` would have had at most that many on average.

    rows: occurred_at_ms, score. A budget larger than the rows gives the lowest score. Rows of equal score that do not all
    fit into the budget stay below the threshold; where not even the highest fit, it is 1.
    """
    days = max(1, rows.select((pl.col("occurred_at_ms") // DAY_MS).n_unique()).item())
    ranked = np.sort(rows["score"].to_numpy())[::-1]
    budget = alerts_per_day_max * days
    if len(ranked) <= budget:
        return float(ranked[-1]) if len(ranked) else 1.0
    fitting = ranked[:budget][ranked[:budget] > ranked[budget]]
    return float(fitting[-1]) if len(fitting) else 1.0
