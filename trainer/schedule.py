"""The schedule: which simulated midnight is due for a training. It is asked, it never acts; time is its argument.

Rule 1. A night is a midnight (UTC) of event time that the lake has reached. Only the newest counts: nights that were missed,
        while the trainer was away or a run lasted, are caught up by one run, which says how many it stands for.
Rule 2. Any run covers the nights up to the moment that the lake had reached when it began, also one that failed.
Rule 3. A stream that passes a midnight in less than `settle_s` seconds catches up: nothing is due until it has slowed down.
Rule 4. Scheduled runs take at most `share_max` of real time: after one of 30 s, a half share rests for 30 s. Where a night
        is shorter than a run and its rest, every second or third night has a run.

    nights      |       |       |       |       |
    runs        ####    .... ####    .... ####          # run, . rest: the third and the fifth stand for two nights each
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from fraud.windows import DAY_MS


@dataclass(frozen=True, slots=True)
class Night:
    """A training that is due, as of a midnight. missed: nights before it that had no run of their own."""

    as_of_ms: int
    missed: int

    @property
    def why(self) -> str:
        """For the run's history."""
        return f"stands for {self.missed} missed nights too" if self.missed else ""


class Schedule:
    """every_days: simulated days between two nights; 0: never. needs_days: days of a lake before the first is tried."""

    def __init__(self, every_days: int, share_max: float, settle_s: float, needs_days: float) -> None:
        self._every_ms = every_days * DAY_MS
        self._share_max = share_max
        self._settle_s = settle_s
        self._needs_ms = round(needs_days * DAY_MS)
        self._seen: deque[tuple[float, int]] = deque()
        self._rests_until_s = float("-inf")

    def due(self, now_s: float, event_ms: int, first_ms: int, covered_ms: int | None) -> Night | None:
        """The night that is due now, or None.

        now_s: monotonic seconds. event_ms, first_ms: newest and oldest event time of the lake. covered_ms: newest event time
        that a run has covered; None before any.
        """
        settled = self._settled(now_s, event_ms)
        if not self._every_ms or not settled or now_s < self._rests_until_s:
            return None
        midnight_ms = event_ms // self._every_ms * self._every_ms
        if midnight_ms < first_ms + self._needs_ms:
            return None
        if covered_ms is None:
            return Night(midnight_ms, 0)
        nights = midnight_ms // self._every_ms - covered_ms // self._every_ms
        return Night(midnight_ms, nights - 1) if nights > 0 else None

    def ended(self, now_s: float, took_s: float) -> None:
        """A scheduled run has ended after `took_s` seconds."""
        self._rests_until_s = now_s + took_s * (1 / self._share_max - 1)

    def _settled(self, now_s: float, event_ms: int) -> bool:
        """Whether event time was watched for settle_s, and moved less than one night in that time."""
        self._seen.append((now_s, event_ms))
        while len(self._seen) > 1 and self._seen[1][0] <= now_s - self._settle_s:
            self._seen.popleft()
        then_s, then_ms = self._seen[0]
        return now_s - then_s >= self._settle_s and event_ms - then_ms < self._every_ms
