"""Windows of event time.

Rule 1. A window of length w that ends at t holds the times y with t - w < y <= t: open on the left, closed on the right.
Rule 2. A window is a length; it has no start that a clock decides.

                09:00            10:00
        w = 1 h  (---------------]          t = 10:00
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Window:
    """A length of event time and the name it has in features: `5m`, `1h`, `24h`, `7d`."""

    name: str
    length_ms: int


MINUTES_5: Final = Window("5m", 5 * MINUTE_MS)
HOUR: Final = Window("1h", HOUR_MS)
HOURS_24: Final = Window("24h", DAY_MS)
DAYS_1: Final = Window("1d", DAY_MS)
DAYS_7: Final = Window("7d", 7 * DAY_MS)
DAYS_28: Final = Window("28d", 28 * DAY_MS)
DAYS_30: Final = Window("30d", 30 * DAY_MS)
