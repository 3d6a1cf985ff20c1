"""The evaluation: what each path and model version has delivered on the newest matured days, beside what it promised.

Rule 1. Only whole days (UTC) whose transactions are older than the maturity horizon; without a label they are genuine.
Rule 2. It is a pure function of the tables: who reads the same tables gets the same numbers.
Rule 3. Paths are compared on the transactions that both have scored, at one alert budget, whatever versions did it.
Rule 4. A challenger is compared with whoever decided on the very transactions that it has scored: it decides nothing, so only
        measures of its scores are told, none of decisions.
Rule 5. Measures are those of the promise (trainer/evaluate.py): cards that were known to be compromised leave the test.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from adapters.delivered import DeliveredQuality
from fraud import measures
from fraud.decision import APPROVE
from fraud.measures import Detection, Mask, Matured, Money
from fraud.model import Promise
from fraud.windows import DAY_MS
from monitoring.evaluation_store import BATCH, CHALLENGER, STREAMING, Period, now_ms, period

KNOWN_BEFORE_MS: Final = 7 * DAY_MS  # frauds of that long before the horizon make a card known, as in the promise


@dataclass(frozen=True, slots=True)
class Terms:
    """How it is evaluated: days, maturity horizon in ms, alert budget a day."""

    days: int
    horizon_ms: int
    alerts_per_day_max: int

    @property
    def lookback_ms(self) -> int:
        """How far before the evaluated days the tables must reach."""
        return self.horizon_ms + KNOWN_BEFORE_MS

    def matured_to_ms(self, now_ms: int) -> int:
        """End of the evaluated days when the scores are at now_ms: what happens from there on changes no evaluation."""
        return (now_ms - self.horizon_ms) // DAY_MS * DAY_MS


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one version on one path has delivered. censored: declined, and so never labelled. scenario_recall: by name."""

    path: str
    version: str
    fraud: int
    genuine: int
    censored: int
    quality: Mapping[str, float | None]
    detected_share: float | None
    detected_cards: int
    time_to_detect_s: Mapping[str, float | None]
    money: Money
    scenario_recall: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PathMeasures:
    """One path, all versions together. quality: ap, card_precision, precision, recall. scenario_recall: at the alert budget, by name.

    feature_age_s: mean event time from what its features are as of to the transaction. joined_share: rows with a snapshot.
    """

    quality: Mapping[str, float | None]
    scenario_recall: Mapping[str, float]
    feature_age_s: float | None
    joined_share: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """Paths beside each other on the same transactions; by name of the path."""

    transactions: int
    by_path: Mapping[str, PathMeasures]


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A challenger beside whoever decided, on the same transactions; both as the measures of Delivered.quality."""

    version: str
    transactions: int
    fraud: int
    genuine: int
    quality: Mapping[str, float | None]
    champion: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Over the event times from_ms <= t < to_ms; now_ms is where the scores are. contrast: None while only one path has scored.

    shadowed: by challenger; empty while nobody has scored in shadow.
    """

    now_ms: int
    from_ms: int
    to_ms: int
    delivered: tuple[Delivered, ...]
    contrast: Contrast | None = None
    shadowed: tuple[Shadowed, ...] = ()

    @property
    def versions(self) -> set[str]:
        """Every version that is measured."""
        return {each.version for each in self.delivered} | {each.version for each in self.shadowed}


def evaluate(db: sqlite3.Connection, terms: Terms) -> Evaluation | None:
    """The evaluation of the newest matured days; None before any score."""
    now = now_ms(db)
    if now is None:
        return None
    to_ms = terms.matured_to_ms(now)
    from_ms = to_ms - terms.days * DAY_MS
    found = period(db, from_ms - terms.lookback_ms, to_ms)
    path, version = found.path, found.version
    inside = found.rows.occurred_at_ms >= from_ms
    groups = sorted(set(zip(path[inside].tolist(), version[inside].tolist(), strict=True)))
    return Evaluation(
        now_ms=now,
        from_ms=from_ms,
        to_ms=to_ms,
        delivered=tuple(
            _delivered(found, (path == of) & ((version == by) | ~inside), (of, by), from_ms, terms)
            for of, by in groups
            if of != CHALLENGER
        ),
        contrast=_contrast(found, path, inside, from_ms, terms),
        shadowed=tuple(
            _shadowed(
                found, by, inside & (path == CHALLENGER) & (version == by), inside & (path == STREAMING), from_ms, terms
            )
            for of, by in groups
            if of == CHALLENGER
        ),
    )


def _shadowed(found: Period, by: str, mine: Mask, decided: Mask, from_ms: int, terms: Terms) -> Shadowed:
    beside = decided & found.has(mine)[found.transaction]
    rows = found.rows.take(mine)
    weight = measures.weights(rows, found.hides_declined, found.censored[mine])
    of_champion = found.rows.take(beside)
    its_weight = measures.weights(of_champion, found.hides_declined, found.censored[beside])
    return Shadowed(
        version=by,
        transactions=len(rows),
        fraud=int((rows.is_fraud & (weight > 0)).sum()),
        genuine=int((~rows.is_fraud & (weight > 0)).sum()),
        quality=_quality(found, rows, weight, from_ms, terms),
        champion=_quality(found, of_champion, its_weight, from_ms, terms),
    )


