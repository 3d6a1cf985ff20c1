"""Card testing: are these stolen numbers alive? Small amounts at many merchants, then a large one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from fraud.windows import MINUTE_MS
from producer.world.rows import Rows, concatenate
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario

SMALL_MINOR_MIN: Final = 50  # nobody sells for less: an amount below it would give the tests away


@dataclass(frozen=True)
class CardTesting(Scenario):
    """small_count: tests of each card. small_minor_max: largest test, cents. large_minor: median of what follows, cents."""

    small_count: float = 8
    small_minor_max: float = 300
    large_minor: float = 25_000

    name = "card-testing"
    time_scale = "minutes"
    signal = "many small amounts at many merchants from one strange device, then a large one"
    caught_by = (
        "card_count_5m",
        "card_distinct_merchants",
        "card_small_share",
        "card_new_device",
        "card_seconds_since_last",
    )
    ranges: ClassVar[Ranges] = {
        "small_count": (2, 100),
        "small_minor_max": (SMALL_MINOR_MIN, 5_000),
        "large_minor": (0, 10_000_000),
    }
    days = 0.25
    cards_mean = 2.0
    per_100_000_cards_a_day = 11.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        device, city = buy.strange_device(episode), buy.any_city(episode)
        return concatenate([self._one_card(episode, int(card), device, city) for card in episode.cards])

    def _one_card(self, episode: Episode, card: int, device: int, city: int) -> Rows:
        random = episode.random
        small = max(2, int(random.poisson(self.small_count)))
        large = int(self.large_minor > 0 and random.random() < 0.8)
        at_ms = buy.burst(episode, small + large, 10 * MINUTE_MS)
        cards = np.full(small + large, card)
        category = buy.categories(episode, buy.SMALL_GOODS, small + large)
        tests = random.integers(SMALL_MINOR_MIN, int(self.small_minor_max) + 1, small + large)
        amount = np.minimum(buy.priced(episode, tests), int(self.small_minor_max))
        if large:
            category[-1] = buy.categories(episode, buy.RESOLD_GOODS, 1)[0]
            amount[-1] = int(self.large_minor * np.exp(0.5 * random.standard_normal()))
        return buy.online(episode, self.number, at_ms, cards, category, amount, device, city)
