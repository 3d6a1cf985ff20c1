"""The page of drift: every column's distances, and both distributions of one column.

Rule 1. The served distribution is the open window in which the watch has counted most rows.
Rule 2. Bins are those of the champion's reference; counts of another version's reference are never drawn beside it.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import numpy as np

from fraud.drift import Reference
from fraud.features import FEATURE_HASH
from monitoring.drift_report import as_values
from monitoring.drift_store import read_drift, read_fullest_window
from monitoring.reference import Registry
from monitoring.settings import MonitoringSettings


class DriftPage:
    """Reads the journal of the watch, from any thread."""

    def __init__(self, settings: MonitoringSettings, registry: Registry) -> None:
        self._path = settings.drift_file(FEATURE_HASH)
        self._hours = settings.drift_window_hours
        self._registry = registry
        self._reference: Reference | None = None
        self._lock = threading.Lock()

    def values(self) -> dict[str, Any]:
        """The newest judgement; `reason` says why there is none."""
        try:
            judgement, alarms = read_drift(self._path)
        except FileNotFoundError:
            return {"reason": "the watch has written nothing yet: is it running?"}
        if judgement is None:
            return {
                "reason": f"no window of {self._hours} hours of event time was judged yet: it needs a champion, and a whole "
                "window of what was served after the days that it has learned from"
            }
        values: dict[str, Any] = msgspec.to_builtins(as_values(judgement, alarms))
        return {"reason": None, **values}

    def distribution(self, column: str) -> dict[str, Any]:
        """Shares by bin of the reference and of what was served."""
        try:
            found = read_fullest_window(self._path)
        except FileNotFoundError:
            found = None
        reference = self._champions_reference()
        if found is None or reference is None or found[0] != reference.version or column not in reference.bins:
            return {
                "column": column,
                "reason": "there are no counts of this column against the champion's reference yet",
            }
        window = found[1]
        bins, before = reference.bins[column], reference.counts[column]
        now = window.counts.get(column, np.zeros_like(before))
        size = bins.size
        return {
            "column": column,
            "reason": None,
            "edges": list(bins.edges),
            "by_value": bins.by_value,
            "low": None if np.isnan(bins.low) else bins.low,
            "high": None if np.isnan(bins.high) else bins.high,
            "reference": _shares(before, size),
            "served": _shares(now, size),
            "reference_rows": reference.rows,
            "served_rows": window.rows(column),
            "from_ms": window.start_ms,
            "to_ms": window.end_ms,
        }

    def _champions_reference(self) -> Reference | None:
        with self._lock:
            champion = self._registry.champion()
            if champion is None:
                return None
            if self._reference is None or self._reference.version != champion.version:
                self._reference = champion.reference()
            return self._reference


def _shares(counts: np.ndarray[Any, np.dtype[np.int64]], size: int) -> dict[str, Any]:
    """Share of rows by bin, of values never seen before, and without value."""
    rows = max(1, int(counts[:-1].sum()))
    shares = (counts[:-1] / rows).round(5).tolist()
    return {"bins": shares[:size], "unseen": shares[size], "no_value": shares[size + 1]}
