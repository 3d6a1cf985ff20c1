"""What a scenario of fraud is: a few parameters, what it leaves behind, and the transactions that it makes.

Rule 1. A scenario is a frozen dataclass of numbers, each with a range; what is outside is refused by name.
Rule 2. Its transactions are a pure function of (population, generator, cards, period): it draws from its own generator only.
Rule 3. `is fraud` is its mark on a row; nothing else of a row says it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from producer.world.draws import Ints
from producer.world.population import Population
from producer.world.rows import SCENARIO_NAMES, Rows

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Episode:
    """One occurrence: on these cards, from begin_ms <= t < end_ms (event time), with draws of its own.

    moved: whether the fraudsters have moved on to other kinds of merchants (see producer/world/drift.py).
    """

    population: Population
    random: np.random.Generator
    cards: Ints
    begin_ms: int
    end_ms: int
    moved: bool = False

    @property
    def length_ms(self) -> int:
        """How long it lasts."""
        return self.end_ms - self.begin_ms


class Scenario(ABC):
    """A kind of fraud.

    name: in SCENARIO_NAMES. time_scale: how long it lasts. signal: what it leaves behind. caught_by: prefixes of the
    features meant to catch it. ranges: lowest and highest value of each parameter. days: of an episode of the background.
    cards_mean: cards of such an episode, mean. per_100_000_cards_a_day: how many such episodes begin.
    """

    name: ClassVar[str]
    time_scale: ClassVar[str]
    signal: ClassVar[str]
    caught_by: ClassVar[tuple[str, ...]]
    ranges: ClassVar[Ranges]
    days: ClassVar[float]
    cards_mean: ClassVar[float]
    per_100_000_cards_a_day: ClassVar[float]

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} of {self.name} is {value:g}, it must be {low:g} .. {high:g}")

    def with_parameters(self, given: Mapping[str, float]) -> Self:
        """The scenario with other parameters. Raises ValueError for an unknown one or one out of range."""
        unknown = given.keys() - self.ranges.keys()
        if unknown:
            known = ", ".join(self.ranges) or "none"
            raise ValueError(f"{self.name} has no parameter {min(unknown)}; it has: {known}")
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]  # its subclasses are dataclasses
        return type(self)(**(values | dict(given)))

    @property
    def number(self) -> int:
        """Its mark in the column `scenario`."""
        return 1 + SCENARIO_NAMES.index(self.name)

    def described(self) -> dict[str, Any]:
        """For people and scripts."""
        parameters = [
            {"name": name, "default": getattr(self, name), "low": low, "high": high}
            for name, (low, high) in self.ranges.items()
        ]
        return {"name": self.name, "time_scale": self.time_scale, "signal": self.signal, "caught_by": list(self.caught_by),
                "parameters": parameters}  # fmt: skip

    @abstractmethod
    def run(self, episode: Episode) -> Rows:
        """The transactions of an episode, marked, in any order; all within its period."""

    def converted(self, population: Population, honest: Rows, day: int) -> Rows:
        """A day's honest rows, those that this scenario turns into fraud marked; most scenarios turn none."""
        return honest
