"""Chunks of a stream: some transactions, and the labels that become known while they happen.

Rule 1. A label follows its own transaction, and comes no earlier than the first moment of the stream at or after its
        known_at_ms; labels known after the last transaction are never due.
Rule 2. Time is the stream's own: the running maximum of event time, so a late transaction moves nothing back.
Rule 3. Memory is bounded by the slices read and the labels that wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl

from fraud.windows import HOUR_MS

ROWS_MAX: Final = 2000


@dataclass(frozen=True, slots=True)
class Chunk:
    """transactions: as read, with clock_ms, the stream's time at each. labels: those due by the last of them, in order.

    A label's due_ms is its known_at_ms, or its own transaction's clock_ms when that is later.
    """

    transactions: pl.DataFrame
    labels: pl.DataFrame

    @property
    def end_ms(self) -> int:
        """The stream's time at the last transaction."""
        return int(self.transactions["clock_ms"][-1])


class WaitingLabels:
    """Labels whose transactions were streamed and whose time has not come."""

    def __init__(self) -> None:
        self._groups: deque[tuple[int, pl.DataFrame]] = deque()

    def add(self, labels: pl.DataFrame) -> None:
        """Let labels wait: rows with row, due_ms."""
        if labels.height:
            self._groups.append((int(labels["due_ms"].min()), labels))  # type: ignore[arg-type]  # not empty

    def take(self, until_ms: int) -> list[pl.DataFrame]:
        """The labels due at or before `until_ms`; they wait no longer."""
        due: list[pl.DataFrame] = []
        keep: deque[tuple[int, pl.DataFrame]] = deque()
        for first_ms, labels in self._groups:
            if first_ms > until_ms:
                keep.append((first_ms, labels))
                continue
            ripe = labels["due_ms"] <= until_ms
            due.append(labels.filter(ripe))
            if not ripe.all():
                rest = labels.filter(~ripe)
                keep.append((int(rest["due_ms"].min()), rest))  # type: ignore[arg-type]  # not empty
        self._groups = keep
        return due


def chunks(slices: Iterable[pl.DataFrame], rows_max: int = ROWS_MAX) -> Iterator[Chunk]:
    """Cut slices (producer.transaction_file) at each hour of the stream's time, and at `rows_max` rows."""
    waiting = WaitingLabels()
    newest_ms = 0
    for piece in slices:
        clock = np.maximum.accumulate(np.maximum(piece["occurred_at_ms"].to_numpy(), newest_ms))
        newest_ms = int(clock[-1])
        timed = piece.with_columns(pl.Series("clock_ms", clock))
        cuts = [0, *(np.flatnonzero(np.diff(clock // HOUR_MS)) + 1).tolist(), piece.height]
        for first, end in pairwise(cuts):
            for at in range(first, end, rows_max):
                part = timed.slice(at, min(rows_max, end - at))
                waiting.add(_labels(part))
                due = waiting.take(int(part["clock_ms"][-1]))
                labels = pl.concat(due) if due else _labels(part.clear())
                yield Chunk(part, labels.sort("due_ms", "known_at_ms", "row"))


def _labels(transactions: pl.DataFrame) -> pl.DataFrame:
    due = pl.max_horizontal("known_at_ms", "clock_ms").alias("due_ms")
    return transactions.filter(pl.col("known_at_ms").is_not_null()).with_columns(due).drop("amount_minor")
