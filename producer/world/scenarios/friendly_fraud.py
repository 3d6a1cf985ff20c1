"""Friendly fraud: the true customer buys, and disputes it later. Nothing tells it from honest purchases but the dispute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from producer.world.draws import Stream, hashed
from producer.world.population import Population
from producer.world.rows import GENUINE, Rows
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario


@dataclass(frozen=True)
class FriendlyFraud(Scenario):
    """share: of the online purchases of the customers who do it. customers: share of the cards that do."""

    share: float = 0.03
    customers: float = 0.04

    name = "friendly-fraud"
    time_scale = "one transaction"
    signal = "none at the time; a few customers dispute more than others"
    caught_by = ()
    ranges: ClassVar[Ranges] = {"share": (0.0, 1.0), "customers": (0.0, 1.0)}
    days = 1.0
    cards_mean = 0.0
    per_100_000_cards_a_day = 0.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        count = len(episode.cards)
        at_ms = episode.begin_ms + episode.random.integers(0, episode.length_ms, count)
        category = buy.categories(episode, buy.RESOLD_GOODS, count)
        amount = buy.amounts(episode, episode.cards, category)
        device = episode.population.device_at(episode.cards, np.zeros(count, np.int64), np.ones(count))
        return buy.online_at_home(episode, self.number, at_ms, episode.cards, category, amount, device)

    def converted(self, population: Population, honest: Rows, day: int) -> Rows:
        """See Scenario."""
        does_it = hashed(population.seed, Stream.CONVERSIONS, honest.card) < self.customers
        luck = hashed(population.seed, Stream.CONVERSIONS, honest.number, np.full(len(honest), day), self.number)
        chosen = (
            does_it & (luck < self.share) & honest.online & (honest.scenario == GENUINE) & (honest.amount_minor > 1000)
        )
        return replace(honest, scenario=np.where(chosen, np.int8(self.number), honest.scenario))
