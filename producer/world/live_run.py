"""A scenario that a person starts in the running world.

Rule 1. Its rows are a function of (seed, run): whoever plans it, and however often, plans the same.
Rule 2. Its cards are open when it begins; what it makes after a card is closed is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fraud.windows import MINUTE_MS
from producer.world.draws import Stream, generator
from producer.world.population import Population
from producer.world.rows import Rows
from producer.world.scenarios import SCENARIOS, Episode, Scenario

MINUTES_MAX = 60 * 24 * 60.0


@dataclass(frozen=True, slots=True)
class LiveRun:
    """run_id begins its transactions' ids. begin_ms: event time. parameters: the scenario's own, by name."""

    run_id: str
    scenario: str
    parameters: Mapping[str, float]
    cards: int
    minutes: float
    begin_ms: int


def checked(run: LiveRun, cards_of_world: int) -> Scenario:
    """The run's scenario with its parameters. Raises ValueError, with name and range, for a run that cannot be."""
    if run.scenario not in SCENARIOS:
        raise ValueError(f"there is no scenario {run.scenario}; there are: {', '.join(SCENARIOS)}")
    if not 1 <= run.cards <= cards_of_world:
        raise ValueError(f"cards is {run.cards}, it must be 1 .. {cards_of_world}, the cards of the world")
    if not 0 < run.minutes <= MINUTES_MAX:
        raise ValueError(f"minutes is {run.minutes:g}, it must be above 0 and at most {MINUTES_MAX:g}")
    return SCENARIOS[run.scenario].with_parameters(run.parameters)


def rows(population: Population, run: LiveRun) -> Rows:
    """The run's transactions in order of time, numbered. Raises ValueError for a run that cannot be."""
    scenario = checked(run, population.cards)
    random = generator(population.seed, Stream.RUNS, zlib.crc32(run.run_id.encode()))
    open_cards = np.flatnonzero(population.is_open(np.arange(population.cards), run.begin_ms))
    cards = random.choice(open_cards, min(run.cards, len(open_cards)), replace=False)
    end_ms = run.begin_ms + max(1, int(run.minutes * MINUTE_MS))
    made = scenario.run(Episode(population, random, cards, run.begin_ms, end_ms))
    made = made.take(population.is_open(made.card, made.occurred_at_ms))
    made = replace(made, run=np.zeros(len(made), np.int32))
    return made.take(np.argsort(made.occurred_at_ms, kind="stable")).numbered()
