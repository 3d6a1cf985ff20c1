"""A world: its people and, day by day, what they pay.

Rule 1. A day depends on the world's settings and its number only: any day can be made alone, in any process.
Rule 2. Nothing is kept between days: memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from producer.world import rows as columns
from producer.world.days import check_days
from producer.world.drift import CALM, Drift, before_schema_change
from producer.world.population import CARDS_DEFAULT, Population
from producer.world.rows import Rows
from producer.world.scenarios import SCENARIOS
from producer.world.schedule import world_day


@dataclass(frozen=True)
class World:
    """A world of a seed (0 .. 2^31 - 1) and a number of cards (1 .. 10 million).

    without: scenarios that its background does not have. Raises ValueError when its population is first asked for and one of
    them is out of range or unknown.
    """

    seed: int = 0
    cards: int = CARDS_DEFAULT
    drift: Drift = CALM
    without: tuple[str, ...] = ()

    @cached_property
    def population(self) -> Population:
        """Its people and merchants; made once, in about a microsecond a card."""
        unknown = set(self.without) - SCENARIOS.keys()
        if unknown:
            raise ValueError(f"there is no scenario {min(unknown)}; there are: {', '.join(SCENARIOS)}")
        return Population.make(self.seed, self.cards)

    def day(self, day: int) -> Rows:
        """The transactions of a day, 0 .. DAYS_MAX - 1, in order of time, numbered."""
        return world_day(self.population, day, self.drift, self.without)

    def days(self, days: int) -> Iterator[Rows]:
        """The first so many days, one after the other."""
        return (self.day(day) for day in range(check_days(days)))

    def frame(self, rows: Rows, run_ids: Sequence[str] = ()) -> pl.DataFrame:
        """The rows as a table: see producer.world.rows.frame; before a change of the schema, with what messages had then."""
        return before_schema_change(columns.frame(rows, self.population, run_ids), self.drift)
