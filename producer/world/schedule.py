"""The background fraud: which episodes begin on a day, and a whole day with them in it.

Rule 1. Episodes are a function of (seed, scenario, day of their beginning): any day is made alone, by looking back as long
        as the longest episode lasts.
Rule 2. How many begin on a day is a Poisson number whose mean grows with the number of cards.
Rule 3. Nobody defrauds a card that is not open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import ceil

import numpy as np

from fraud.windows import DAY_MS
from producer.world.days import begin_of, check_day
from producer.world.draws import Stream, generator
from producer.world.drift import CALM, Drift, fraud_changes, has_begun, honest_changes, inflated, silenced
from producer.world.habits import honest_day
from producer.world.population import Population
from producer.world.rows import Rows, concatenate
from producer.world.scenarios import SCENARIOS, Episode, Scenario


def world_day(population: Population, day: int, drift: Drift = CALM, without: Collection[str] = ()) -> Rows:
    """All transactions of a day in order of time, numbered. Raises ValueError for a day outside the world."""
    honest = honest_day(population, check_day(day))
    scenarios = [scenario for name, scenario in SCENARIOS.items() if name not in without]
    for scenario in scenarios:
        honest = scenario.converted(population, honest, day)
    honest = honest_changes(population, honest, day, drift)  # after the marks: what a benign shift adds is honest
    fraud = concatenate([rows for scenario in scenarios for rows in background(population, scenario, day, drift)])
    fraud = fraud_changes(inflated(fraud, day, drift), day, drift)  # a threshold does not rise with prices
    rows = silenced(population, concatenate([inflated(honest, day, drift), fraud]), day, drift)
    return rows.take(np.argsort(rows.occurred_at_ms, kind="stable")).numbered()


def background(population: Population, scenario: Scenario, day: int, drift: Drift = CALM) -> Iterator[Rows]:
    """The rows that a scenario's episodes add to a day."""
    low, high = begin_of(day), begin_of(day) + DAY_MS
    for begins in range(max(0, day - ceil(scenario.days)), day + 1):
        for episode in episodes(population, scenario, begins, has_begun(drift.fraud_moves_day, begins)):
            if episode.end_ms <= low or not len(episode.cards):
                continue
            rows = scenario.run(episode)
            here = (rows.occurred_at_ms >= low) & (rows.occurred_at_ms < high)
            yield rows.take(here & population.is_open(rows.card, rows.occurred_at_ms))


def episodes(population: Population, scenario: Scenario, day: int, moved: bool = False) -> Iterator[Episode]:
    """The episodes of a scenario that begin on a day; none of one whose background is conversion alone."""
    if not scenario.cards_mean:
        return
    random = generator(population.seed, Stream.EPISODES, scenario.number, day)
    count = int(random.poisson(scenario.per_100_000_cards_a_day * population.cards / 100_000))
    begins = begin_of(day) + random.integers(0, DAY_MS, count)
    sizes = 1 + random.poisson(scenario.cards_mean - 1, count)
    for number, (begin_ms, size) in enumerate(zip(begins.tolist(), sizes.tolist(), strict=True)):
        own = generator(population.seed, Stream.EPISODES, scenario.number, day, number)
        cards = own.choice(population.cards, min(size, population.cards), replace=False)
        cards = cards[population.is_open(cards, begin_ms)]
        yield Episode(population, own, cards, begin_ms, begin_ms + int(scenario.days * DAY_MS), moved)
