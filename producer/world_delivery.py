"""How a day's transactions arrive: most at their moment, some late, a few twice.

Rule 1. It is a function of (seed, day): a restart plans the same arrivals. No delay reaches a day (drift.LATE_MINUTES_MAX).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from producer.world.drift import Drift, arrivals, copies_at


class Disorder:
    """The delivery of a world with a drift's shares and delays."""

    def __init__(self, seed: int, drift: Drift) -> None:
        self._seed = seed
        self._drift = drift

    def __call__(self, rows: pl.DataFrame, day: int) -> pl.DataFrame:
        """The day's rows with clock_ms and is_copy, and the copies after them."""
        at_ms, copied = arrivals(self._seed, rows.height, rows["occurred_at_ms"].to_numpy(), day, self._drift)
        once = rows.with_columns(clock_ms=pl.Series(at_ms), is_copy=pl.lit(False))
        again_ms = copies_at(self._seed, at_ms[copied], day)
        again = once.filter(pl.Series(copied)).with_columns(
            clock_ms=pl.Series(again_ms, dtype=pl.Int64), is_copy=pl.lit(True)
        )
        return pl.concat([once, again]) if np.any(copied) else once
