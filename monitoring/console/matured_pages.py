"""Pages over matured scores: the two paths beside each other, and the budget's curves.

Rule 1. Only what the evaluator has: scores of whole days whose labels are mature. What is not mature yet is said as counts.
Rule 2. Curves are computed with the weights of the evaluation: the explored stand for the declined.
Rule 3. A result is kept for KEPT_S: fifty browsers cost one computation.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from fraud import measures
from fraud.decision import APPROVE, COSTS, DECLINE, REVIEW, decide
from fraud.measures import Floats, Matured
from fraud.model import Promise
from fraud.windows import DAY_MS
from monitoring.evaluation import Evaluation, Terms, as_json, evaluate
from monitoring.evaluation_store import STREAMING, Period, now_ms, period
from monitoring.journal import open_for_reading
from monitoring.settings import MonitoringSettings

KEPT_S: Final = 15.0
CURVE_POINTS: Final = 160
THRESHOLDS: Final = 81


class MaturedPages:
    """Computes from the evaluator's journal, from any thread. promise_of(version): None for the rules."""

    def __init__(
        self,
        settings: MonitoringSettings,
        terms: Terms,
        promise_of: Callable[[str], Promise | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._terms = terms
        self._promise_of = promise_of
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[float, dict[str, Any], Evaluation | None] | None = None

    def evaluation(self) -> Evaluation | None:
        """The newest evaluation; None before any score."""
        return self._computed()[1]

    def paths(self) -> dict[str, Any]:
        """Measures by path and version, with precision-recall curves."""
        return {name: value for name, value in self._computed()[0].items() if name != "budget"}

    def budget(self) -> dict[str, Any]:
        """Cost and alerts a day by threshold, of the version that has scored most of the period."""
        found = self._computed()[0]
        return {"reason": found["reason"], "budget": found.get("budget")}

    def _computed(self) -> tuple[dict[str, Any], Evaluation | None]:
        with self._lock:
            if self._kept is None or self._clock() - self._kept[0] > KEPT_S:
                self._kept = (self._clock(), *self._compute())
            return self._kept[1], self._kept[2]

    def _compute(self) -> tuple[dict[str, Any], Evaluation | None]:
        try:
            with open_for_reading(self._settings.evaluation_file) as db:
                evaluation = evaluate(db, self._terms)
                scored_to = now_ms(db)
                found = None if evaluation is None else period(db, evaluation.from_ms, evaluation.to_ms)
        except FileNotFoundError:
            return {"reason": "the evaluator has written nothing yet: is it running?", "delivered": []}, None
        days = self._terms.horizon_ms / DAY_MS
        if evaluation is None or found is None:
            return {"reason": "nothing is scored yet", "delivered": []}, None
        values = self._values(evaluation)
        if not evaluation.delivered:
            return {
                **values, "reason": f"no whole day is mature yet: labels need {days:g} days of event time after it",
            }, evaluation  # fmt: skip
        for each in values["delivered"]:
            each["curve"] = curve(*_rows_of(found, each["path"], each["version"]))
        return {**values, "reason": None, "scored_to_ms": scored_to, "budget": self._budget(found)}, evaluation

    def _values(self, evaluation: Evaluation) -> dict[str, Any]:
        promises = {each.version: self._promise_of(each.version) for each in evaluation.delivered}
        values = as_json(evaluation, {version: p for version, p in promises.items() if p is not None})
        return {**values, "horizon_ms": self._terms.horizon_ms, "alerts_per_day_max": self._terms.alerts_per_day_max}

    def _budget(self, found: Period) -> dict[str, Any] | None:
        versions = Counter(found.version[found.path == STREAMING].tolist())
        if not versions:
            return None
        version = versions.most_common(1)[0][0]
        rows, weight = _rows_of(found, STREAMING, version)
        return {
            "version": version,
            **cost_curve(rows, weight, self._terms.days),
            "alerts_per_day_max": self._terms.alerts_per_day_max,
        }


def _rows_of(found: Period, path: str, version: str) -> tuple[Matured, Floats]:
    mine = (found.path == path) & (found.version == version)
    rows = found.rows.take(mine)
    return rows, measures.weights(rows, found.hides_declined)


def curve(rows: Matured, weight: Floats) -> dict[str, list[float]]:
    """Precision and recall by falling score, at most CURVE_POINTS points evenly over the recall."""
    order = np.argsort(-rows.score, kind="stable")
    fraud = np.cumsum(np.where(rows.is_fraud, weight, 0.0)[order])
    flagged = np.cumsum(weight[order])
    last = np.flatnonzero(np.r_[np.diff(rows.score[order]) != 0, True]) if len(order) else np.empty(0, np.int64)
    if not len(last) or fraud[-1] == 0:
        return {"recall": [], "precision": []}
    last = last[flagged[last] > 0]
    recall, precision = fraud[last] / fraud[-1], fraud[last] / flagged[last]
    grid = np.unique(np.searchsorted(recall, np.linspace(0, 1, CURVE_POINTS)).clip(0, len(recall) - 1))
    return {"recall": recall[grid].round(4).tolist(), "precision": precision[grid].round(4).tolist()}


def cost_curve(rows: Matured, weight: Floats, days: int) -> dict[str, Any]:
    """What a review threshold would have cost and how many alerts a day it would have raised, had it stood in the period.

    Lists by threshold: cost_minor (frauds that pass, reviews, honest customers refused), alerts a day, precision, recall.
    """
    seen = rows.take(weight > 0)
    count = weight[weight > 0]
    thresholds = np.unique(np.r_[np.linspace(0.0, 1.0, THRESHOLDS), np.quantile(seen.score, np.linspace(0.98, 1, 21))])
    found: dict[str, list[float | None]] = {"cost_minor": [], "alerts_per_day": [], "precision": [], "recall": []}
    all_fraud = float(count[seen.is_fraud].sum())
    worth = (seen.amount_minor + COSTS.chargeback_minor) * count
    for threshold in thresholds.tolist():
        decision = decide(seen.score, seen.amount_minor, threshold)
        alerted = decision != APPROVE
        cost = worth[seen.is_fraud & ~alerted].sum() + count[decision == REVIEW].sum() * COSTS.review_minor
        cost += count[(decision == DECLINE) & ~seen.is_fraud].sum() * COSTS.refusal_minor
        flagged, caught = float(count[alerted].sum()), float(count[alerted & seen.is_fraud].sum())
        found["cost_minor"].append(round(float(cost)))
        found["alerts_per_day"].append(flagged / days)
        found["precision"].append(caught / flagged if flagged else None)
        found["recall"].append(caught / all_fraud if all_fraud else None)
    return {"threshold": thresholds.round(5).tolist(), **found, "costs": asdict(COSTS), "rows": len(seen), "days": days}
