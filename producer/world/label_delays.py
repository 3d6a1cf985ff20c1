"""When the truth about a transaction becomes known without anybody looking at it: customers' reports and chargebacks.

Rule 1. Each transaction has three draws, made for all of a day's rows in their order: who learns of it does not depend on
        what others learn.
Rule 2. What is not reported and not charged back is never known.
Rule 3. `BENCHMARK` is the Handbook's rule: everything is known exactly seven days later.

Delays are as the industry describes them: most frauds are reported by the customer within days (here log-normal, mean 5),
the rest come back through the scheme as chargebacks after 30 to 120 days. Sources: Dal Pozzolo, Boracchi, Caelen, Alippi,
Bontempi, "Credit card fraud detection: a realistic modeling and a novel learning strategy", IEEE TNNLS 29(8), 2018;
the 120 days are the card schemes' usual limit for a dispute. The shares are plausible round numbers, not measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.windows import DAY_MS, HOUR_MS

SOURCES: Final = ("", "customer_report", "chargeback", "benchmark")
NEVER, CUSTOMER_REPORT, CHARGEBACK, BENCHMARK_SOURCE = range(4)

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelDelays:
    """How frauds become known.

    report_share, chargeback_share: of the frauds; the rest is never known. report_days_mean, report_sigma: of the
    log-normal delay of a report, sigma of its logarithm. mistaken_share: of the genuine transactions that a customer
    reports by mistake. exact_days: when set, everything becomes known after exactly so long.
    """

    report_share: float = 0.70
    report_days_mean: float = 5.0
    report_sigma: float = 1.0
    chargeback_share: float = 0.20
    chargeback_days_min: float = 30.0
    chargeback_days_max: float = 120.0
    mistaken_share: float = 0.0002
    exact_days: float | None = None

    def __post_init__(self) -> None:
        for name in ("report_share", "chargeback_share", "mistaken_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be 0 .. 1")
        if self.report_share + self.chargeback_share > 1:
            raise ValueError("report_share and chargeback_share are together above 1")
        if self.report_days_mean <= 0 or self.report_sigma <= 0:
            raise ValueError("report_days_mean and report_sigma must be above 0")
        if not 0 < self.chargeback_days_min <= self.chargeback_days_max:
            raise ValueError("chargeback_days_min must be above 0 and at most chargeback_days_max")
        if self.exact_days is not None and not self.exact_days >= 0:
            raise ValueError(f"exact_days is {self.exact_days}, it must be 0 or more")

    @property
    def days_max(self) -> float:
        """No label of these comes later than so many days after its transaction (a report is cut there too)."""
        return self.chargeback_days_max if self.exact_days is None else self.exact_days


REALISTIC: Final = LabelDelays()
BENCHMARK: Final = LabelDelays(exact_days=7.0)


@dataclass(frozen=True, slots=True)
class KnownLater:
    """Row by row: source (index into SOURCES, NEVER: no label), is_fraud as the label says it, known_at_ms (0 without)."""

    source: npt.NDArray[np.int8]
    is_fraud: Bools
    known_at_ms: Int64s


def known_later(
    random: np.random.Generator, is_fraud: Bools, occurred_at_ms: Int64s, delays: LabelDelays = REALISTIC
) -> KnownLater:
    """What becomes known of transactions by itself; `random` is drawn from three times for each row."""
    rows = len(is_fraud)
    kind, spread, place = random.random(rows), random.standard_normal(rows), random.random(rows)
    if delays.exact_days is not None:
        known_at = occurred_at_ms + int(delays.exact_days * DAY_MS)
        return KnownLater(np.full(rows, BENCHMARK_SOURCE, np.int8), is_fraud.copy(), known_at)
    source = np.where(kind < delays.report_share, CUSTOMER_REPORT, CHARGEBACK)
    source[kind >= delays.report_share + delays.chargeback_share] = NEVER
    source[~is_fraud] = np.where(kind[~is_fraud] < delays.mistaken_share, CUSTOMER_REPORT, NEVER)
    centre = np.log(delays.report_days_mean) - delays.report_sigma**2 / 2  # so that the mean is the stated one
    report_days = np.minimum(np.exp(centre + delays.report_sigma * spread), delays.days_max)
    chargeback_days = delays.chargeback_days_min + place * (delays.chargeback_days_max - delays.chargeback_days_min)
    days = np.where(source == CUSTOMER_REPORT, report_days, chargeback_days)
    delay_ms = np.maximum((days * DAY_MS).astype(np.int64), HOUR_MS)
    known_at = np.where(source == NEVER, 0, occurred_at_ms + delay_ms)
    return KnownLater(source.astype(np.int8), source != NEVER, known_at)
