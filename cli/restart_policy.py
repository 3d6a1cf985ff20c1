"""Whether a service that ended is started again, and when.

Rule 1. Code 70 and signals are healed by a restart; code 2 means that nothing can be (a person must change a setting);
        any other code stops that service, and says so.
Rule 2. Restarts are bounded: after RESTARTS_MAX of them within WINDOW_S the service is given up.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

RESTARTS_MAX: Final = 10
WINDOW_S: Final = 120.0
BACKOFF_MIN_S: Final = 0.5
BACKOFF_MAX_S: Final = 10.0
EXIT_IMPOSSIBLE: Final = 2
EXIT_RESTART: Final = 70


class Verdict(Enum):
    """What an exit code asks for."""

    RESTART = "restart"
    LEAVE = "leave it stopped"
    STOP_ALL = "stop everything"


def verdict_of(code: int) -> Verdict:
    """What to do about a service that ended unasked; negative codes are signals.

    >>> [verdict_of(code).name for code in (70, -9, 2, 1)]
    ['RESTART', 'RESTART', 'STOP_ALL', 'LEAVE']
    """
    if code == EXIT_IMPOSSIBLE:
        return Verdict.STOP_ALL
    return Verdict.RESTART if code in (0, EXIT_RESTART) or code < 0 else Verdict.LEAVE


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


class RestartPolicy:
    """The restarts of one service. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._restarts: deque[float] = deque()

    def delay_s(self, now_s: float) -> float | None:
        """Seconds to wait before the restart that is due now; None: give up."""
        while self._restarts and self._restarts[0] <= now_s - WINDOW_S:
            self._restarts.popleft()
        if len(self._restarts) >= RESTARTS_MAX:
            return None
        self._restarts.append(now_s)
        return float(min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** (len(self._restarts) - 1)))
