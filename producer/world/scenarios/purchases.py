"""Purchases that a fraudster makes: the columns that all scenarios fill in the same way.

Rule 1. A fraudster's device is nobody's own; his place is a city, and sometimes not seen, as an honest payer's.
Rule 2. Amounts are log-normal around a category's median and often end in 99, as honest ones do: an amount alone tells little.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from producer.world.categories import CATEGORIES, INDEX
from producer.world.days import day_of
from producer.world.draws import Floats, Ints
from producer.world.geography import (
    CITIES,
    CITY_LATITUDE_CDEG,
    CITY_LONGITUDE_CDEG,
    HOME_CITIES,
    ONLINE,
    distance_km,
)
from producer.world.habits import PRICE_POINT_SHARE
from producer.world.merchants import sells
from producer.world.population import Population
from producer.world.rows import NO_DEVICE, NO_PLACE, Int32s, Int64s, Rows
from producer.world.scenarios.scenario import Episode

SMALL_GOODS: Final = ("5999", "5816", "8398", "4899")
RESOLD_GOODS: Final = ("5732", "5999", "5651", "5944")
MOVED_TO: Final = ("4722", "4511", "4814", "5200")
"""Where fraud goes when it moves: travel, flights, telephones, home supply."""
UNSEEN: Final = 0.15
AT_HOME: Final = 0.5
FAR_KM: Final = 500
_FREE_DEVICES: Final = 1_000_000_000
_MEDIAN_MINOR: Final = np.array([category.amount * 100 for category in CATEGORIES])
_SIGMA: Final = np.array([category.sigma for category in CATEGORIES])
_SOLD_IN_SHOPS: Final = np.flatnonzero(sells(0))


def categories(episode: Episode, codes: tuple[str, ...], count: int) -> Ints:
    """So many categories among MCCs; among MOVED_TO when fraud has moved."""
    choice = [INDEX[code] for code in (MOVED_TO if episode.moved else codes)]
    return episode.random.choice(choice, count)


def shop_categories(episode: Episode, count: int) -> Ints:
    """So many categories that are sold in every city, as people buy them there."""
    share = np.array([CATEGORIES[index].shop_share for index in _SOLD_IN_SHOPS])
    return episode.random.choice(_SOLD_IN_SHOPS, count, p=share / share.sum())


def amounts(episode: Episode, card: Ints, category: Ints, factor: float | Floats = 1.0) -> Int64s:
    """Cents, 50 or more: the category's and card's usual amounts, times a factor."""
    spread = np.exp(_SIGMA[category] * episode.random.standard_normal(len(card)))
    minor = np.rint(_MEDIAN_MINOR[category] * episode.population.amount[card] * spread * factor).astype(np.int64)
    return priced(episode, np.maximum(minor, 50))


def priced(episode: Episode, minor: Int64s) -> Int64s:
    """Cents, with as many prices that end in 99 as honest people pay."""
    price_point = (episode.random.random(len(minor)) < PRICE_POINT_SHARE) & (minor >= 100)
    return np.where(price_point, minor // 100 * 100 + 99, minor)


def burst(episode: Episode, count: int, length_ms: int) -> Int64s:
    """So many moments, ascending, within a stretch of at most length_ms somewhere in the episode."""
    length_ms = max(1, min(length_ms, episode.length_ms))
    begin_ms = episode.begin_ms + int(episode.random.integers(0, episode.length_ms - length_ms + 1))
    return np.sort(begin_ms + episode.random.integers(0, length_ms, count))


def strange_device(episode: Episode) -> int:
    """A device that is nobody's own."""
    return int(episode.population.devices + episode.random.integers(0, _FREE_DEVICES - episode.population.devices))


def home_city(episode: Episode) -> int:
    """A city of the home country."""
    return int(episode.random.choice(HOME_CITIES))


def any_city(episode: Episode) -> int:
    """A city of the world, most often one at home: a fraudster hides where his victims are, or seems to be there."""
    if episode.random.random() < AT_HOME:
        return home_city(episode)
    return int(episode.random.integers(0, len(CITIES)))


def far_city(episode: Episode, home: int) -> int:
    """A city at least FAR_KM from the city `home`."""
    away = distance_km(CITY_LATITUDE_CDEG[home], CITY_LONGITUDE_CDEG[home], CITY_LATITUDE_CDEG, CITY_LONGITUDE_CDEG)
    return int(episode.random.choice(np.flatnonzero(away >= FAR_KM)))


def online(
    episode: Episode,
    number: int,
    at_ms: Int64s,
    card: Ints,
    category: Ints,
    amount_minor: Int64s,
    device: Ints | int,
    city: int,
) -> Rows:
    """Purchases online, paid from a city, marked with the scenario's number."""
    random, population = episode.random, episode.population
    count = len(at_ms)
    place = np.full(count, ONLINE)
    terminal = population.merchants.chosen(place, category, random.random(count), random.random(count))
    latitude, longitude = _about(episode, city, count)
    seen_device = np.where(random.random(count) < UNSEEN, NO_DEVICE, np.broadcast_to(device, count))
    return Rows.make(
        at_ms, card=card, terminal=terminal, amount_minor=amount_minor, online=True, device=seen_device,
        latitude_cdeg=latitude, longitude_cdeg=longitude, scenario=number,
    )  # fmt: skip


def online_at_home(
    episode: Episode, number: int, at_ms: Int64s, card: Ints, category: Ints, amount_minor: Int64s
) -> Rows:
    """Purchases online from the card's own home and device, marked with the scenario's number."""
    population: Population = episode.population
    days = np.array([day_of(moment) for moment in at_ms.tolist()], np.int64)
    device = population.device_at(card, days, episode.random.random(len(card)))
    rows = online(episode, number, at_ms, card, category, amount_minor, device, 0)
    unseen = rows.latitude_cdeg == NO_PLACE
    return replace(
        rows,
        latitude_cdeg=np.where(unseen, np.int32(NO_PLACE), population.latitude_cdeg[card]),
        longitude_cdeg=np.where(unseen, np.int32(NO_PLACE), population.longitude_cdeg[card]),
    )


def in_shops(
    episode: Episode, number: int, at_ms: Int64s, card: Ints, category: Ints, amount_minor: Int64s, city: int
) -> Rows:
    """Purchases in shops of a city with a copy of the card, marked with the scenario's number."""
    random, merchants = episode.random, episode.population.merchants
    count = len(at_ms)
    terminal = merchants.chosen(np.full(count, city), category, random.random(count), random.random(count))
    return Rows.make(
        at_ms, card=card, terminal=terminal, amount_minor=amount_minor, scenario=number,
        latitude_cdeg=merchants.terminal_latitude_cdeg[terminal], longitude_cdeg=merchants.terminal_longitude_cdeg[terminal],
    )  # fmt: skip


def _about(episode: Episode, city: int, count: int) -> tuple[Int32s, Int32s]:
    """One place in a city for all purchases of an episode; of some it is not seen."""
    north, east = episode.random.integers(-8, 9, 2)
    unseen = episode.random.random(count) < UNSEEN
    latitude = np.where(unseen, NO_PLACE, CITY_LATITUDE_CDEG[city] + north)
    return latitude.astype(np.int32), np.where(unseen, NO_PLACE, CITY_LONGITUDE_CDEG[city] + east).astype(np.int32)
