"""Latencies as an HDR histogram: three significant digits from a microsecond to ten minutes.

Rule 1. Every measured transaction is in it; the largest is never cut off.
Source: HdrHistogram, Gil Tene; the Python port `hdrhistogram`.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)
_MAX_US: Final = 600_000_000


class Latency(msgspec.Struct, frozen=True):
    """Percentiles in milliseconds. count: transactions measured."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


def latency_of(seconds: npt.NDArray[np.float64]) -> Latency:
    """The percentiles of latencies in seconds. Raises ValueError for none, negative ones and ones beyond ten minutes."""
    if not len(seconds):
        raise ValueError("no latency was measured: nothing was scored")
    us = np.round(seconds * 1e6).astype(np.int64)
    if us.min() < 0 or us.max() > _MAX_US:
        raise ValueError(
            f"latencies from {us.min()} to {us.max()} us: the clock moved, or the hold outlived ten minutes"
        )
    histogram = HdrHistogram(1, _MAX_US, 3)
    values, counts = np.unique(us, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(max(1, value), count)
    p50, p90, p99, p999 = (histogram.get_value_at_percentile(percentile) / 1000 for percentile in PERCENTILES)
    return Latency(len(us), p50, p90, p99, p999, int(us.max()) / 1000)
