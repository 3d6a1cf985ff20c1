"""The world's days: when it begins, how long it lasts, and which day of the week, month and year a day is.

Rule 1. A day is an integer, 0 .. DAYS_MAX - 1; it lasts from midnight to midnight UTC.
Rule 2. Every moment is event time in epoch milliseconds; nothing here reads a clock.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from fraud.windows import DAY_MS

FIRST_DATE: Final = date(2025, 1, 1)
BEGIN_MS: Final = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000)
DAYS_MAX: Final = 730
END_MS: Final = BEGIN_MS + DAYS_MAX * DAY_MS


def check_day(day: int) -> int:
    """The day itself. Raises ValueError for a day that the world does not have."""
    if not 0 <= day < DAYS_MAX:
        raise ValueError(f"day is {day}, the world has the days 0 .. {DAYS_MAX - 1}: it begins on {FIRST_DATE}")
    return day


def check_days(days: int) -> int:
    """A number of days itself. Raises ValueError when it is below 1 or longer than the world."""
    if not 1 <= days <= DAYS_MAX:
        raise ValueError(
            f"days is {days}, it must be 1 .. {DAYS_MAX}: the world lasts from {FIRST_DATE} to {date_of(DAYS_MAX - 1)}"
        )
    return days


def date_of(day: int) -> date:
    """The date of a day."""
    return FIRST_DATE + timedelta(days=day)


def begin_of(day: int) -> int:
    """The first millisecond of a day."""
    return BEGIN_MS + day * DAY_MS


def day_of(moment_ms: int) -> int:
    """The day of a moment; below 0 or above DAYS_MAX - 1 when the world does not have it."""
    return (moment_ms - BEGIN_MS) // DAY_MS
