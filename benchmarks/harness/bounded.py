"""Whether a rate was held: the lag stayed bounded and did not grow.

Rule 1. Lag is how long ago the newest of the transactions that would be scored by now, was due: (due - scored) / rate, seconds.
Rule 2. Held: everything was scored in the end, the lag of the second half stayed at or below its bound, and from the second
        quarter to the last its median grew by no more than GROWTH_SHARE of the time between, or GROWTH_S_MIN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from benchmarks.harness.pacing import Schedule, Seconds

LAG_S_MAX: Final = 2.0
GROWTH_SHARE: Final = 0.02
GROWTH_S_MIN: Final = 0.25  # a collection pause or a file of the archiver is no growth
_EVERY_S: Final = 0.05


class Lag(msgspec.Struct, frozen=True):
    """The lag of a hold in seconds. median_s, max_s: of its second half; grown_s: as rule 2 says; held: the verdict."""

    median_s: float
    max_s: float
    grown_s: float
    unscored: int
    held: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """What counts as bounded."""

    lag_s_max: float = LAG_S_MAX


def lag_of(schedule: Schedule, scored_s: Seconds, bound: Bound = Bound()) -> Lag:
    """The lag of a hold. scored_s: when each scored transaction was scored, seconds after the beginning, in any order."""
    length_s = schedule.count / schedule.rate
    at_s = np.arange(0.0, length_s, min(_EVERY_S, length_s / 40))
    due = np.minimum(schedule.count, np.floor(at_s * schedule.rate) + 1)
    lag_s = np.maximum(0.0, due - np.searchsorted(np.sort(scored_s), at_s, side="right")) / schedule.rate
    quarter = len(at_s) // 4
    second_half = lag_s[2 * quarter :]
    grown_s = float(np.median(lag_s[3 * quarter :]) - np.median(lag_s[quarter : 2 * quarter]))
    unscored = schedule.count - len(scored_s)
    held = (
        unscored == 0
        and float(second_half.max()) <= bound.lag_s_max
        and grown_s <= max(GROWTH_S_MIN, GROWTH_SHARE * length_s / 2)
    )
    return Lag(
        round(float(np.median(second_half)), 4), round(float(second_half.max()), 4), round(grown_s, 4), unscored, held
    )
