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
        self._spans: dict[Path, tuple[int, int] | None] = {}

    def span_ms(self) -> tuple[int, int] | None:
        """Oldest event time, and the one that every partition has reached; None before any vector."""
        oldest, reached = [], []
        for partition in self._lake.partitions(_FEATURES):
            files = self._lake.files(_FEATURES, partition)
            first = next((span for file in files if (span := self._span(file.path)) is not None), None)
            last = next((span for file in reversed(files) if (span := self._span(file.path)) is not None), None)
            if first is not None and last is not None:
                oldest.append(first[0])
                reached.append(last[1])
        self._spans = {path: span for path, span in self._spans.items() if path.exists()}
        return (min(oldest), min(reached)) if oldest else None

    def _span(self, path: Path) -> tuple[int, int] | None:
        """Oldest and newest event time of a file; None for one without rows, which stands for offsets whose rows are gone."""
        if path not in self._spans:
            time = pl.col("occurred_at_ms")
            low, high = pl.scan_parquet(path).select(low=time.min(), high=time.max()).collect().row(0)
            self._spans[path] = None if low is None else (low, high)
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
