"""Merchants and their terminals: who sells what, where, and how popular they are.

Rule 1. Merchants of one place and category have consecutive numbers in order of popularity, so a rank is an address.
Rule 2. Every place has a shop of every category that is sold in shops, however small the world.
Rule 3. Popularity within a place and category is Zipf's law with EXPONENT; over all of them the mixture is flatter.

Sizes of firms follow Zipf's law closely (R. Axtell, "Zipf distribution of U.S. firm sizes", Science 293, 2001); EXPONENT is
chosen so that the visits of all merchants together fall with an exponent near 1 over the ranks 10 to 1,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from producer.world.categories import CATEGORIES
from producer.world.draws import Floats, Ints, Stream, generator, zipf_rank
from producer.world.geography import (
    CITIES,
    CITY_COUNTRY,
    CITY_LATITUDE_CDEG,
    CITY_LONGITUDE_CDEG,
    COUNTRIES,
    HOME,
    ONLINE,
    PLACES,
    within_country,
)
from producer.world.rows import Bools, Int8s, Int32s

EXPONENT: Final = 1.3
CARDS_PER_MERCHANT: Final = 2.5
TERMINALS_PER_CARD: Final = 2.0
ONLINE_MERCHANTS: Final = 0.15
ABROAD_MERCHANTS: Final = 0.08
CITY_SPREAD_CDEG: Final = 6.0
"""Standard deviation of a shop's distance from its city's centre, north and east: about 6 km."""
_GROUPS: Final = PLACES * len(CATEGORIES)


@dataclass(frozen=True, slots=True, eq=False)
class Merchants:
    """Merchants 0 .. count - 1 and terminals 0 .. terminals - 1.

    category, country: index into CATEGORIES and COUNTRIES. place: index into CITIES, or ONLINE. first_terminal: shape
    [count + 1]; merchant m has the terminals first_terminal[m] .. first_terminal[m + 1] - 1. terminal_merchant: its merchant.
    terminal_latitude_cdeg, terminal_longitude_cdeg: where it stands; of an online merchant, where the merchant sits.
    group_first: shape [places * categories + 1], the first merchant of place * len(CATEGORIES) + category.
    """

    category: Int8s
    country: Int8s
    place: Int8s
    first_terminal: Int32s
    terminal_merchant: Int32s
    terminal_latitude_cdeg: Int32s
    terminal_longitude_cdeg: Int32s
    group_first: Int32s

    def chosen(self, place: Ints, category: Ints, uniform_merchant: Floats, uniform_terminal: Floats) -> Int32s:
        """A terminal for each row: of a merchant of that place and category by Zipf's law, any of its terminals alike.

        The place sells the category: see `sells`.
        """
        group = place.astype(np.int64) * len(CATEGORIES) + category
        first = self.group_first[group]
        merchant = first + zipf_rank(uniform_merchant, self.group_first[group + 1] - first, EXPONENT)
        terminal = self.first_terminal[merchant]
        count = self.first_terminal[merchant + 1] - terminal
        return np.asarray(terminal + (uniform_terminal * count).astype(np.int32))


def sells(place: int) -> Bools:
    """Which categories a place sells, shape [categories]."""
    return np.array([(c.online_share if place == ONLINE else c.shop_share) > 0 for c in CATEGORIES])


def make(seed: int, cards: int) -> Merchants:
    """The merchants of a world with so many cards."""
    random = generator(seed, Stream.MERCHANTS)
    count = _merchants_by_group(random, cards)
    group = np.repeat(np.arange(_GROUPS), count)
    place, category = np.divmod(group, len(CATEGORIES))
    online = place == ONLINE
    sells_from = np.array([country.online for country in COUNTRIES])
    seat = random.choice(len(CITIES), len(group), p=within_country(sells_from))
    city = np.where(online, seat, place)
    first_terminal = _first_terminals(random, count, round(cards * TERMINALS_PER_CARD))
    terminal_merchant = np.repeat(np.arange(len(group), dtype=np.int32), np.diff(first_terminal))
    off = random.standard_normal((2, len(group))) * CITY_SPREAD_CDEG
    latitude, longitude = CITY_LATITUDE_CDEG[city] + np.rint(off[0]), CITY_LONGITUDE_CDEG[city] + np.rint(off[1])
    return Merchants(
        category=category.astype(np.int8),
        country=CITY_COUNTRY[city],
        place=place.astype(np.int8),
        first_terminal=first_terminal,
        terminal_merchant=terminal_merchant,
        terminal_latitude_cdeg=latitude.astype(np.int32)[terminal_merchant],
        terminal_longitude_cdeg=longitude.astype(np.int32)[terminal_merchant],
        group_first=np.concatenate(([0], np.cumsum(count))).astype(np.int32),
    )


def _merchants_by_group(random: np.random.Generator, cards: int) -> Int32s:
    """How many merchants each place and category has, shape [places * categories]."""
    abroad = np.array([0.0 if number == HOME else country.journeys for number, country in enumerate(COUNTRIES)])
    at_home = within_country(np.eye(len(COUNTRIES))[HOME])
    cities = (1 - ABROAD_MERCHANTS) * at_home + ABROAD_MERCHANTS * within_country(abroad)
    weight = np.concatenate((cities * (1 - ONLINE_MERCHANTS), [ONLINE_MERCHANTS]))
    bought = np.array(
        [[category.shop_share for category in CATEGORIES]] * len(CITIES) + [[c.online_share for c in CATEGORIES]]
    )
    shares = weight[:, None] * bought / bought.sum(axis=1, keepdims=True)
    least = (bought > 0).astype(np.int64).ravel()
    more = max(0, round(cards / CARDS_PER_MERCHANT) - int(least.sum()))
    return np.asarray(least + random.multinomial(more, shares.ravel() / shares.sum()), np.int32)


def _first_terminals(random: np.random.Generator, count: Int32s, terminals: int) -> Int32s:
    """The first terminal of each merchant and, last, the number of terminals: one each, the rest to the popular ones."""
    merchants = int(count.sum())
    rank = np.arange(merchants) - np.repeat(np.cumsum(count) - count, count)
    weight = (rank + 1.0) ** -0.5
    more = random.multinomial(max(0, terminals - merchants), weight / weight.sum())
    return np.concatenate(([0], np.cumsum(1 + more))).astype(np.int32)
