"""Where the lake is: its event time, and whether it has what the log had.

Rule 1. Training reads the lake, so the lake's event time decides when a night is over: the newest of the partition that is
        furthest behind. The simulated clock itself may be days ahead of a lake that catches up.
Rule 2. Files never change: what was read of one is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl

from adapters.lake import Lake
from fraud import topics

_FEATURES: Final = topics.FEATURES.name
READ_BY_TRAINING: Final = (topics.FEATURES.name, topics.LABELS.name)
Ends = Mapping[tuple[str, int], int]  # by (topic, partition): the offset after the newest record


class LakeClock:
    """The event time of a lake's vectors."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._spans: dict[Path, tuple[int, int]] = {}

    def span_ms(self) -> tuple[int, int] | None:
        """Oldest event time, and the one that every partition has reached; None before any vector."""
        partitions = [files for p in self._lake.partitions(_FEATURES) if (files := self._lake.files(_FEATURES, p))]
        if not partitions:
            return None
        first = [self._span(files[0].path)[0] for files in partitions]
        newest = [self._span(files[-1].path)[1] for files in partitions]
        self._spans = {path: span for path, span in self._spans.items() if path.exists()}
        return min(first), min(newest)

    def _span(self, path: Path) -> tuple[int, int]:
        if path not in self._spans:
            time = pl.col("occurred_at_ms")
            low, high = pl.scan_parquet(path).select(low=time.min(), high=time.max()).collect().row(0)
            self._spans[path] = (low or 0, high or 0)
        return self._spans[path]


def archived_share(lake: Lake, ends: Ends, begins: Ends) -> float:
    """What share of the records begins <= offset < ends the lake has, 0 .. 1; the partition that is furthest behind counts."""
    shares = [1.0]
    for (topic, partition), end in ends.items():
        begin = begins.get((topic, partition), 0)
        if end > begin:
            has = lake.next_offset(topic, partition) or begin
            shares.append(min(1.0, max(0.0, (has - begin) / (end - begin))))
    return min(shares)
