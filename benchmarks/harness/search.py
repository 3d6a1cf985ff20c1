"""The highest rate that is held: bracket, then bisect, then confirm at full length.

Rule 1. Only a hold decides; a rate that was never held is never reported.
Rule 2. Bounded: at most holds_max holds a search, one for each of CONFIRMED_AT a confirmation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

TOLERANCE: Final = 0.1
# Fine at first, then far: a short hold may promise twice too much.
CONFIRMED_AT: Final = (1.0, 0.93, 0.86, 0.8, 0.74, 0.6, 0.45)

Hold = Callable[[float], bool]


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


def confirmed(hold: Hold, start: float, *, shares: Sequence[float] = CONFIRMED_AT) -> Found:
    """Hold at `start`, and at falling shares of it until one is held."""
    found = Found()
    for share in shares:
        if found.take(start * share, hold(start * share)):
            break
    return found
