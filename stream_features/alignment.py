"""Event time aligned across card partitions: while several catch up, none runs far ahead of the slowest.

Rule 1. A lane takes no further batch while it is more than AHEAD_MS_MAX of event time ahead of the slowest partition that has lag.
        The slowest never waits, so there is always one that goes on.
Rule 2. Only when a batch is taken depends on this, never what becomes of it: the order of `terminal-log` still decides.
Rule 3. How far a lane is, is the median of its last batch: one record of a wrong clock holds nobody.

    partition 0   ========|......... slowest with lag
    partition 1   ==============|    may be up to AHEAD_MS_MAX further, and waits there
    partition 2   ====|              no lag: nothing to wait for, it holds nobody
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiokafka.errors import KafkaError

from adapters.state_store import StageState
from fraud.windows import DAY_MS

AHEAD_MS_MAX: Final = DAY_MS  # a terminal takes what is up to 35 days behind its newest; a fetched batch comes on top
LOOK_SECONDS: Final = 0.05
LOOK_SECONDS_MAX: Final = 5.0
IDLE_SECONDS: Final = 0.25


class EventTimeAlignment:
    """Which card lanes may take a batch now.

    progress: reads the card stage's state of every partition. ends: reads the ends of `transactions`, 0 for an empty one.
    """

    def __init__(
        self, progress: Callable[[], Awaitable[Sequence[StageState]]], ends: Callable[[], Awaitable[Sequence[int]]]
    ) -> None:
        self._progress = progress
        self._ends = ends
        self._floor_ms = (
            -math.inf
        )  # of the slowest with lag, as last seen: it only rises, so an old look is on the safe side

    @property
    def catching_up(self) -> bool:
        """Whether a partition had lag at the last look, or nobody has looked yet."""
        return self._floor_ms != math.inf

    def may_take(self, reached_ms: int) -> bool:
        """Whether a lane whose last batch was around `reached_ms` (0: none yet) may take another."""
        return reached_ms == 0 or reached_ms <= self._floor_ms + AHEAD_MS_MAX

    async def look(self) -> None:
        """Look how far the slowest partition with lag is."""
        ends, states = await self._ends(), await self._progress()
        lagging = [s.event_time_ms for s, end in zip(states, ends, strict=True) if (s.next or 0) < end]
        self._floor_ms = min(lagging, default=math.inf)

    async def keep_looking(self) -> None:
        """Look again and again; while the broker is away, what was seen last counts."""
        while True:
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS_MAX):  # a request that hangs must not hold the lanes
                    await self.look()
            await asyncio.sleep(LOOK_SECONDS if self.catching_up else IDLE_SECONDS)
