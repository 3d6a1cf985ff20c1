"""The highest rate that is held: bracket, then bisect, then confirm at full length.

Rule 1. Only a hold decides; a rate that was never held is never reported.
Rule 2. Bounded: at most holds_max holds a search, CONFIRM_TRIES a confirmation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

TOLERANCE: Final = 0.1
CONFIRM_TRIES: Final = 6
CONFIRM_STEP: Final = 0.93
BELOW_SERVED: Final = 0.97
CONFIRM_STEP_MIN: Final = 0.5

Hold = Callable[[float], bool]
ServedHold = Callable[[float], tuple[bool, float]]


@dataclass(slots=True)
class Found:
    """rate: the highest that was held, 0 when none was; trials: each rate that was tried and whether it was held, in order."""

    rate: float = 0.0
    trials: list[tuple[float, bool]] = field(default_factory=list)

    def take(self, rate: float, held: bool) -> bool:
        """Note a trial."""
        self.trials.append((rate, held))
        if held:
            self.rate = max(self.rate, rate)
        return held


def highest_held(
    hold: Hold, start: float, *, step: float, rate_min: float = 1.0, tolerance: float = TOLERANCE, holds_max: int = 12
) -> Found:
    """Search from `start` by factors of `step` (> 1) until one rate is held and a higher one is not; then halve the gap.

    Ends when the gap is within `tolerance`, below rate_min, or after holds_max holds. Raises ValueError for a start or step
    that cannot be.
    """
    if start <= 0 or step <= 1:
        raise ValueError(f"start {start} must be above 0, step {step} above 1")
    found = Found()
    low, high = 0.0, math.inf
    rate = start
    while len(found.trials) < holds_max and rate >= rate_min:
        if found.take(rate, hold(rate)):
            low = rate
        else:
            high = rate
        if low and high / low <= 1 + tolerance:
            break
        if math.isinf(high):
            rate = low * step
        elif not low:
            rate = high / step
        else:
            rate = math.sqrt(low * high)
    return found


def confirmed(hold: ServedHold, start: float) -> Found:
    """Hold at `start`, and then lower, until one rate is held.

    hold(rate): whether it was held, and how many a second were served meanwhile. The next rate is a step lower, or just below
    what was served when that is less: a short probe may promise twice too much.
    """
    found = Found()
    rate = start
    for _ in range(CONFIRM_TRIES):
        held, served = hold(rate)
        if found.take(rate, held):
            break
        rate = max(rate * CONFIRM_STEP_MIN, min(rate * CONFIRM_STEP, served * BELOW_SERVED))
    return found
