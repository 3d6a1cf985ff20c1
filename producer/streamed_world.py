"""The generated world as the plan wants it: a day or a scenario run as a frame.

Rule 1. Nothing is kept: a day is a function of the seed and its number, a run of the seed, its id and its parameters.
"""

from __future__ import annotations

import polars as pl

from fraud.simulation import ScenarioRun
from producer.world.days import BEGIN_MS, DAYS_MAX
from producer.world.live_run import LiveRun
from producer.world.live_run import rows as live_rows
from producer.world.world import World


class GeneratedWorld:
    """A world of producer/world as a StreamedWorld."""

    begin_ms = BEGIN_MS
    days = DAYS_MAX

    def __init__(self, world: World) -> None:
        self._world = world
        self.seed = world.seed
        self.settings = f"{world.drift} without {world.without}"

    def day_frame(self, day: int) -> pl.DataFrame:
        """The transactions of one day, by event time."""
        return self._world.frame(self._world.day(day))

    def run_frame(self, run: ScenarioRun) -> pl.DataFrame:
        """The transactions of a scenario run. Raises ValueError for one that cannot be."""
        return self._world.frame(live_rows(self._world.population, live_run(run)), [run.run_id])


def live_run(run: ScenarioRun) -> LiveRun:
    """A run as the world knows it. Raises ValueError for one that cannot be."""
    return LiveRun(run.run_id, run.scenario, run.parameters, run.cards, run.minutes, run.begin_ms)
