"""Rows for the producer's tests: slices as producer.transaction_file gives them.

Rule 1. Times are stated in minutes after BEGIN_MS, so that a test can be read.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from fraud.windows import MINUTE_MS

BEGIN_MS = 1_522_540_800_000  # 2018-04-01, the full hour


def rows(minutes: Sequence[float], known_minutes: Sequence[float | None] | None = None, first: int = 0) -> pl.DataFrame:
    """One row per minute given; known_minutes: when its label is known, None for no label."""
    known = known_minutes or [None] * len(minutes)
    numbers = range(first, first + len(minutes))
    return pl.DataFrame(
        {
            "transaction_id": [f"h0-{i}" for i in numbers],
            "card_id": [f"c{i % 7}" for i in numbers],
            "terminal_id": [f"t{i % 5}" for i in numbers],
            "amount_minor": [100 + i for i in numbers],
            "occurred_at_ms": [BEGIN_MS + int(m * MINUTE_MS) for m in minutes],
            "row": list(numbers),
            "is_fraud": [None if k is None else i % 3 == 0 for i, k in zip(numbers, known, strict=True)],
            "known_at_ms": [None if k is None else BEGIN_MS + int(k * MINUTE_MS) for k in known],
        },
        schema_overrides={"is_fraud": pl.Boolean, "known_at_ms": pl.Int64},
    )
