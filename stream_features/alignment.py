"""Event time aligned across card partitions: while several catch up, none runs far ahead of the slowest.

Rule 1. A lane takes no further batch while it is more than AHEAD_MS_MAX of event time ahead of the slowest partition that is still
        on its way. The slowest never waits, so there is always one that goes on.
Rule 2. Nobody waits for a partition without lag, nor for one that has not moved for STILL_SECONDS_MAX, whoever has it: that is counted.
Rule 3. Nothing is asked of Kafka: how far this worker's lanes are is in memory, how far the others' are is in the state store.
Rule 4. Only when a batch is taken depends on this, never what becomes of it: the order of `terminal-log` still decides.
        How far a lane is, is the median of its last batch: one record of a wrong clock holds nobody back.

    partition 0   ========|......... slowest with lag
    partition 1   ==============|    may be up to AHEAD_MS_MAX further, and waits there
    partition 2   ====|              no lag, or still for too long: it holds nobody
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from adapters.state_store import StageState
from fraud.windows import DAY_MS

AHEAD_MS_MAX: Final = DAY_MS  # a terminal takes what is up to 35 days behind its newest; a fetched batch comes on top
STILL_SECONDS_MAX: Final = 30.0  # a killed worker's partitions are taken over in less
LOOK_SECONDS: Final = 0.25


class CardLane(NamedTuple):
    """A card lane of this worker. reached_ms: around its last batch, 0 before it; event_time_ms: its newest event."""

    reached_ms: int
    event_time_ms: int
    has_lag: bool


@dataclass(slots=True)
class _Seen:
    """A partition's watermark and event time as last seen, and when the watermark was last seen to move."""

    next: int | None
    event_time_ms: int
    moved_at_s: float


class EventTimeAlignment:
    """Which card lanes of this worker wait. clock: monotonic seconds. gave_up(partition): it is no longer waited for."""

    def __init__(self, clock: Callable[[], float], gave_up: Callable[[int], None]) -> None:
        self._clock = clock
        self._gave_up = gave_up
        self._seen: dict[int, _Seen] = {}
        self._given_up: set[int] = set()

    def see(self, states: Mapping[int, StageState]) -> None:
        """Where the card stage stands in every partition."""
        for partition, state in states.items():
            seen = self._seen.get(partition)
            if seen is None or seen.next != state.next:
                self._seen[partition] = _Seen(state.next, state.event_time_ms, self._clock())
                self._given_up.discard(partition)

    def held(self, own: Mapping[int, CardLane]) -> set[int]:
        """The partitions of this worker's lanes that may not take a batch now."""
        reached_ms = max((lane.reached_ms for lane in own.values()), default=0)
        waited_for = {p: lane.event_time_ms for p, lane in own.items() if lane.has_lag}
        waited_for |= {p: seen.event_time_ms for p, seen in self._seen.items() if p not in own}
        floor_ms = math.inf
        for partition, event_time_ms in waited_for.items():
            if reached_ms <= event_time_ms + AHEAD_MS_MAX:
                continue  # nobody is that far ahead of it
            if self._is_still(partition):
                self._give_up(partition)
            else:
                floor_ms = min(floor_ms, event_time_ms)
        return {p for p, lane in own.items() if lane.reached_ms > floor_ms + AHEAD_MS_MAX}

    def _is_still(self, partition: int) -> bool:
        seen = self._seen.get(partition)
        return seen is not None and self._clock() - seen.moved_at_s > STILL_SECONDS_MAX

    def _give_up(self, partition: int) -> None:
        if partition not in self._given_up:
            self._given_up.add(partition)
            self._gave_up(partition)
