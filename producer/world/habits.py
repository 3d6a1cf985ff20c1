"""The honest transactions of a day: what people buy when nobody betrays anybody.

Rule 1. A day is a pure function of (population, day): its generator is seeded with (seed, stream, day).
Rule 2. A trip is one or more purchases, minutes apart, in one city or online; most go to the card's favourite merchants.
Rule 3. Whoever is on the way, or whose card is not open, pays nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud.windows import DAY_MS, HOUR_MS
from producer.world.categories import CASH, CATEGORIES, INDEX
from producer.world.days import begin_of, check_day, date_of
from producer.world.draws import Floats, Ints, Stream, generator, hashed
from producer.world.geography import CITY_LATITUDE_CDEG, CITY_LONGITUDE_CDEG, CITY_UTC_HOURS, ONLINE
from producer.world.hours import category_table, category_weights, drawn, local_time_ms, payday_factor
from producer.world.journeys import ON_THE_WAY, place_at
from producer.world.population import Population
from producer.world.rows import NO_DEVICE, NO_PLACE, Int32s, Int64s, Rows, concatenate

MORE_PURCHASES: Final = (0.20, 0.06, 0.02)
"""Probability that a trip has at least 1, 2, 3 more purchases."""
GAME_PURCHASES: Final = 1.0
"""Mean number of more purchases in a game: small amounts, one after the other."""
PURCHASE_GAP_MS: Final = HOUR_MS // 5
SAME_ONLINE_SHARE: Final = 0.6
LOYALTY: Final = 0.65
FAVOURITES: Final = 3
WALLET_USE: Final = 0.75
DEVICE_UNSEEN: Final = 0.08
PLACE_UNSEEN: Final = 0.05
PLACE_AT_HUB: Final = 0.03
HUB: Final = 4
"""Frankfurt: where a mobile network enters the internet, and so where some online payers seem to be."""
LODGING_SPREAD_CDEG: Final = 8
VERIFICATION_SHARE: Final = 0.002
PRICE_POINT_SHARE: Final = 0.4
_GAMES: Final = INDEX["5816"]
_MEDIAN: Final = np.array([category.amount for category in CATEGORIES])
_SIGMA: Final = np.array([category.sigma for category in CATEGORIES])


@dataclass(frozen=True, slots=True)
class _Purchases:
    """Arrays, one entry a purchase of one channel; city: where the payer is, index into CITIES or ON_THE_WAY."""

    at_ms: Int64s
    card: Int32s
    category: Ints
    city: Ints

    def take(self, chosen: Ints) -> _Purchases:
        return _Purchases(self.at_ms[chosen], self.card[chosen], self.category[chosen], self.city[chosen])


def honest_day(population: Population, day: int) -> Rows:
    """The honest transactions of a day in order of time, numbered. Raises ValueError for a day outside the world."""
    random = generator(population.seed, Stream.HONEST, check_day(day))
    shops = _in_shops(population, day, _purchases(population, day, False, random), random)
    online = _online(population, day, _purchases(population, day, True, random), random)
    rows = concatenate([shops, online, _subscribed(population, day)])
    return rows.take(np.argsort(rows.occurred_at_ms, kind="stable")).numbered()


# -- who buys what, when and where ------------------------------------------------------------------------------------


def _purchases(population: Population, day: int, online: bool, random: np.random.Generator) -> _Purchases:
    """The purchases of one channel: trips, and what else is bought on them."""
    weights = category_weights(date_of(day), online)
    table = category_table(weights)
    card = _cards_that_go(population, day, online, weights.sum(axis=1), random)
    category = drawn(table, population.lifestyle[card], random.random(len(card)))
    time_ms = local_time_ms(category, online, population.later_hours[card], random.random(len(card)))
    trips = _on_the_clock(population, day, card, category, time_ms)
    bought = _with_more(trips, population, table, online, random)
    begin_ms = begin_of(day)
    possible = (bought.city != ON_THE_WAY) & (bought.at_ms < begin_ms + DAY_MS)
    return bought.take(np.flatnonzero(possible & population.is_open(bought.card, bought.at_ms)))


def _cards_that_go(
    population: Population, day: int, online: bool, of_lifestyle: Floats, random: np.random.Generator
) -> Int32s:
    """The card of each trip; of_lifestyle: trips against a usual day's, shape [lifestyles]."""
    share = population.online_share if online else 1 - population.online_share
    payday = payday_factor(date_of(day).day, population.payday)
    mean = population.trips_per_day * share * of_lifestyle[population.lifestyle] * payday
    begin_ms = begin_of(day)
    mean *= (population.opened_at_ms < begin_ms + DAY_MS) & (population.closed_at_ms > begin_ms)
    return np.repeat(np.arange(population.cards, dtype=np.int32), random.poisson(mean))


