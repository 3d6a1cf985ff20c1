"""Obvious amount: one purchase that anybody would ask about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from producer.world.rows import Rows
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario


@dataclass(frozen=True)
class ObviousAmount(Scenario):
    """amount_minor: the smallest, cents; half of them are above 1.4 times as much."""

    amount_minor: float = 300_000

    name = "obvious-amount"
    time_scale = "one transaction"
    signal = "an amount above what cards ever pay"
    caught_by = ("request_amount_minor", "card_amount_over_mean")
    ranges: ClassVar[Ranges] = {"amount_minor": (1, 10**11)}
    days = 1.0
    cards_mean = 1.0
    per_100_000_cards_a_day = 30.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        count = len(episode.cards)
        at_ms = episode.begin_ms + episode.random.integers(0, episode.length_ms, count)
        category = buy.categories(episode, ("5944", "5732", "4722"), count)
        amount = (self.amount_minor * (1 + episode.random.standard_exponential(count) * 0.58)).astype(np.int64)
        city = buy.home_city(episode)
        return buy.online(
            episode, self.number, at_ms, episode.cards, category, amount, buy.strange_device(episode), city
        )
