"""Terminal compromise: for weeks, much of what is paid at one terminal is fraud; its cards look as ever."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from producer.world.categories import CATEGORIES
from producer.world.draws import Stream, generator, hashed
from producer.world.geography import HOME_CITIES
from producer.world.population import Population
from producer.world.rows import GENUINE, Rows
from producer.world.scenarios import purchases as buy
from producer.world.scenarios.scenario import Episode, Ranges, Scenario


@dataclass(frozen=True)
class TerminalCompromise(Scenario):
    """share: of the terminal's transactions that are fraud. purchases: of each card of a run that a person starts."""

    share: float = 0.5
    purchases: float = 2

    name = "terminal-compromise"
    time_scale = "weeks"
    signal = "frauds of one terminal become known, a week or more late; amounts and cards are ordinary"
    caught_by = (
        "terminal_fraud_count",
        "terminal_fraud_share",
        "terminal_days_since_last_fraud",
        "terminal_fraud_streak",
    )
    ranges: ClassVar[Ranges] = {"share": (0.0, 1.0), "purchases": (1, 100)}
    days = 28.0
    cards_mean = 0.0
    per_100_000_cards_a_day = 9.0

    def run(self, episode: Episode) -> Rows:
        """See Scenario."""
        count = max(1, round(self.purchases)) * len(episode.cards)
        cards = np.repeat(episode.cards, max(1, round(self.purchases)))
        at_ms = episode.begin_ms + episode.random.integers(0, episode.length_ms, count)
        category = np.full(count, buy.shop_categories(episode, 1)[0])
        amount = buy.amounts(episode, cards, category)
        rows = buy.in_shops(episode, self.number, at_ms, cards, category, amount, buy.home_city(episode))
        merchants, terminal = episode.population.merchants, np.repeat(rows.terminal[:1], count)
        return replace(
            rows,
            terminal=terminal,
            latitude_cdeg=merchants.terminal_latitude_cdeg[terminal],
            longitude_cdeg=merchants.terminal_longitude_cdeg[terminal],
        )

    def converted(self, population: Population, honest: Rows, day: int) -> Rows:
        """See Scenario."""
        first = max(0, day - int(self.days) + 1)
        terminals = np.concatenate([self._terminals(population, begin) for begin in range(first, day + 1)])
        there = np.isin(honest.terminal, terminals) & (honest.scenario == GENUINE)
        luck = hashed(population.seed, Stream.CONVERSIONS, honest.number, np.full(len(honest), day))
        return replace(honest, scenario=np.where(there & (luck < self.share), np.int8(self.number), honest.scenario))

    def _terminals(self, population: Population, day: int) -> np.ndarray:
        """The terminals that are compromised from a day on, for four weeks."""
        random = generator(population.seed, Stream.EPISODES, self.number, day)
        count = int(random.poisson(self.per_100_000_cards_a_day * population.cards / 100_000))
        place = random.choice(HOME_CITIES, count)
        weights = np.array([category.shop_share for category in CATEGORIES])
        category = random.choice(len(CATEGORIES), count, p=weights / weights.sum())
        return population.merchants.chosen(place, category, random.random(count), random.random(count))
