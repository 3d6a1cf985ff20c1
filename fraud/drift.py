"""Drift: how far what is served has moved from the sample that the model has learned from. Pure: counts in, verdicts out.

Rule 1. A column is counted in bins that its reference fixes once; counts add up, so a window is a sum of batches.
Rule 2. One measure decides (PSI), beside the shares of missing and of unseen values and the alert rate; the other distances
        are shown. A distance that chance alone can reach at this number of rows never counts.
Rule 3. An alarm is raised after WINDOWS_TO_RAISE windows above its threshold and cleared after WINDOWS_TO_CLEAR windows
        below half of it: between the two nothing changes.

What it cannot see: the relation between features and fraud (concept drift) may change while every distribution stays. The
estimated precision below is blind to the same thing, for it believes the scores.

PSI: Siddiqi, "Credit Risk Scorecards", Wiley 2006. Its distribution under no change, (1/n + 1/m) chi-squared with bins - 1
degrees of freedom: Yurdakul, "Statistical Properties of Population Stability Index", Western Michigan University 2018.
Jensen-Shannon: Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Transactions on Information Theory 1991.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

SCORE: Final = "score"
ALERT_RATE: Final = "alert_rate"
# A window of one day holds one weekday: its distribution says when it was, not what has changed.
CALENDAR: Final = frozenset({"request_weekday"})

BINS: Final = 10
VALUES_MAX: Final = 24  # a column with at most so many distinct values is counted value by value
ROWS_MIN: Final = 400
PSI_RAISE: Final = 0.2
NULL_SHARE_RAISE: Final = 0.05
OUT_OF_RANGE_SHARE_RAISE: Final = 0.02
ALERT_RATE_FACTOR_RAISE: Final = 2.5
WINDOWS_TO_RAISE: Final = 2
WINDOWS_TO_CLEAR: Final = 2
_QUIET: Final = 0.5  # of the threshold
_Z: Final = 3.7190  # of the standard normal at 1 - 1e-4: some forty columns, a window a day
_SIGMAS: Final = 4.0
_UNSEEN, _NULL, _OUTSIDE = -3, -2, -1


@dataclass(frozen=True, slots=True)
class Bins:
    """How one column is counted.

    edges: the distinct values of the reference (`by_value`), else the inner edges of ranges that are open at both ends.
    low, high: least and largest value of the reference.
    """

    edges: tuple[float, ...]
    by_value: bool
    low: float
    high: float

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Bins:
        """Bins for the reference `values`; NaN is no value."""
        present = np.asarray(values, np.float64)
        present = present[~np.isnan(present)]
        if not len(present):
            return cls((), True, float("nan"), float("nan"))
        low, high = float(present.min()), float(present.max())
        distinct = np.unique(present)
        if len(distinct) <= VALUES_MAX:
            return cls(tuple(distinct.tolist()), True, low, high)
        inner = np.unique(np.quantile(present, np.arange(1, BINS) / BINS))
        return cls(tuple(inner.tolist()), False, low, high)

    @property
    def size(self) -> int:
        """How many bins there are."""
        return len(self.edges) + (not self.by_value)

    def count(self, values: npt.ArrayLike) -> Counts:
        """Rows by bin, then: of a value that the reference never had (`by_value`), without value, outside low .. high.

        Shape [size + 3]; the last one overlaps the others.

        >>> Bins.of([0, 0, 1, 2]).count([0, 2, 5, float("nan")]).tolist()
        [1, 0, 1, 1, 1, 1]
        """
        column = np.asarray(values, np.float64)
        is_null = np.isnan(column)
        present = column[~is_null]
        counts = np.zeros(self.size + 3, np.int64)
        edges = np.asarray(self.edges)
        if self.by_value:
            place = np.searchsorted(edges, present)
            known = place < len(edges)
            known[known] = edges[place[known]] == present[known]
            counts[: self.size] = np.bincount(place[known], minlength=self.size)
            counts[_UNSEEN] = counts[_OUTSIDE] = len(present) - int(known.sum())
        else:
            counts[: self.size] = np.bincount(np.searchsorted(edges, present, side="left"), minlength=self.size)
            counts[_OUTSIDE] = int(((present < self.low) | (present > self.high)).sum())
        counts[_NULL] = int(is_null.sum())
        return counts


@dataclass(frozen=True, slots=True)
class Distances:
    """Of a window from its reference. psi: 0 .. inf; jensen_shannon, ks: 0 .. 1; shares of the window's rows."""

    psi: float
    jensen_shannon: float
    ks: float
    null_share: float
    out_of_range_share: float


