"""The simulation as all see it: the clock and the scenario runs, folded from the topic `control`.

Rule 1. A request counts from the moment at which the log took it (the broker's append time): whoever reads the topic
        gets the same clock and the same runs, also after a restart.
Rule 2. A run begins a moment after the clock of its request, so that no producer is already past it.
Rule 3. A clock that is started at an earlier event time takes the runs that have not begun with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from fraud.control import ControlRequest, SetClock, StartScenario, StopScenario
from fraud.windows import MINUTE_MS

LEAD_REAL_MS: Final = 500  # longer than a producer needs to read a request


@dataclass(frozen=True, slots=True)
class ClockState:
    """Event time was `event_ms` at wall time `wall_ms` and runs `speed` times as fast since then, unless paused."""

    event_ms: int
    wall_ms: int
    speed: float
    paused: bool

    def now_ms(self, wall_ms: int) -> int:
        """Event time at a wall time, epoch milliseconds."""
        if self.paused:
            return self.event_ms
        return self.event_ms + int(max(0, wall_ms - self.wall_ms) * self.speed)

    def wall_ms_of(self, event_ms: int) -> float:
        """The wall time at which event time is `event_ms`; infinite while paused before it."""
        if event_ms <= self.event_ms:
            return float(self.wall_ms)
        return float("inf") if self.paused else self.wall_ms + (event_ms - self.event_ms) / self.speed


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """One run of a scenario: its transactions happen from begin_ms <= t < end_ms, event time."""

    run_id: str
    scenario: str
    cards: int
    minutes: float
    parameters: dict[str, float]
    begin_ms: int
    end_ms: int


class Simulation:
    """The fold. `clock` is None until a producer has started one; `cards`: how many its world has, None when unknown.

    >>> simulation = Simulation()
    >>> simulation.apply(SetClock("a", 0, speed=60, paused=False, event_time_ms=0), 1_000)
    >>> simulation.apply(StartScenario("b", 0, "card-testing", 20, 10), 2_000)
    >>> simulation.clock.now_ms(2_000), simulation.runs["b"].begin_ms
    (60000, 90000)
    """

    def __init__(self) -> None:
        self.clock: ClockState | None = None
        self.cards: int | None = None
        self.runs: dict[str, ScenarioRun] = {}

    def apply(self, request: ControlRequest, appended_at_ms: int) -> None:
        """Take the next request; `appended_at_ms` is the broker's append time."""
        if isinstance(request, SetClock):
            self._set_clock(request, appended_at_ms)
        elif isinstance(request, StartScenario) and request.request_id not in self.runs and self.clock is not None:
            begin_ms = self._soon_ms(appended_at_ms)
            self.runs[request.request_id] = ScenarioRun(
                request.request_id, request.scenario, request.cards, request.minutes, request.parameters,
                begin_ms, begin_ms + int(request.minutes * MINUTE_MS),
            )  # fmt: skip
        elif isinstance(request, StopScenario) and self.clock is not None:
            now_ms = self.clock.now_ms(appended_at_ms)
            for run_id in [request.run_id] if request.run_id is not None else list(self.runs):
                if run_id in self.runs:
                    run = self.runs[run_id]
                    self.runs[run_id] = replace(run, end_ms=max(run.begin_ms, min(run.end_ms, now_ms)))

    def _set_clock(self, request: SetClock, at_ms: int) -> None:
        self.cards = self.cards if request.cards is None else request.cards
        before = self.clock or ClockState(0, at_ms, 1.0, paused=True)
        if request.event_time_ms is None and self.clock is None:
            return
        event_ms = before.now_ms(at_ms) if request.event_time_ms is None else request.event_time_ms
        self.clock = ClockState(
            event_ms,
            at_ms,
            before.speed if request.speed is None else request.speed,
            before.paused if request.paused is None else request.paused,
        )
        if request.event_time_ms is not None:
            soon_ms = self._soon_ms(at_ms)
            for run in self.runs.values():
                if run.begin_ms > soon_ms:
                    length_ms = run.end_ms - run.begin_ms
                    self.runs[run.run_id] = replace(run, begin_ms=soon_ms, end_ms=soon_ms + length_ms)

    def _soon_ms(self, at_ms: int) -> int:
        assert self.clock is not None
        return self.clock.now_ms(at_ms) + int(LEAD_REAL_MS * self.clock.speed)
