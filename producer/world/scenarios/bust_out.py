"""Bust-out: after a calm life the card holder spends all that the limit allows, and never pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from producer.world.rows import Rows, concatenate
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario


@dataclass(frozen=True)
class BustOut(Scenario):
    """purchases: mean number in all. amount_factor: against the card's usual amounts."""

    purchases: float = 18
    amount_factor: float = 4.0

    name = "bust-out"
    time_scale = "days, after months of calm"
    signal = "the own device and home, but many times the usual sum of a day and week"
    caught_by = ("card_sum_amount_minor_24h", "card_count_24h", "card_sum_amount_minor_7d", "card_amount_over_mean")
    ranges: ClassVar[Ranges] = {"purchases": (1, 1_000), "amount_factor": (0.1, 100)}
    days = 2.0
    cards_mean = 1.0
    per_100_000_cards_a_day = 5.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        return concatenate([self._one_card(episode, int(card)) for card in episode.cards])

    def _one_card(self, episode: Episode, card: int) -> Rows:
        count = 1 + int(episode.random.poisson(max(0.0, self.purchases - 1)))
        at_ms = np.sort(episode.begin_ms + episode.random.integers(0, episode.length_ms, count))
        cards = np.full(count, card)
        category = buy.categories(episode, buy.RESOLD_GOODS, count)
        amount = buy.amounts(episode, cards, category, self.amount_factor)
        return buy.online_at_home(episode, self.number, at_ms, cards, category, amount)
