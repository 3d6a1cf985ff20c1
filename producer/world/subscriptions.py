"""What is paid every month without anybody doing anything: streaming, telephone, games, charity.

Rule 1. A subscription has one card, one terminal, one amount, one day of the month (1 .. 28) and one time of day, for ever.
Rule 2. They stand in order of their day of the month, so a day's are a slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud.windows import HOUR_MS
from producer.world.categories import CATEGORIES, SUBSCRIPTIONS
from producer.world.draws import Stream, generator
from producer.world.geography import ONLINE
from producer.world.merchants import Merchants
from producer.world.rows import Int32s, Int64s

PER_CARD: Final = 1.2
LAST_DAY: Final = 28


@dataclass(frozen=True, slots=True, eq=False)
class Subscriptions:
    """Arrays of one length. first: shape [LAST_DAY + 2]; those of day d of the month are first[d] .. first[d + 1] - 1.

    time_ms: since midnight UTC. amount_minor: cents.
    """

    first: Int64s
    card: Int32s
    terminal: Int32s
    amount_minor: Int32s
    time_ms: Int32s

    def on(self, day_of_month: int) -> slice:
        """Which of them are paid on that day of the month, 1 .. 31."""
        return slice(0, 0) if day_of_month > LAST_DAY else slice(*self.first[day_of_month : day_of_month + 2].tolist())


def make(seed: int, cards: int, merchants: Merchants) -> Subscriptions:
    """The subscriptions of a world with so many cards."""
    random = generator(seed, Stream.SUBSCRIPTIONS)
    card = np.repeat(np.arange(cards, dtype=np.int32), random.poisson(PER_CARD, cards))
    rows = len(card)
    day = random.integers(1, LAST_DAY + 1, rows)
    order = np.argsort(day, kind="stable")
    weights = np.array([CATEGORIES[index].online_share for index in SUBSCRIPTIONS])
    category = random.choice(np.array(SUBSCRIPTIONS), rows, p=weights / weights.sum())
    terminal = merchants.chosen(np.full(rows, ONLINE), category, random.random(rows), random.random(rows))
    median = np.array([c.amount for c in CATEGORIES])[category]
    euros = np.rint(median * np.exp(0.4 * random.standard_normal(rows)))
    return Subscriptions(
        first=np.searchsorted(day[order], np.arange(LAST_DAY + 2)),
        card=card[order],
        terminal=terminal[order],
        amount_minor=np.maximum(99, euros * 100 - 1).astype(np.int32)[order],
        time_ms=random.integers(1 * HOUR_MS, 6 * HOUR_MS, rows).astype(np.int32)[order],
    )
