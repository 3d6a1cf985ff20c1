"""Event time aligned across card partitions: while several catch up, none runs far ahead of the slowest.

Rule 1. A lane takes no further batch while it is more than AHEAD_MS_MAX of event time ahead of the slowest partition that is still
        on its way. The slowest never waits, so there is always one that goes on.
Rule 2. Nobody waits for a partition without lag, nor for longer than STILL_SECONDS_MAX for one that does not move: that is counted.
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
from typing import Final, NamedTuple

from adapters.state_store import StageState
from fraud.windows import DAY_MS

AHEAD_MS_MAX: Final = DAY_MS  # a terminal takes what is up to 35 days behind its newest; a fetched batch comes on top
STILL_SECONDS_MAX: Final = 30.0  # a killed worker's partitions are taken over in less
LOOK_SECONDS: Final = 0.25


class CardLane(NamedTuple):
    """A card lane of this worker. reached_ms: around its last batch, 0 before it."""

    state: StageState
    reached_ms: int
    has_lag: bool


class _Wait(NamedTuple):
    """Somebody waits for a partition since this moment, when its watermark was here."""

    since_s: float
    next: int | None


class EventTimeAlignment:
    """Which card lanes of this worker wait. clock: monotonic seconds. gave_up(partition): it is no longer waited for."""

    def __init__(self, clock: Callable[[], float], gave_up: Callable[[int], None]) -> None:
        self._clock = clock
        self._gave_up = gave_up
        self._seen: Mapping[int, StageState] = {}
        self._waits: dict[int, _Wait] = {}
        self._given_up: set[int] = set()

    def see(self, states: Mapping[int, StageState]) -> None:
        """Where the card stage stood a moment ago in every partition, whoever has it."""
        self._seen = states

    def held(self, own: Mapping[int, CardLane]) -> set[int]:
        """The partitions of this worker's lanes that may not take a batch now."""
        reached_ms = max((lane.reached_ms for lane in own.values()), default=0)
        states = {p: state for p, state in self._seen.items() if p not in own}
        states |= {p: lane.state for p, lane in own.items() if lane.has_lag}
        behind = {p: state for p, state in states.items() if reached_ms > state.event_time_ms + AHEAD_MS_MAX}
        self._waits = {p: self._wait(p, state) for p, state in behind.items()}
        floor_ms = min((behind[p].event_time_ms for p in self._waits if not self._is_still(p)), default=math.inf)
        return {p for p, lane in own.items() if lane.reached_ms > floor_ms + AHEAD_MS_MAX}

    def _wait(self, partition: int, state: StageState) -> _Wait:
        wait = self._waits.get(partition)
        if wait is not None and wait.next == state.next:
            return wait
        self._given_up.discard(partition)
        return _Wait(self._clock(), state.next)

    def _is_still(self, partition: int) -> bool:
        if self._clock() - self._waits[partition].since_s <= STILL_SECONDS_MAX:
            return False
        if partition not in self._given_up:
            self._given_up.add(partition)
            self._gave_up(partition)
        return True
