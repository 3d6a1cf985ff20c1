"""When people pay: the hours of a day, the days of a week, payday and season.

Rule 1. Hours are on the clock of the place where the person is.
Rule 2. A factor multiplies the mean number of trips; a weekday's also says what they are for.

The shapes follow what card statistics show: a midday and an early evening peak, a trough at 3 to 5, a strong Friday and
Saturday, closed shops on Sundays (Germany), a rise after payday (M. Gelman, S. Kariv, M. Shapiro, D. Silverman, S. Tadelis,
"Harnessing naturally occurring data to measure the response of spending to income", Science 345, 2014), a strong December.
The numbers are round and chosen here.
"""

from __future__ import annotations

from datetime import date
from typing import Final

import numpy as np

from fraud.windows import DAY_MS, HOUR_MS
from producer.world.categories import CATEGORIES
from producer.world.draws import Floats, Ints
from producer.world.lifestyles import mix

HOURS: Final = {
    "shopping": (0, 0, 0, 0, 0, 0, 1, 4, 12, 26, 38, 44, 42, 36, 34, 38, 48, 58, 56, 34, 12, 3, 1, 0),
    "meals": (4, 2, 1, 1, 1, 2, 5, 12, 14, 10, 10, 26, 62, 58, 24, 14, 16, 28, 52, 64, 52, 32, 18, 9),
    "commuting": (2, 1, 1, 1, 4, 16, 46, 66, 52, 28, 20, 20, 24, 24, 26, 36, 54, 62, 46, 28, 18, 12, 9, 5),
    "evening": (10, 5, 3, 2, 1, 2, 5, 10, 16, 22, 26, 28, 30, 28, 26, 26, 28, 32, 40, 52, 62, 60, 44, 24),
    "night": (34, 24, 15, 9, 5, 3, 4, 6, 8, 10, 12, 14, 16, 16, 18, 22, 26, 30, 36, 44, 54, 60, 58, 48),
    "any": (8, 5, 4, 4, 5, 7, 12, 18, 24, 28, 30, 30, 30, 28, 28, 28, 30, 30, 30, 30, 28, 24, 18, 12),
}
"""Weight of each hour, 0 .. 23, by the name that a category gives."""
BOUND: Final = {"shopping": 0.25, "meals": 0.5, "commuting": 0.5, "evening": 1.0, "night": 1.0, "any": 1.0}
"""How far a late life moves them: shops close all the same."""
WEEKDAYS: Final = (0.94, 0.96, 0.98, 1.0, 1.16)
ONLINE_SATURDAY: Final = 0.98
ONLINE_SUNDAY: Final = 1.15
HOLIDAYS: Final = frozenset({(1, 1), (5, 1), (10, 3), (12, 25), (12, 26)})
"""Month and day; shops are closed as on a Sunday."""
SEASON: Final = (0.92, 0.90, 0.96, 1.0, 1.0, 1.0, 1.03, 0.98, 0.97, 1.0, 1.10, 1.22)
PAYDAY_RISE: Final = 0.45
PAYDAY_DAYS: Final = 2.5
_STEPS: Final = 1024
_QUANTILES: Final = 4096


def _quantiles(weights: tuple[int, ...]) -> Floats:
    """Milliseconds since local midnight at _STEPS + 1 evenly spaced quantiles; linear within an hour."""
    share = np.concatenate(([0.0], np.cumsum(weights))) / sum(weights)
    # Hours of weight 0 repeat a share: interpolation needs it to ascend.
    return np.asarray(np.interp(np.linspace(0, 1, _STEPS + 1), share + np.arange(25) * 1e-12, np.arange(25) * HOUR_MS))


_NAMES: Final = tuple(HOURS)
_TABLE: Final = np.stack([_quantiles(HOURS[name]) for name in _NAMES])
_BOUND: Final = np.array([BOUND[name] for name in _NAMES])


def _profiles(online: bool) -> tuple[int, ...]:
    names = [c.hours if not online or c.hours in ("night", "any", "commuting") else "evening" for c in CATEGORIES]
    return tuple(_NAMES.index(name) for name in names)


_PROFILE: Final = np.array([_profiles(online=False), _profiles(online=True)])


def local_time_ms(category: Ints, online: bool, later_hours: Ints, uniform: Floats) -> Floats:
    """Milliseconds since local midnight, 0 <= t < DAY_MS, of purchases of those categories by people who live so much later."""
    profile = _PROFILE[int(online), category]
    step = uniform * _STEPS
    low = step.astype(np.int64)
    begin = _TABLE[profile, low]
    time = begin + (step - low) * (_TABLE[profile, low + 1] - begin) + later_hours * _BOUND[profile] * HOUR_MS
    return np.asarray(time % DAY_MS)


def category_weights(day: date, online: bool) -> Floats:
    """Trips of each lifestyle for each category against a usual day's trips, shape [lifestyles, categories]."""
    weekday = 6 if (day.month, day.day) in HOLIDAYS else day.weekday()
    if weekday < 5:
        factors = np.full(len(CATEGORIES), WEEKDAYS[weekday])
    elif online:
        factors = np.full(len(CATEGORIES), ONLINE_SATURDAY if weekday == 5 else ONLINE_SUNDAY)
    else:
        factors = np.array([c.saturday if weekday == 5 else c.sunday for c in CATEGORIES])
    return np.asarray(mix(online) * factors * SEASON[day.month - 1])


def category_table(weights: Floats) -> Ints:
    """The category at evenly spaced quantiles of each lifestyle, shape [lifestyles, quantiles]: draw by `drawn`."""
    share = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    middle = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return np.stack([np.searchsorted(row, middle).astype(np.int8) for row in share])


def drawn(table: Ints, lifestyle: Ints, uniform: Floats) -> Ints:
    """A category for each row from the table of `category_table`."""
    return np.asarray(table[lifestyle, (uniform * _QUANTILES).astype(np.int64)])


def payday_factor(day_of_month: int, payday: Ints) -> Floats:
    """Trips on that day of the month of people paid on their payday, against their mean; 1 on average over 30 days."""
    rise = PAYDAY_RISE * np.exp(-np.arange(31) / PAYDAY_DAYS)
    factor = (1 + rise) / (1 + rise[:30].mean())
    return np.asarray(factor[(day_of_month - np.arange(32)) % 30][payday])
