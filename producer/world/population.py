"""The population: cards with their homes, habits and devices, and the merchants they pay.

Rule 1. It is a pure function of (seed, cards); a day's transactions are made from it (producer/world/habits.py).
Rule 2. Arrays, one entry a card: a million cards stay below 200 MB.
Rule 3. What can be computed from a hash is not stored: favourite shops, journeys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.windows import DAY_MS
from producer.world import merchants as merchants_of
from producer.world import subscriptions as subscriptions_of
from producer.world.days import BEGIN_MS, DAYS_MAX
from producer.world.draws import Floats, Ints, Stream, check_seed, generator, hashed
from producer.world.geography import CITIES, CITY_LATITUDE_CDEG, CITY_LONGITUDE_CDEG, HOME_CITIES
from producer.world.lifestyles import LIFESTYLES
from producer.world.merchants import Merchants
from producer.world.rows import Bools, Int8s, Int32s, Int64s
from producer.world.subscriptions import Subscriptions

Float32s = npt.NDArray[np.float32]

CARDS_DEFAULT: Final = 5000
CARDS_MAX: Final = 10_000_000
HOME_SPREAD_CDEG: Final = 9.0
OPENED_SHARE: Final = 0.30
CLOSED_SHARE: Final = 0.14
LIFE_DAYS_MIN: Final = 30
DEVICES_PER_CARD: Final = 4
"""Numbers set aside for a card's own devices: its phone, the next, the one after that, and a second device."""
PHONE_DAYS: Final = 500
SECOND_DEVICE_SHARE: Final = 0.35
SECOND_DEVICE_USE: Final = 0.25
SHARED_DEVICE_SHARE: Final = 0.16
"""Of the cards with an odd number: they belong to the household of the card before and use its devices."""
PAYDAYS: Final = (1, 15, 25)
PAYDAY_SHARES: Final = (0.50, 0.10, 0.40)
NEVER_MS: Final = BEGIN_MS + 10 * DAYS_MAX * DAY_MS


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Cards 0 .. cards - 1, each array one entry a card, and the merchants and subscriptions.

    home: index into CITIES, in the home country. latitude_cdeg, longitude_cdeg: of the home. lifestyle: index into LIFESTYLES.
    trips_per_day: mean, before weekday, payday and season. amount: factor on a category's median. later_hours: against others.
    online_share: of the trips. wallet: pays in shops by phone. journeys: probability of a journey in 30 days.
    payday: day of the month. first_device: see `device_at`. opened_at_ms, closed_at_ms: it pays from the one on, before the other.
    """

    seed: int
    home: Int8s
    latitude_cdeg: Int32s
    longitude_cdeg: Int32s
    lifestyle: Int8s
    trips_per_day: Float32s
    amount: Float32s
    later_hours: Float32s
    online_share: Float32s
    wallet: Bools
    journeys: Float32s
    payday: Int8s
    first_device: Int32s
    second_device: Bools
    opened_at_ms: Int64s
    closed_at_ms: Int64s
    merchants: Merchants
    subscriptions: Subscriptions

    @staticmethod
    def make(seed: int = 0, cards: int = CARDS_DEFAULT) -> Population:
        """The population of a seed. Raises ValueError for a seed or a number of cards out of range."""
        check_seed(seed)
        if not 1 <= cards <= CARDS_MAX:
            raise ValueError(f"cards is {cards}, it must be 1 .. {CARDS_MAX:,}; the default is {CARDS_DEFAULT}")
        return _make(seed, cards)

    @property
    def cards(self) -> int:
        """How many cards there are, open or not."""
        return len(self.home)

    @property
    def terminals(self) -> int:
        """How many terminals there are."""
        return len(self.merchants.terminal_merchant)

    @property
    def devices(self) -> int:
        """Numbers of people's own devices are below this; from it on, numbers are free for others."""
        return self.cards * DEVICES_PER_CARD

    @property
    def terminal_merchant(self) -> Int32s:
        """The merchant of each terminal."""
        return self.merchants.terminal_merchant

    @property
    def merchant_category(self) -> Int8s:
        """Index into CATEGORIES of each merchant."""
        return self.merchants.category

    @property
    def merchant_country(self) -> Int8s:
        """Index into COUNTRIES of each merchant."""
        return self.merchants.country

    def is_open(self, card: Ints, at_ms: Ints | int) -> Bools:
        """Whether each card exists at that moment."""
        return np.asarray((self.opened_at_ms[card] <= at_ms) & (at_ms < self.closed_at_ms[card]))

    def device_at(self, card: Ints, day: Ints | int, uniform: Floats) -> Int32s:
        """The own device that each card uses on that day: its phone, replaced every PHONE_DAYS, or its second device."""
        first = self.first_device[card]
        age = hashed(self.seed, Stream.CARDS, first) * PHONE_DAYS
        phone = ((day + age) // PHONE_DAYS).astype(np.int32)
        second = self.second_device[card] & (uniform < SECOND_DEVICE_USE)
        return np.asarray(first + np.where(second, DEVICES_PER_CARD - 1, phone), np.int32)


def _make(seed: int, cards: int) -> Population:
    random = generator(seed, Stream.CARDS)
    lifestyle = random.choice(len(LIFESTYLES), cards, p=[style.share for style in LIFESTYLES]).astype(np.int8)

    def mean(name: str) -> Float32s:
        return np.array([getattr(style, name) for style in LIFESTYLES], np.float32)[lifestyle]

    people = np.array([CITIES[city].weight for city in HOME_CITIES])
    home = random.choice(HOME_CITIES, cards, p=people / people.sum()).astype(np.int8)
    off = np.rint(random.standard_normal((2, cards), np.float32) * np.float32(HOME_SPREAD_CDEG)).astype(np.int32)
    household = np.arange(cards) - ((np.arange(cards) % 2 == 1) & (random.random(cards) < SHARED_DEVICE_SHARE))
    opened, closed = _lives(random, cards)
    trips = mean("trips_per_day") * random.standard_gamma(2.0, cards, np.float32) / 2
    amount = mean("amount") * np.exp(0.35 * random.standard_normal(cards, np.float32))
    later = mean("later_hours") + 0.8 * random.standard_normal(cards, np.float32)
    online = np.clip(mean("online_share") * np.exp(0.4 * random.standard_normal(cards, np.float32)), 0.02, 0.9)
    merchants = merchants_of.make(seed, cards)
    return Population(
        seed=seed,
        home=home[household],
        latitude_cdeg=(CITY_LATITUDE_CDEG[home] + off[0])[household],
        longitude_cdeg=(CITY_LONGITUDE_CDEG[home] + off[1])[household],
        lifestyle=lifestyle,
        trips_per_day=np.maximum(trips, 0.02).astype(np.float32),
        amount=amount.astype(np.float32),
        later_hours=later.astype(np.float32),
        online_share=online.astype(np.float32),
        wallet=random.random(cards) < mean("wallet_share"),
        journeys=mean("journeys"),
        payday=random.choice(PAYDAYS, cards, p=PAYDAY_SHARES).astype(np.int8),
        first_device=(household * DEVICES_PER_CARD).astype(np.int32),
        second_device=(random.random(cards) < SECOND_DEVICE_SHARE)[household],
        opened_at_ms=opened,
        closed_at_ms=closed,
        merchants=merchants,
        subscriptions=subscriptions_of.make(seed, cards, merchants),
    )


def _lives(random: np.random.Generator, cards: int) -> tuple[Int64s, Int64s]:
    """When each card is opened and closed: most before the world begins and after it ends."""
    day = random.random(cards) * DAYS_MAX
    opened = np.where(random.random(cards) < OPENED_SHARE, BEGIN_MS + day * DAY_MS, BEGIN_MS).astype(np.int64)
    end = random.random(cards) * DAYS_MAX * DAY_MS + BEGIN_MS
    end = np.maximum(end, opened + LIFE_DAYS_MIN * DAY_MS)
    closed = np.where(random.random(cards) < CLOSED_SHARE, end, NEVER_MS).astype(np.int64)
    return opened, closed
