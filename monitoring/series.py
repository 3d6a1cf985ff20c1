"""Gauges whose label values come and go.

Rule 1. What was said the last time and is not said now is removed: a version that is gone leaves no line behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.telemetry import gauge
from fraud.metrics import Metric


class Series:
    """The samples of one gauge."""

    def __init__(self, metric: Metric) -> None:
        self._gauge: Final = gauge(metric)
        self._shown: set[tuple[str, ...]] = set()

    def show(self, samples: Mapping[tuple[str, ...], float | None]) -> None:
        """These label values have these values now, and no others; None is left out."""
        known = {labels: value for labels, value in samples.items() if value is not None}
        for labels, value in known.items():
            self._gauge.labels(*labels).set(value)
        for labels in self._shown - known.keys():
            self._gauge.remove(*labels)
        self._shown = set(known)
