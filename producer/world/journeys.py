"""Journeys: where a card is at a moment.

Rule 1. A journey is a hash of (card, period): any moment can be asked for alone, and nothing is stored.
Rule 2. It lies within its period of 30 days, which begins on another day for each card.
Rule 3. Travel takes its time; on the way nobody pays. So an honest card is never in two places.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fraud.windows import DAY_MS, HOUR_MS
from producer.world.days import BEGIN_MS
from producer.world.draws import Floats, Ints, Stream, hashed
from producer.world.geography import (
    CITIES,
    CITY_LATITUDE_CDEG,
    CITY_LONGITUDE_CDEG,
    COUNTRIES,
    distance_km,
    within_country,
)
from producer.world.population import Population
from producer.world.rows import Int8s

PERIOD_DAYS: Final = 30
STAY_DAYS_MEAN: Final = 4.0
STAY_DAYS_MAX: Final = 11
ON_THE_WAY: Final = -1
_LEAVES_BY_DAY: Final = PERIOD_DAYS - STAY_DAYS_MAX - 3
_DESTINATIONS: Final = np.cumsum(within_country(np.array([country.journeys for country in COUNTRIES])))


def _travel_ms() -> Floats:
    """Time from city to city, shape [cities, cities]: by train below 400 km, by air above."""
    north, east = CITY_LATITUDE_CDEG, CITY_LONGITUDE_CDEG
    km = distance_km(north[:, None], east[:, None], north[None, :], east[None, :])
    return np.where(km < 400, 0.5 + km / 100, 3.5 + km / 750) * HOUR_MS


_TRAVEL_MS: Final = _travel_ms()


def place_at(population: Population, card: Ints, at_ms: Ints) -> Int8s:
    """The city of each card at its moment: an index into CITIES, or ON_THE_WAY."""
    place = population.home[card].copy()
    phase = hashed(population.seed, Stream.JOURNEYS, card) * PERIOD_DAYS
    since_ms = at_ms - BEGIN_MS + phase * DAY_MS
    period = (since_ms // (PERIOD_DAYS * DAY_MS)).astype(np.int64)
    goes = hashed(population.seed, Stream.JOURNEYS, card, period, 0) < population.journeys[card]
    rows = np.flatnonzero(goes)
    traveller, period = card[rows], period[rows]

    def draw(which: int) -> Floats:
        return hashed(population.seed, Stream.JOURNEYS, traveller, period, which)

    home = place[rows]
    there = np.minimum(np.searchsorted(_DESTINATIONS, draw(1), side="right"), len(CITIES) - 1)
    way_ms = _TRAVEL_MS[home, there]
    leaves = draw(2) * _LEAVES_BY_DAY * DAY_MS
    stays = np.minimum(0.3 - STAY_DAYS_MEAN * np.log1p(-draw(3)), STAY_DAYS_MAX) * DAY_MS
    elapsed = since_ms[rows] - period * (PERIOD_DAYS * DAY_MS) - leaves
    away = (elapsed >= 0) & (elapsed < 2 * way_ms + stays) & (there != home)
    is_there = (elapsed >= way_ms) & (elapsed < way_ms + stays)
    place[rows] = np.where(away, np.where(is_there, there, ON_THE_WAY), home)
    return place