def psi(reference: Counts, window: Counts) -> float:
    """Population stability index of two count vectors; half a row is added to each bin, so that none is empty."""
    p, q = _smoothed(reference), _smoothed(window)
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(reference: Counts, window: Counts) -> float:
    """Jensen-Shannon distance, the root of the divergence to base 2. Range 0 .. 1."""
    p, q = reference / max(reference.sum(), 1), window / max(window.sum(), 1)
    middle = (p + q) / 2

    def divergence(of: Floats) -> float:
        there = of > 0
        return float(np.sum(of[there] * np.log2(of[there] / middle[there])))

    return sqrt(max(0.0, (divergence(p) + divergence(q)) / 2))


def binned_ks(reference: Counts, window: Counts) -> float:
    """Largest difference of the cumulated shares at the bins' edges: a lower bound of Kolmogorov-Smirnov. Range 0 .. 1."""
    p, q = reference / max(reference.sum(), 1), window / max(window.sum(), 1)
    return float(np.max(np.abs(np.cumsum(p) - np.cumsum(q)), initial=0.0))


def chance_psi(reference_rows: int, window_rows: int, bins: int) -> float:
    """The PSI that chance exceeds once in ten thousand windows: (1/n + 1/m) times a chi-squared quantile.

    The quantile by Wilson and Hilferty, "The Distribution of Chi-Square", PNAS 1931.
    """
    freedom = max(bins - 1, 1)
    quantile = freedom * (1 - 2 / (9 * freedom) + _Z * sqrt(2 / (9 * freedom))) ** 3
    return (1 / max(window_rows, 1) + 1 / max(reference_rows, 1)) * quantile


def _smoothed(counts: Counts) -> Floats:
    smoothed: Floats = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return smoothed


@dataclass(frozen=True, slots=True)
class Reference:
    """What a model's version has learned from: bins and counts by column, and what its threshold gave there.

    rows: of the sample. threshold: the lowest score that may alert.
    """

    version: str
    rows: int
    threshold: float
    alert_share: float
    bins: Mapping[str, Bins]
    counts: Mapping[str, Counts]

    @classmethod
    def of(cls, version: str, threshold: float, columns: Mapping[str, npt.ArrayLike]) -> Reference:
        """From the sample's columns: the features and `score`, each [rows]."""
        bins = {name: Bins.of(values) for name, values in columns.items()}
        score = np.asarray(columns[SCORE], np.float32)
        return cls(
            version=version,
            rows=len(score),
            threshold=threshold,
            alert_share=float(np.mean(score >= np.float32(threshold))) if len(score) else 0.0,
            bins=bins,
            counts={name: bins[name].count(values) for name, values in columns.items()},
        )


@dataclass(slots=True)
class Window:
    """What was served in the event times start_ms <= t < end_ms, as counts.

    alerted: rows at or above the threshold; probability, alerted_probability: sums of the scores, of all rows and of those.
    """

    start_ms: int
    end_ms: int
    counts: dict[str, Counts] = field(default_factory=dict)
    alerted: int = 0
    probability: float = 0.0
    alerted_probability: float = 0.0

    def add_features(self, reference: Reference, vectors: npt.NDArray[np.float32], names: Sequence[str]) -> None:
        """Count vectors, [rows, features in the order of names]."""
        for place, name in enumerate(names):
            if name in reference.bins:
                self._add(name, reference.bins[name].count(vectors[:, place]))

    def add_scores(self, reference: Reference, score: npt.NDArray[np.float32]) -> None:
        """Count scores, [rows]."""
        self._add(SCORE, reference.bins[SCORE].count(score))
        is_alert = score >= np.float32(reference.threshold)
        self.alerted += int(is_alert.sum())
        self.probability += float(score.sum(dtype=np.float64))
        self.alerted_probability += float(score[is_alert].sum(dtype=np.float64))

    def rows(self, column: str) -> int:
        """Rows counted of a column."""
        counts = self.counts.get(column)
        return 0 if counts is None else int(counts[:_OUTSIDE].sum())

    def _add(self, name: str, counts: Counts) -> None:
        self.counts[name] = self.counts[name] + counts if name in self.counts else counts