def _on_the_clock(population: Population, day: int, card: Int32s, category: Ints, time_ms: Floats) -> _Purchases:
    """Trips at local times as trips at moments, in the city where their card then is."""
    begin_ms = begin_of(day)

    def moments(rows: Ints | slice, city: Ints) -> Int64s:
        return begin_ms + ((time_ms[rows] - CITY_UTC_HOURS[city] * HOUR_MS) % DAY_MS).astype(np.int64)

    home = population.home[card]
    at_ms = moments(slice(None), home)
    city = place_at(population, card, at_ms)
    far = np.flatnonzero((city != ON_THE_WAY) & (CITY_UTC_HOURS[city] != CITY_UTC_HOURS[home]))
    at_ms[far] = moments(far, city[far])
    still_there = place_at(population, card[far], at_ms[far]) == city[far]
    city[far] = np.where(still_there, city[far], ON_THE_WAY)
    return _Purchases(at_ms, card, category, city)


def _with_more(
    trips: _Purchases, population: Population, table: Ints, online: bool, random: np.random.Generator
) -> _Purchases:
    """Each trip's purchase followed by the others of the trip, minutes apart."""
    luck = random.random(len(trips.card))
    more = (luck[:, None] < np.array(MORE_PURCHASES)).sum(axis=1)
    games = np.flatnonzero(trips.category == _GAMES)
    more[games] += random.poisson(GAME_PURCHASES, len(games))
    trip = np.repeat(np.arange(len(luck)), 1 + more)
    bought = trips.take(trip)
    first = np.cumsum(1 + more) - 1 - more
    later = np.ones(len(trip), np.bool_)
    later[first] = False
    extra = np.flatnonzero(later)
    gap_ms = np.zeros(len(trip), np.int64)
    gap_ms[extra] = 20_000 + (random.standard_exponential(len(extra)) * PURCHASE_GAP_MS).astype(np.int64)
    since_ms = np.cumsum(gap_ms)
    bought.at_ms[:] += since_ms - since_ms[first][trip]
    other = drawn(table, population.lifestyle[bought.card[extra]], random.random(len(extra)))
    same = (random.random(len(extra)) < SAME_ONLINE_SHARE) & online
    bought.category[extra] = np.where(same, bought.category[extra], other)
    return bought


# -- what they pay, to whom, from where -------------------------------------------------------------------------------


def _in_shops(population: Population, day: int, bought: _Purchases, random: np.random.Generator) -> Rows:
    terminal = _terminals(population, bought, bought.city, random)
    wallet = population.wallet[bought.card] & (random.random(len(terminal)) < WALLET_USE)
    phone = population.device_at(bought.card, day, np.ones(len(terminal)))
    return Rows.make(
        bought.at_ms,
        card=bought.card,
        terminal=terminal,
        amount_minor=_amounts(population, bought, random),
        device=np.where(wallet, phone, NO_DEVICE),
        latitude_cdeg=population.merchants.terminal_latitude_cdeg[terminal],
        longitude_cdeg=population.merchants.terminal_longitude_cdeg[terminal],
    )


