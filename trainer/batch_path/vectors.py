"""Vectors of the batch path: the request's own fields beside the snapshot of the midnight before it.

Rule 1. A row is joined with the snapshot of the midnight at or before it, and with no other: what the scorer would have done.
Rule 2. A night's snapshot is asked for once, whatever the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from fraud.batch_features import (
    BATCH_NAMES,
    CARD_COLUMNS,
    CARD_DEFAULTS,
    TERMINAL_COLUMNS,
    TERMINAL_DEFAULTS,
    joined,
)
from fraud.features import REQUEST_NAMES
from fraud.model import Floats
from fraud.windows import DAY_MS
from trainer.batch_path.snapshot import Snapshot


def vectors_for(rows: pl.DataFrame, snapshot_of: Callable[[int], Snapshot]) -> Floats:
    """Float32 [rows, BATCH_NAMES].

    rows: card_id, terminal_id, occurred_at_ms and REQUEST_NAMES. snapshot_of(midnight_ms): the snapshot of that midnight.
    """
    vectors = np.empty((rows.height, len(BATCH_NAMES)), np.float32)
    nights = (rows["occurred_at_ms"] // DAY_MS * DAY_MS).to_numpy()
    for midnight_ms in np.unique(nights).tolist():
        of_night = np.flatnonzero(nights == midnight_ms)
        vectors[of_night] = joined_with(rows[of_night], snapshot_of(midnight_ms))
    return vectors


def joined_with(rows: pl.DataFrame, snapshot: Snapshot) -> Floats:
    """The vectors of rows that are joined with one snapshot. Raises ValueError when a row is older than it."""
    if rows.height and rows["occurred_at_ms"].min() < snapshot.midnight_ms:  # type: ignore[operator]  # an integer column
        raise ValueError(f"a row is older than the snapshot of {snapshot.midnight_ms} ms: that would be looking ahead")
    request = rows.select(REQUEST_NAMES).to_numpy().astype(np.float32)
    card = _looked_up(rows["card_id"], snapshot.cards, CARD_COLUMNS, CARD_DEFAULTS)
    terminal = _looked_up(rows["terminal_id"], snapshot.terminals, TERMINAL_COLUMNS, TERMINAL_DEFAULTS)
    return joined(request, card, terminal)


def _looked_up(ids: pl.Series, table: pl.DataFrame, columns: tuple[str, ...], defaults: Floats) -> Floats:
    """Each id's columns, and the defaults for one that the table does not have."""
    found = ids.to_frame().join(table, on=ids.name, how="left", maintain_order="left")
    filled = [pl.col(name).fill_null(float(default)) for name, default in zip(columns, defaults, strict=True)]
    return found.select(filled).to_numpy().astype(np.float32)
