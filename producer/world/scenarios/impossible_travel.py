"""Impossible travel: a copy of the card pays in shops far away while its owner is at home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fraud.windows import HOUR_MS
from producer.world.rows import Rows, concatenate
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario


@dataclass(frozen=True)
class ImpossibleTravel(Scenario):
    """purchases: mean number of the copy. amount_factor: against the card's usual amounts."""

    purchases: float = 5
    amount_factor: float = 1.5

    name = "impossible-travel"
    time_scale = "hours"
    signal = "payments in shops farther apart than anybody travels in the time between"
    caught_by = (
        "card_speed_kmh_since_last",
        "card_distance_km_since_last",
        "card_new_country",
        "card_distinct_countries",
    )
    ranges: ClassVar[Ranges] = {"purchases": (1, 100), "amount_factor": (0.1, 100)}
    days = 0.5
    cards_mean = 1.0
    per_100_000_cards_a_day = 20.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        return concatenate([self._one_card(episode, int(card)) for card in episode.cards])

    def _one_card(self, episode: Episode, card: int) -> Rows:
        count = 1 + int(episode.random.poisson(max(0.0, self.purchases - 1)))
        at_ms = buy.burst(episode, count, 5 * HOUR_MS)
        cards = np.full(count, card)
        category = buy.shop_categories(episode, count)
        amount = buy.amounts(episode, cards, category, self.amount_factor)
        city = buy.far_city(episode, int(episode.population.home[card]))
        return buy.in_shops(episode, self.number, at_ms, cards, category, amount, city)
