"""The simulated clock: event time as a function of elapsed real time.

Rule 1. Everything that paces or stamps messages asks this clock; no other code of the producer looks at a real one.
Rule 2. The clock is started at a moment of event time and counts from there: a pause of the process is no event time,
        so nothing is caught up after it.
"""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol

MAX: Final = float("inf")


class RealTime(Protocol):
    """Seconds that pass: the real ones, or a test's."""

    def now_s(self) -> float:
        """Monotonic seconds."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when there is a reason to look again."""


class MonotonicTime:
    """The machine's own seconds. Once `stop` is set, no wait lasts."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def now_s(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or when `stop` is set."""
        self._stop.wait(seconds)


class SimulatedClock:
    """Event time that runs `speed` times as fast as real time; `MAX`: as fast as it is asked to.

    begin_ms: event time of the start, epoch milliseconds.
    """

    def __init__(self, begin_ms: int, speed: float, real: RealTime) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed}, it must be above 0")
        self._real = real
        self._begin_ms = begin_ms
        self._begin_s = self._real.now_s()
        self._reached_ms = begin_ms
        self.speed = speed

    def now_ms(self) -> int:
        """Event time now, epoch milliseconds. At speed MAX: the latest moment that was waited for."""
        if self.speed == MAX:
            return self._reached_ms
        return self._begin_ms + int((self._real.now_s() - self._begin_s) * 1000 * self.speed)

    def wait_until(self, event_time_ms: int, seconds_max: float = 1.0) -> bool:
        """Let event time come to `event_time_ms`, waiting at most `seconds_max` real seconds; say whether it came."""
        if self.speed == MAX:
            self._reached_ms = max(self._reached_ms, event_time_ms)
            return True
        missing_s = (event_time_ms - self.now_ms()) / 1000 / self.speed
        if missing_s > 0:
            self._real.wait(min(missing_s, seconds_max))
        return self.now_ms() >= event_time_ms