def _online(population: Population, day: int, bought: _Purchases, random: np.random.Generator) -> Rows:
    count = len(bought.card)
    terminal = _terminals(population, bought, np.full(count, ONLINE), random)
    amount = _amounts(population, bought, random)
    amount[random.random(count) < VERIFICATION_SHARE] = 0
    device = population.device_at(bought.card, day, random.random(count))
    device[random.random(count) < DEVICE_UNSEEN] = NO_DEVICE
    latitude, longitude = payer_place(population, bought.card, bought.city, random.random(count))
    return Rows.make(
        bought.at_ms,
        card=bought.card,
        terminal=terminal,
        amount_minor=amount,
        online=True,
        device=device,
        latitude_cdeg=latitude,
        longitude_cdeg=longitude,
    )


def _subscribed(population: Population, day: int) -> Rows:
    """The day's subscriptions: the merchant asks for the money, so neither device nor place is seen."""
    due = population.subscriptions
    rows = due.on(date_of(day).day)
    at_ms = begin_of(day) + due.time_ms[rows].astype(np.int64)
    paid = Rows.make(
        at_ms, card=due.card[rows], terminal=due.terminal[rows], amount_minor=due.amount_minor[rows], online=True
    )
    return paid.take(population.is_open(paid.card, at_ms))


def payer_place(population: Population, card: Ints, city: Ints, uniform: Floats) -> tuple[Int32s, Int32s]:
    """Where an online payer in that city seems to be, latitude and longitude: at home, or in lodgings away from home.

    Some places are not seen (NO_PLACE), and some are that of the mobile network's hub.
    """
    spread = 2 * LODGING_SPREAD_CDEG + 1
    off = (hashed(population.seed, Stream.JOURNEYS, card, city) * spread * spread).astype(np.int32)
    at_home = city == population.home[card]
    latitude = np.where(at_home, population.latitude_cdeg[card], CITY_LATITUDE_CDEG[city] + off // spread - spread // 2)
    longitude = np.where(
        at_home, population.longitude_cdeg[card], CITY_LONGITUDE_CDEG[city] + off % spread - spread // 2
    )
    unseen, hub = uniform < PLACE_UNSEEN, uniform > 1 - PLACE_AT_HUB
    for place, of_hub in ((latitude, CITY_LATITUDE_CDEG[HUB]), (longitude, CITY_LONGITUDE_CDEG[HUB])):
        place[unseen] = NO_PLACE
        place[hub] = of_hub
    return latitude, longitude


def _terminals(population: Population, bought: _Purchases, place: Ints, random: np.random.Generator) -> Int32s:
    """A terminal for each purchase: mostly of a favourite merchant of that place and category, which is a hash."""
    count = len(bought.card)
    luck = random.random(count)
    favourite = (luck * luck * (FAVOURITES / LOYALTY**2)).astype(np.int64)  # the first one most
    usual = hashed(population.seed, Stream.FAVOURITES, bought.card, bought.category, place, favourite)
    merchant = np.where(luck < LOYALTY, usual, random.random(count))
    return population.merchants.chosen(place, bought.category, merchant, random.random(count))


def _amounts(population: Population, bought: _Purchases, random: np.random.Generator) -> Int64s:
    """Cents: log-normal around the category's median times the card's factor; prices often end in 99, cash is whole tens."""
    count = len(bought.card)
    spread = np.exp(_SIGMA[bought.category] * random.standard_normal(count))
    minor = np.rint(_MEDIAN[bought.category] * 100 * population.amount[bought.card] * spread).astype(np.int64)
    price_point = random.random(count) < PRICE_POINT_SHARE
    minor[price_point] = minor[price_point] // 100 * 100 + 99
    cash = bought.category == CASH
    minor[cash] = np.maximum(1, (minor[cash] + 500) // 1000) * 1000
    return np.maximum(minor, 1)
