"""Where the world is: its countries and cities, and how far apart two places are.

Rule 1. A city belongs to one country and is known by its index in CITIES; ONLINE is the place of merchants without a counter.
Rule 2. Coordinates are hundredths of a degree, rounded: about a kilometre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

EARTH_RADIUS_KM: Final = 6371.0


@dataclass(frozen=True, slots=True)
class Country:
    """code: ISO 3166-1 alpha-2. utc_hours: its clock against UTC, without summer time.

    journeys: share of the journeys that go there. online: share of the online merchants that sell from there.
    """

    code: str
    utc_hours: int
    journeys: float
    online: float


@dataclass(frozen=True, slots=True)
class City:
    """A city: country, name, centre in degrees, and its share of the country's people and merchants."""

    country: str
    name: str
    latitude: float
    longitude: float
    weight: float


HOME: Final = 0
COUNTRIES: Final = (
    Country("DE", 1, 0.44, 0.52),
    Country("AT", 1, 0.10, 0.02),
    Country("CH", 1, 0.05, 0.02),
    Country("FR", 1, 0.08, 0.04),
    Country("NL", 1, 0.07, 0.07),
    Country("PL", 1, 0.04, 0.03),
    Country("CZ", 1, 0.03, 0.01),
    Country("IT", 1, 0.06, 0.02),
    Country("ES", 1, 0.05, 0.02),
    Country("GB", 0, 0.03, 0.06),
    Country("LU", 1, 0.005, 0.08),
    Country("TR", 3, 0.02, 0.01),
    Country("US", -5, 0.015, 0.07),
    Country("BR", -3, 0.003, 0.005),
    Country("NG", 1, 0.002, 0.005),
    Country("TH", 7, 0.005, 0.01),
    Country("CN", 8, 0.005, 0.02),
)
CITIES: Final = (
    City("DE", "Berlin", 52.52, 13.40, 3.7),
    City("DE", "Hamburg", 53.55, 9.99, 1.9),
    City("DE", "Munich", 48.14, 11.58, 1.5),
    City("DE", "Cologne", 50.94, 6.96, 1.1),
    City("DE", "Frankfurt", 50.11, 8.68, 0.8),
    City("DE", "Stuttgart", 48.78, 9.18, 0.6),
    City("DE", "Leipzig", 51.34, 12.37, 0.6),
    City("DE", "Hanover", 52.37, 9.73, 0.5),
    City("DE", "Nuremberg", 49.45, 11.08, 0.5),
    City("DE", "Bremen", 53.08, 8.80, 0.4),
    City("DE", "Freiburg", 48.00, 7.85, 0.2),
    City("DE", "Rostock", 54.09, 12.10, 0.2),
    City("AT", "Vienna", 48.21, 16.37, 2.0),
    City("AT", "Salzburg", 47.80, 13.05, 1.0),
    City("CH", "Zurich", 47.37, 8.54, 1.0),
    City("FR", "Paris", 48.86, 2.35, 2.0),
    City("FR", "Strasbourg", 48.57, 7.75, 1.0),
    City("NL", "Amsterdam", 52.37, 4.90, 1.0),
    City("PL", "Warsaw", 52.23, 21.01, 1.0),
    City("CZ", "Prague", 50.08, 14.44, 1.0),
    City("IT", "Rome", 41.90, 12.50, 1.0),
    City("ES", "Palma", 39.57, 2.65, 1.0),
    City("GB", "London", 51.51, -0.13, 1.0),
    City("LU", "Luxembourg", 49.61, 6.13, 1.0),
    City("TR", "Istanbul", 41.01, 28.98, 1.0),
    City("US", "New York", 40.71, -74.01, 1.0),
    City("BR", "Sao Paulo", -23.55, -46.63, 1.0),
    City("NG", "Lagos", 6.52, 3.38, 1.0),
    City("TH", "Bangkok", 13.76, 100.50, 1.0),
    City("CN", "Shenzhen", 22.54, 114.06, 1.0),
)
ONLINE: Final = len(CITIES)
PLACES: Final = len(CITIES) + 1

_NUMBER: Final = {country.code: number for number, country in enumerate(COUNTRIES)}
CITY_COUNTRY: Final = np.array([_NUMBER[city.country] for city in CITIES], np.int8)
CITY_LATITUDE_CDEG: Final = np.array([round(city.latitude * 100) for city in CITIES], np.int32)
CITY_LONGITUDE_CDEG: Final = np.array([round(city.longitude * 100) for city in CITIES], np.int32)
CITY_UTC_HOURS: Final = np.array([COUNTRIES[number].utc_hours for number in CITY_COUNTRY], np.int64)
HOME_CITIES: Final = np.flatnonzero(CITY_COUNTRY == HOME)
Floats = npt.NDArray[np.float64]


def within_country(weights: Floats) -> Floats:
    """One share per city: its country's of `weights`, split over the country's cities by their weight; they sum to 1."""
    people = np.array([city.weight for city in CITIES])
    of_country = np.bincount(CITY_COUNTRY, people, len(COUNTRIES))
    shares: Floats = weights[CITY_COUNTRY] * people / of_country[CITY_COUNTRY]
    return np.asarray(shares / shares.sum())


def distance_km(
    latitude_cdeg: npt.NDArray[Any],
    longitude_cdeg: npt.NDArray[Any],
    to_latitude_cdeg: npt.NDArray[Any],
    to_longitude_cdeg: npt.NDArray[Any],
) -> Floats:
    """Great-circle distance by the haversine formula (R. W. Sinnott, "Virtues of the haversine", Sky and Telescope 68, 1984)."""
    north, to_north = np.radians(latitude_cdeg / 100), np.radians(to_latitude_cdeg / 100)
    east = np.radians((to_longitude_cdeg - longitude_cdeg) / 100)
    half = np.sin((to_north - north) / 2) ** 2 + np.cos(north) * np.cos(to_north) * np.sin(east / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(half, 1.0))))