@dataclass(frozen=True, slots=True)
class Alarm:
    """State of a column's alarm. streak: windows in a row that speak for a change of `raised`."""

    raised: bool = False
    streak: int = 0

    def after(self, excess: float) -> Alarm:
        """The state after a window whose distance is `excess` times its threshold.

        >>> Alarm().after(1.2).after(0.7).after(1.2).after(1.2)
        Alarm(raised=True, streak=0)
        """
        speaks = excess < _QUIET if self.raised else excess >= 1.0
        streak = self.streak + 1 if speaks else 0
        if streak >= (WINDOWS_TO_CLEAR if self.raised else WINDOWS_TO_RAISE):
            return Alarm(not self.raised)
        return Alarm(self.raised, streak)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one column in one window. excess: its distance in thresholds, 1 and more is too far; by: the measure that decides."""

    distances: Distances
    excess: float
    by: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one window. alert_share: of its rows, at or above the threshold. precision, recall: estimated, None if undefined."""

    version: str
    start_ms: int
    end_ms: int
    rows: int
    columns: Mapping[str, Verdict]
    alert_share: float | None
    alert_excess: float
    precision: float | None
    recall: float | None

    def excesses(self) -> dict[str, float]:
        """Every column's distance in thresholds, the alert rate's too."""
        judged = {name: verdict.excess for name, verdict in self.columns.items() if name not in CALENDAR}
        return judged if self.alert_share is None else {**judged, ALERT_RATE: self.alert_excess}


def judge(reference: Reference, window: Window) -> Judgement | None:
    """The window's distances from its reference; None when it has fewer than ROWS_MIN rows."""
    columns = {
        name: _verdict(reference.counts[name], counts)
        for name, counts in window.counts.items()
        if window.rows(name) >= ROWS_MIN
    }
    if not columns:
        return None
    scored = window.rows(SCORE)
    share = window.alerted / scored if scored >= ROWS_MIN else None
    precision, recall = estimated_quality(window.alerted, window.alerted_probability, window.probability)
    return Judgement(
        version=reference.version,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        rows=max(window.rows(name) for name in columns),
        columns=columns,
        alert_share=share,
        alert_excess=0.0 if share is None else _alert_excess(reference, share, scored),
        precision=precision,
        recall=recall,
    )


def _verdict(reference: Counts, window: Counts) -> Verdict:
    before, now = reference[:_OUTSIDE], window[:_OUTSIDE]
    rows, reference_rows = int(now.sum()), int(before.sum())
    distances = Distances(
        psi=psi(before, now),
        jensen_shannon=jensen_shannon(before, now),
        ks=binned_ks(before[:_OUTSIDE], now[:_OUTSIDE]),
        null_share=int(window[_NULL]) / rows,
        out_of_range_share=int(window[_OUTSIDE]) / rows,
    )
    null_before, outside_before = int(reference[_NULL]) / reference_rows, int(reference[_OUTSIDE]) / reference_rows
    excess = {
        "psi": distances.psi / max(PSI_RAISE, chance_psi(reference_rows, rows, len(before))),
        "null_share": _share_excess(null_before, distances.null_share, NULL_SHARE_RAISE, reference_rows, rows),
        "out_of_range_share": _share_excess(
            outside_before, distances.out_of_range_share, OUT_OF_RANGE_SHARE_RAISE, reference_rows, rows
        ),
    }
    by = max(excess, key=lambda name: excess[name])
    return Verdict(distances, excess[by], by)


def _share_excess(before: float, now: float, raise_at: float, reference_rows: int, rows: int) -> float:
    """How far a share has moved, in thresholds: of raise_at, or of what chance does at this number of rows."""
    return abs(now - before) / max(raise_at, _SIGMAS * _deviation(before, now, reference_rows, rows))


def _deviation(before: float, now: float, reference_rows: int, rows: int) -> float:
    pooled = (before * reference_rows + now * rows) / (reference_rows + rows)
    return sqrt(pooled * (1 - pooled) * (1 / reference_rows + 1 / rows))


def _alert_excess(reference: Reference, share: float, rows: int) -> float:
    """How far the alert rate is off, in thresholds: a factor either way, and more than chance."""
    before = reference.alert_share
    if before == share:
        return 0.0
    lower, higher = sorted((before, share))
    by_factor = (higher / lower - 1) / (ALERT_RATE_FACTOR_RAISE - 1) if lower > 0 else float("inf")
    by_chance = abs(share - before) / (_SIGMAS * _deviation(before, share, reference.rows, rows))
    return min(by_factor, by_chance)


def estimated_quality(
    alerted: int, alerted_probability: float, probability: float
) -> tuple[float | None, float | None]:
    """Expected precision and recall of the alerts when every score is the probability that it claims to be.

    Confidence-based performance estimation: Kivimäki, Białek, Kuberski, Nurminen, "Performance Estimation in Binary
    Classification Using Calibrated Confidence", 2025. Blind spot: it believes the scores. When fraud changes so that the
    scores are no longer right (concept drift), the estimate stays and the truth does not; only labels show that.

    >>> estimated_quality(alerted=4, alerted_probability=3.0, probability=6.0)
    (0.75, 0.5)
    """
    precision = alerted_probability / alerted if alerted else None
    recall = alerted_probability / probability if probability > 0 else None
    return precision, recall