def _contrast(
    found: Period, path: np.ndarray[tuple[int], np.dtype[np.object_]], inside: Mask, from_ms: int, terms: Terms
) -> Contrast | None:
    mine = {name: inside & (path == name) for name in (STREAMING, BATCH)}
    both = found.has(mine[STREAMING]) & found.has(mine[BATCH])
    if not both.any():
        return None
    beside = both[found.transaction]
    measured = {name: _path_measures(found, rows & beside, from_ms, terms) for name, rows in mine.items()}
    return Contrast(int(both.sum()), measured)


def _path_measures(found: Period, mine: Mask, from_ms: int, terms: Terms) -> PathMeasures:
    rows, snapshot_ms = found.rows.take(mine), found.snapshot_ms[mine]
    weight = measures.weights(rows, found.hides_declined, found.censored[mine])
    quality = _quality(found, rows, weight, from_ms, terms)
    is_batch = ~np.isnan(snapshot_ms)
    age_s = float((rows.occurred_at_ms - snapshot_ms)[is_batch].mean() / 1000) if is_batch.any() else None
    looked_at = measures.looked_at(rows, np.ones(len(rows)), terms.alerts_per_day_max)
    scenario = found.scenario[mine]
    names = sorted({str(name) for name in scenario.tolist() if name is not None})
    return PathMeasures(
        quality={name: quality[name] for name in ("ap", "card_precision", "precision", "recall")},
        scenario_recall={name: float(looked_at[scenario == name].mean()) for name in names},
        feature_age_s=age_s,
        joined_share=float(is_batch.mean()),
    )


def _delivered(found: Period, mine: Mask, group: tuple[str, str], from_ms: int, terms: Terms) -> Delivered:
    before_too = found.rows.take(mine)
    inside = mine & (found.rows.occurred_at_ms >= from_ms)
    rows = found.rows.take(inside)
    weight = measures.weights(rows, found.hides_declined, found.censored[inside])
    seen = weight > 0
    detected = measures.detection(before_too, from_ms)
    return Delivered(
        path=group[0],
        version=group[1],
        fraud=int((rows.is_fraud & seen).sum()),
        genuine=int((~rows.is_fraud & seen).sum()),
        censored=int((~seen).sum()),
        quality=_quality(found, rows, weight, from_ms, terms),
        detected_share=detected.share,
        detected_cards=len(detected.seconds),
        time_to_detect_s=_times(detected),
        money=measures.money(rows, weight),
        scenario_recall=_scenario_recall(found.scenario[inside], rows),
    )


def _quality(
    found: Period, rows: Matured, weight: measures.Floats, from_ms: int, terms: Terms
) -> dict[str, float | None]:
    earlier = found.known_fraud_at_ms < from_ms
    kept = measures.without_known_cards(rows, found.known_card[earlier], found.known_at_ms[earlier]) & (weight > 0)
    judged, count = rows.take(kept), weight[kept]
    precision, recall = measures.at_budget(rows, weight, terms.alerts_per_day_max)
    return {
        "auc": measures.auc(judged.is_fraud, judged.score, count),
        "ap": measures.average_precision(judged.is_fraud, judged.score, count),
        "card_precision": measures.card_precision(judged, terms.alerts_per_day_max),
        "precision": precision,
        "recall": recall,
    }


def _times(detected: Detection) -> dict[str, float | None]:
    return {str(q): detected.quantile(q) for q in measures.QUANTILES}


def _scenario_recall(scenario: np.ndarray[tuple[int], np.dtype[np.object_]], rows: Matured) -> dict[str, float]:
    """Share not approved of each scenario's transactions; the world's truth needs no label."""
    stopped = rows.decision != APPROVE
    names = sorted({str(name) for name in scenario.tolist() if name is not None})
    return {name: float(stopped[scenario == name].mean()) for name in names}


def promised(promise: Promise) -> dict[str, float | None]:
    """A promise under the names of the measures."""
    return {"auc": promise.auc, "ap": promise.ap, "card_precision": promise.cp_at_100}


def qualities(evaluation: Evaluation) -> list[DeliveredQuality]:
    """The evaluation as it is kept for the registry's list."""
    decided = [_kept(evaluation, each.path, each, {}) for each in evaluation.delivered]
    beside = [_kept(evaluation, CHALLENGER, each, each.champion) for each in evaluation.shadowed]
    return [*decided, *beside]


def _kept(
    evaluation: Evaluation, path: str, each: Delivered | Shadowed, champion: Mapping[str, float | None]
) -> DeliveredQuality:
    return DeliveredQuality(
        path=path,
        version=each.version,
        from_ms=evaluation.from_ms,
        to_ms=evaluation.to_ms,
        fraud=each.fraud,
        genuine=each.genuine,
        auc=each.quality["auc"],
        ap=each.quality["ap"],
        card_precision=each.quality["card_precision"],
        recall=each.quality["recall"],
        champion_auc=champion.get("auc"),
        champion_ap=champion.get("ap"),
    )


def as_json(evaluation: Evaluation, promises: Mapping[str, Promise]) -> dict[str, Any]:
    """The evaluation for scripts, each version beside its promise."""
    return {
        "now_ms": evaluation.now_ms,
        "from_ms": evaluation.from_ms,
        "to_ms": evaluation.to_ms,
        "delivered": [
            {**asdict(each), "promised": promised(promises[each.version]) if each.version in promises else None}
            for each in evaluation.delivered
        ],
        "contrast": None if evaluation.contrast is None else asdict(evaluation.contrast),
        "shadowed": [
            {**asdict(each), "promised": promised(promises[each.version]) if each.version in promises else None}
            for each in evaluation.shadowed
        ],
    }
