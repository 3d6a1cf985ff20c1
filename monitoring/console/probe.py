"""The pulse: every PULSE_S the services' metrics are read, and what follows from them is told to all browsers.

Rule 1. One reading for all: a further browser costs no further request to a service.
Rule 2. Without a browser it looks seldom, only so that the history has no hole.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

from monitoring.console.hub import Hub
from monitoring.console.readings import Reading, read_all
from monitoring.console.targets import Targets
from monitoring.console.vitals import vitals

PULSE_S: Final = 2.0
SELDOM_S: Final = 10.0
RATE_OVER_S: Final = 30.0
HISTORY_POINTS: Final = 900
HISTORY_COLUMNS: Final = ("at_ms", "scored_per_s", "p50", "p95", "p99", "lag_s")

log = structlog.get_logger("console")


class Probe:
    """Reads, and lets the hub beat. faults(): what is wrong with the console's own sources, by name."""

    def __init__(self, hub: Hub, targets: Targets, faults: Callable[[], dict[str, str]]) -> None:
        self._hub = hub
        self._targets = targets
        self._faults = faults
        self._pool = ThreadPoolExecutor(4, "metrics")
        self._readings: deque[Reading] = deque()
        self.history: deque[list[float | None]] = deque(maxlen=HISTORY_POINTS)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self._look()
            except Exception:
                log.exception("the look failed; the next one follows")
            await self._until_due()

    async def _until_due(self) -> None:
        waited = 0.0
        while waited < (PULSE_S if self._hub.stream.readers else SELDOM_S):
            await asyncio.sleep(PULSE_S / 4)
            waited += PULSE_S / 4

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _look(self) -> None:
        targets = self._targets.now()
        reading = await asyncio.to_thread(read_all, self._pool, targets, time.monotonic())
        self._readings.append(reading)
        while len(self._readings) > 2 and reading.at_s - self._readings[1].at_s >= RATE_OVER_S:
            self._readings.popleft()
        signs = vitals(reading, self._readings[0])
        point = _point(signs)
        self.history.append(point)
        self._hub.beat({"vitals": signs, "point": point, "faults": self._faults()})


def _point(signs: dict[str, Any]) -> list[float | None]:
    end_to_end = signs["end_to_end_s"]
    return [
        round(time.time() * 1000),
        signs["scored_per_s"],
        end_to_end["p50"],
        end_to_end["p95"],
        end_to_end["p99"],
        signs["lag_to_score_s"],
    ]
