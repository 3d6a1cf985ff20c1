"""Leaked card: for two weeks somebody buys with it, now and then, more than its owner would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fraud.windows import DAY_MS
from producer.world.rows import Rows, concatenate
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario


@dataclass(frozen=True)
class LeakedCard(Scenario):
    """purchases_per_day: mean. amount_factor: against the card's usual amounts."""

    purchases_per_day: float = 0.7
    amount_factor: float = 5.0

    name = "leaked-card"
    time_scale = "two weeks"
    signal = "amounts some times the card's usual ones, at an ordinary pace"
    caught_by = (
        "card_amount_over_mean",
        "card_amount_deviations",
        "card_amount_over_recent_median",
        "card_max_amount_minor",
    )
    ranges: ClassVar[Ranges] = {"purchases_per_day": (0.01, 1_000), "amount_factor": (0.1, 100)}
    days = 14.0
    cards_mean = 1.0
    per_100_000_cards_a_day = 15.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        return concatenate([self._one_card(episode, int(card)) for card in episode.cards])

    def _one_card(self, episode: Episode, card: int) -> Rows:
        count = int(episode.random.poisson(self.purchases_per_day * episode.length_ms / DAY_MS))
        at_ms = np.sort(episode.begin_ms + episode.random.integers(0, episode.length_ms, count))
        cards = np.full(count, card)
        category = buy.categories(episode, ("5999", "5651", "5411", "5814", "5816", "5942", "5200"), count)
        amount = buy.amounts(episode, cards, category, self.amount_factor)
        device = np.where(episode.random.random(count) < 0.5, -1, buy.strange_device(episode))
        return buy.online(episode, self.number, at_ms, cards, category, amount, device, buy.home_city(episode))
