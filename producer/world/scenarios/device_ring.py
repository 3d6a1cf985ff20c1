"""Device ring: one device pays with many stolen cards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fraud.windows import HOUR_MS
from producer.world.rows import Rows, concatenate
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario


@dataclass(frozen=True)
class DeviceRing(Scenario):
    """purchases: of each card, mean. amount_factor: against the cards' usual amounts."""

    purchases: float = 4
    amount_factor: float = 1.3

    name = "device-ring"
    time_scale = "hours to days"
    signal = "a device that each card sees for the first time; at one merchant, many cards in a short time"
    caught_by = ("card_new_device", "card_distinct_devices", "terminal_distinct_cards_24h", "card_new_merchant")
    ranges: ClassVar[Ranges] = {"purchases": (1, 100), "amount_factor": (0.1, 100)}
    days = 2.0
    cards_mean = 9.0
    per_100_000_cards_a_day = 4.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        device, city = buy.strange_device(episode), buy.home_city(episode)
        parts = [self._one_card(episode, int(card), device, city) for card in episode.cards]
        rows = concatenate(parts)
        at_favourite = episode.random.random(len(rows)) < 0.5
        return replace(rows, terminal=np.where(at_favourite, rows.terminal[:1], rows.terminal))

    def _one_card(self, episode: Episode, card: int, device: int, city: int) -> Rows:
        count = 1 + int(episode.random.poisson(max(0.0, self.purchases - 1)))
        at_ms = buy.burst(episode, count, 3 * HOUR_MS)
        cards = np.full(count, card)
        category = buy.categories(episode, buy.RESOLD_GOODS, count)
        amount = buy.amounts(episode, cards, category, self.amount_factor)
        return buy.online(episode, self.number, at_ms, cards, category, amount, device, city)
