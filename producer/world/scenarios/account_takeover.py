"""Account takeover: somebody else logs in with the card holder's account and buys what can be sold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fraud.windows import HOUR_MS
from producer.world.rows import Rows, concatenate
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario


@dataclass(frozen=True)
class AccountTakeover(Scenario):
    """purchases: mean number. amount_factor: against the card's usual amounts. hours: how long it lasts at most."""

    purchases: float = 7
    amount_factor: float = 2.5
    hours: float = 2

    name = "account-takeover"
    time_scale = "hours"
    signal = "a new device in a new place buys expensive goods at a high pace"
    caught_by = (
        "card_new_device",
        "card_new_country",
        "card_count_1h",
        "card_sum_amount_minor_1h",
        "card_distance_km_since_last",
    )
    ranges: ClassVar[Ranges] = {"purchases": (1, 100), "amount_factor": (0.1, 100), "hours": (0.1, 48)}
    days = 1.0
    cards_mean = 1.0
    per_100_000_cards_a_day = 26.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        return concatenate([self._one_card(episode, int(card)) for card in episode.cards])

    def _one_card(self, episode: Episode, card: int) -> Rows:
        count = 1 + int(episode.random.poisson(self.purchases - 1)) if self.purchases > 1 else 1
        at_ms = buy.burst(episode, count, int(self.hours * HOUR_MS))
        cards = np.full(count, card)
        category = buy.categories(episode, buy.RESOLD_GOODS, count)
        amount = buy.amounts(episode, cards, category, self.amount_factor)
        device, city = buy.strange_device(episode), buy.any_city(episode)
        return buy.online(episode, self.number, at_ms, cards, category, amount, device, city)
