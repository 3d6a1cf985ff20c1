"""A small world, so that what must stand in a plan or a log can be said row by row."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from fraud.simulation import ScenarioRun
from fraud.windows import DAY_MS, HOUR_MS
from producer.world.label_delays import LabelDelays

BEGIN_MS = 1_735_689_600_000
SOON = LabelDelays(report_days_mean=0.1, chargeback_days_min=0.2, chargeback_days_max=1.0, mistaken_share=0.05)


@dataclass(frozen=True)
class SmallWorld:
    """Two days, some 3,000 transactions each; every 50th a fraud; some at the same moment."""

    seed: int = 0
    begin_ms: int = BEGIN_MS
    days: int = 2
    settings: str = ""

    def day_frame(self, day: int) -> pl.DataFrame:
        return frame(f"w0-{day}-", self.begin_ms + day * DAY_MS, DAY_MS // 3000, 3000, every=50)

    def run_frame(self, run: ScenarioRun) -> pl.DataFrame:
        if run.cards > 100:
            raise ValueError("cards is above 100")
        return frame(f"{run.run_id}-", run.begin_ms, max(1, (run.end_ms - run.begin_ms) // 40), 40, every=1)


def frame(prefix: str, begin_ms: int, step_ms: int, rows: int, every: int) -> pl.DataFrame:
    """Transactions at even steps, two at each moment."""
    number = pl.int_range(rows, eager=True)
    fraud = number % every == 0
    return pl.DataFrame(
        {
            "transaction_id": [f"{prefix}{n}" for n in number],
            "card_id": [f"c{n * 7 % 97}" for n in number],
            "terminal_id": [f"t{n * 3 % 53}" for n in number],
            "amount_minor": number + 100,
            "occurred_at_ms": begin_ms + number // 2 * 2 * step_ms,
            "merchant_id": [f"m{n % 20}" for n in number],
            "mcc": ["5411"] * rows,
            "country": ["DE"] * rows,
            "channel": ["online"] * rows,
            "device_id": [None if n % 3 else f"d{n % 97}" for n in number],
            "latitude_cdeg": pl.Series([5251] * rows, dtype=pl.Int32),
            "longitude_cdeg": pl.Series([None] * rows, dtype=pl.Int32),
            "is_fraud": fraud,
            "scenario": ["card-testing" if f else "" for f in fraud],
        }
    ).with_columns(latitude_cdeg=pl.lit(None, pl.Int32))


def late_and_twice(rows: pl.DataFrame, day: int) -> pl.DataFrame:
    """Every tenth row comes up to two hours late, every thirtieth is sent again an hour later."""
    number = pl.int_range(pl.len())
    timed = rows.with_columns(
        clock_ms=pl.col("occurred_at_ms") + pl.when(number % 10 == 3).then(number * 977 % (2 * HOUR_MS)).otherwise(0),
        is_copy=pl.lit(False),
    )
    again = timed.gather_every(30).with_columns(clock_ms=pl.col("clock_ms") + HOUR_MS, is_copy=pl.lit(True))
    return pl.concat([timed, again])
