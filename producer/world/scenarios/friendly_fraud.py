"""Friendly fraud: the true customer buys, and disputes it later.

Rule 1. Whoever does it, does it again: some of such a customer's own purchases are disputed, which nothing tells beforehand.
Rule 2. Some do it as a spree, several expensive purchases within hours, on their own device and from their home.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fraud.windows import HOUR_MS
from producer.world.draws import Stream, hashed
from producer.world.population import Population
from producer.world.rows import GENUINE, Rows, concatenate
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario

DISPUTED_MINOR_MIN = 1_000  # nobody writes to the bank for less


@dataclass(frozen=True)
class FriendlyFraud(Scenario):
    """share: of the online purchases of the customers who do it. customers: share of the cards that do.

    purchases: of a spree, mean number. amount_factor: of a spree, against the card's usual amounts.
    """

    share: float = 0.015
    customers: float = 0.04
    purchases: float = 6
    amount_factor: float = 3.0

    name = "friendly-fraud"
    time_scale = "one transaction, or hours"
    signal = "own device and home; of a single purchase none, of a spree the sum of its hours"
    caught_by = ("card_sum_amount_minor_1h", "card_sum_amount_minor_24h", "card_amount_over_mean")
    ranges: ClassVar[Ranges] = {
        "share": (0.0, 1.0),
        "customers": (0.0, 1.0),
        "purchases": (1, 100),
        "amount_factor": (0.1, 100),
    }
    days = 0.5
    cards_mean = 1.0
    per_100_000_cards_a_day = 12.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        return concatenate([self._one_card(episode, int(card)) for card in episode.cards])

    def _one_card(self, episode: Episode, card: int) -> Rows:
        count = 1 + int(episode.random.poisson(max(0.0, self.purchases - 1)))
        at_ms = buy.burst(episode, count, 2 * HOUR_MS)
        cards = np.full(count, card)
        category = buy.categories(episode, buy.RESOLD_GOODS, count)
        amount = buy.amounts(episode, cards, category, self.amount_factor)
        return buy.online_at_home(episode, self.number, at_ms, cards, category, amount)

    def converted(self, population: Population, honest: Rows, day: int) -> Rows:
        """See Scenario."""
        does_it = hashed(population.seed, Stream.CONVERSIONS, honest.card) < self.customers
        luck = hashed(population.seed, Stream.CONVERSIONS, honest.number, np.full(len(honest), day), self.number)
        worth_it = honest.online & (honest.scenario == GENUINE) & (honest.amount_minor >= DISPUTED_MINOR_MIN)
        chosen = does_it & (luck < self.share) & worth_it
        return replace(honest, scenario=np.where(chosen, np.int8(self.number), honest.scenario))
