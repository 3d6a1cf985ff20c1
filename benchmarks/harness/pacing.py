"""Open-loop pacing: when each transaction is meant to be sent, and a sender that never waits for an answer to send the next.

Rule 1. Moment i is i / rate after the beginning, fixed before the first send. A sender that falls behind sends what is due at
        once and moves no moment: whoever measures from the moment sees the stall in every transaction that it delayed.
Rule 2. Sends are gathered on ticks of `linger_s`, as a producer's linger does; 0 sends each moment by itself.
Source: the coordinated omission problem, Gil Tene, "How NOT to Measure Latency", 2013.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Schedule:
    """`count` moments at `rate` a second (> 0), gathered on ticks of linger_s (>= 0). Moments are seconds after the beginning."""

    rate: float
    count: int
    linger_s: float = 0.0

    def moments(self) -> Seconds:
        """All moments, float64 [count]."""
        moments: Seconds = np.arange(self.count) / self.rate
        return moments

    def due(self, now_s: float) -> int:
        """How many moments are at or before now."""
        return max(0, min(self.count, math.floor(now_s * self.rate + 1e-9) + 1))

    def wake_s(self, first: int) -> float:
        """When to send next, if moment `first` is the next unsent one: its own moment, or the tick at or after it."""
        moment = first / self.rate
        return moment if self.linger_s == 0 else math.ceil(moment / self.linger_s - 1e-9) * self.linger_s


@dataclass(frozen=True, slots=True)
class Paced:
    """What the sender did. behind_s_max: the longest that a moment waited for its send beyond its tick, seconds."""

    sent: int
    behind_s_max: float


async def send_paced(
    schedule: Schedule,
    send: Callable[[int, int], Awaitable[None]],
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> Paced:
    """Call send(first, end) for the moments first .. end - 1 as they become due.

    clock: seconds since the beginning. sleep(seconds): may wake late, never early by more than a tick.
    """
    first, behind_s = 0, 0.0
    while first < schedule.count:
        wake_s = schedule.wake_s(first)
        now_s = clock()
        if now_s < wake_s:
            await sleep(wake_s - now_s)
            continue
        behind_s = max(behind_s, now_s - wake_s)
        end = schedule.due(now_s)
        await send(first, end)
        first = end
    return Paced(first, behind_s)
