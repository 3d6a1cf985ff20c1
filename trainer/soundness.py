"""What is wrong with the rows, beyond too few of them: a day that is missing, a feature that fell silent.

Rule 1. A fault is stated with its day or feature, and a model with a fault never becomes champion by itself.
Rule 2. A feature that never varied, neither where the model learned nor where it is measured, is no fault: worlds without
        devices or places exist. One that varied and does not any more is: a feed broke.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.features import NAMES, REQUEST_NAMES
from fraud.model import Floats
from fraud.windows import DAY_MS

_DAY_ROWS_MIN: Final = 50  # with fewer on a usual day, an empty one may be chance
_DAY_SHARE_MIN: Final = 0.1
_VARIED_SHARE: Final = 0.05
_ROWS_MIN: Final = 200
# The hour and the weekday stand still in a short period without any fault.
_WATCHED: Final = [i for i, name in enumerate(NAMES) if name not in REQUEST_NAMES or name == "request_amount_minor"]


def missing_days(times_ms: npt.NDArray[np.int64], to_ms: int) -> list[str]:
    """Days before to_ms, counted back from it, with under a tenth of the rows of a usual day (the median)."""
    before = times_ms[times_ms < to_ms]
    if not len(before):
        return []
    days = (to_ms - before - 1) // DAY_MS
    counts = np.bincount(days)[:-1]  # the oldest day is not whole
    usual = float(np.median(counts)) if len(counts) else 0.0
    if usual < _DAY_ROWS_MIN:
        return []
    return [
        f"{_moment(to_ms - (int(day) + 1) * DAY_MS)} and the 24 hours after it have {counts[day]} transactions, "
        f"a usual day has {usual:.0f}"
        for day in np.flatnonzero(counts < _DAY_SHARE_MIN * usual)[::-1]
    ]


def constant_features(vectors: Floats) -> list[str]:
    """Features with one value, or none, in all rows."""
    return [NAMES[i] for i in range(len(NAMES)) if _constant(vectors[:, i]) is not None]


def silent_features(before: Floats, now: Floats) -> list[str]:
    """Features that vary in at least a twentieth of the rows `before` and in none of the rows `now`."""
    if min(len(before), len(now)) < _ROWS_MIN:
        return []
    silent = []
    for i in _WATCHED:
        value = _constant(now[:, i])
        if value is not None and _other_share(before[:, i], value) >= _VARIED_SHARE:
            silent.append(NAMES[i])
    return silent


def fault_lines(days: Sequence[str], fallen: Sequence[str], gone: Sequence[str]) -> list[str]:
    """Every fault as a sentence with what it names."""
    lines = [f"the lake has a hole: {day}" for day in days]
    if fallen:
        lines.append(f"features that varied in training stand still in validation: {_some(fallen)}")
    if gone:
        lines.append(f"features that varied for the champion stand still in training: {_some(gone)}")
    return lines


def _constant(column: npt.NDArray[np.float32]) -> np.float32 | None:
    """The one value of a column (NaN: it has none), or None when it varies."""
    if not len(column):
        return np.float32(np.nan)
    absent = np.isnan(column)
    if absent.all():
        return np.float32(np.nan)
    first: np.float32 = column[0]
    return first if not absent.any() and bool((column == first).all()) else None


def _other_share(column: npt.NDArray[np.float32], value: np.float32) -> float:
    other = ~np.isnan(column) if np.isnan(value) else column != value
    return float(other.mean())


def _some(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _moment(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def times_of(features: pl.LazyFrame, from_ms: int, to_ms: int) -> npt.NDArray[np.int64]:
    """Event times of all vectors of a period, labelled or not."""
    time = pl.col("occurred_at_ms")
    frame = features.filter((time >= from_ms) & (time < to_ms)).select(time).collect()
    return frame["occurred_at_ms"].to_numpy()
