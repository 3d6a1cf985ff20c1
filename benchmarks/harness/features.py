"""The fold without the stack: batches of 500 rows beside plain Python, and the whole backfill.

Rule 1. The fold and plain Python are found equal, bit for bit, before either is timed.
Rule 2. Bars apply to the sizes below or larger ones: a small table measures the setting up.
Rule 3. CPU time for the comparison (a busy machine changes it little), wall time for the backfill.
"""

from __future__ import annotations

import statistics
import time
from typing import Final

import numpy as np
import polars as pl

from adapters.backends.server import Say
from benchmarks.fold import few_cards, made_rows, plain_python, seconds_of, streams
from benchmarks.harness.result import Feature
from trainer.backfill import backfill

ROWS: Final = 1_754_155
NAIVE_ROWS: Final = 10_000
TIMES_FASTER_MIN: Final = 25
BACKFILL_S_MAX: Final = 10


def measured(rows: int, naive_rows: int, rounds: int, say: Say) -> list[Feature]:
    """Measure; rows: of the backfill, naive_rows: about so many of them for plain Python."""
    table = made_rows(rows)
    few = few_cards(table, naive_rows)
    say(f"plain Python over {few.height:,} rows")
    naive_us, fold_us = beside_plain_python(few, rounds)
    times = naive_us / fold_us
    say(f"plain Python {naive_us:.1f} us, the fold {fold_us:.2f} us: {times:.0f} times")
    seconds = []
    for number in range(rounds):
        begin_s = time.perf_counter()
        backfill(table)
        seconds.append(time.perf_counter() - begin_s)
        say(f"backfill {number + 1} of {rounds}: {seconds[-1]:.1f} s")
    whole_s = statistics.median(seconds)
    return [
        Feature(
            name="batches of 500 rows against plain Python, bit for bit equal",
            value=round(times, 1),
            unit="times faster",
            bar=f"at least {TIMES_FASTER_MIN}" if naive_rows >= NAIVE_ROWS else "",
            passed=times >= TIMES_FASTER_MIN,
        ),
        Feature(
            name="CPU of the fold in batches of 500",
            value=round(fold_us, 2),
            unit="us per transaction",
            bar="",
            passed=True,
        ),
        Feature(
            name=f"backfill of {rows:,} rows",
            value=round(whole_s, 2),
            unit="s",
            bar=f"at most {BACKFILL_S_MAX}" if rows >= ROWS else "",
            passed=whole_s <= BACKFILL_S_MAX,
        ),
    ]


def beside_plain_python(table: pl.DataFrame, rounds: int) -> tuple[float, float]:
    """CPU microseconds per row of plain Python, and of the fold (median of rounds). Raises ArithmeticError when they differ."""
    begin_s = time.process_time()
    naive = plain_python(table)
    naive_us = (time.process_time() - begin_s) / table.height * 1e6
    folded = np.ascontiguousarray(backfill(table).vectors.drop("transaction_id").to_numpy())
    if [vector.tobytes() for vector in folded] != naive:
        raise ArithmeticError("the fold and plain Python differ: nothing is timed")
    passes = [sum(map(seconds_of, streams(table, with_changes=False))) for _ in range(rounds)]
    return naive_us, statistics.median(passes) / table.height * 1e6
