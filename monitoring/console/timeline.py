"""The world as it is steered: the simulated clock, the scenario runs, and how much of each run was caught.

Rule 1. Clock and runs are the fold over `control` that the producer makes (fraud/simulation.py).
Rule 2. Caught is evaluation: it reads the truth of runs that a person started, and nothing of the background.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from fraud.alert import Alert
from fraud.control import ControlRequest, Retrain, SetClock, SetSwitch
from fraud.simulation import ScenarioRun, Simulation
from fraud.switches import SwitchBoard
from fraud.truth import Truth

ALERTED_MAX: Final = 100_000
STEERED_MAX: Final = 20


@dataclass(slots=True)
class _OfRun:
    first_ms_by_card: dict[str, int] = field(default_factory=dict)
    occurred_ms: dict[str, int] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)


class Timeline:
    """What was asked of the world, and what came of it."""

    def __init__(self) -> None:
        self.simulation = Simulation()
        self.switches = SwitchBoard()
        self._truth: dict[str, _OfRun] = {}
        self._alerted: OrderedDict[str, str] = OrderedDict()
        self._steered: list[dict[str, Any]] = []

    def control(self, request: ControlRequest, appended_at_ms: int, offset: int = 0) -> None:
        """Take the next request."""
        self.simulation.apply(request, appended_at_ms)
        self.switches.apply(request, appended_at_ms, offset)
        clock = self.simulation.clock
        if isinstance(request, SetClock | Retrain | SetSwitch):
            what = _words(request)
            event_ms = None if clock is None else clock.now_ms(appended_at_ms)
            self._steered.append({"what": what, "wall_ms": appended_at_ms, "event_ms": event_ms})
            del self._steered[:-STEERED_MAX]

    def truth(self, truth: Truth) -> None:
        """Take what a run has made."""
        if truth.run_id is None:
            return
        run = self._truth.setdefault(truth.run_id, _OfRun())
        run.occurred_ms[truth.transaction_id] = truth.occurred_at_ms
        run.card[truth.transaction_id] = truth.card_id
        first = run.first_ms_by_card.get(truth.card_id, truth.occurred_at_ms)
        run.first_ms_by_card[truth.card_id] = min(first, truth.occurred_at_ms)

    def alert(self, alert: Alert) -> None:
        """Note an alert: its truth may come before or after it."""
        self._alerted[alert.transaction_id] = alert.decision
        if len(self._alerted) > ALERTED_MAX:
            self._alerted.popitem(last=False)

    def values(self, wall_ms: int) -> dict[str, Any]:
        """As browsers get it."""
        clock = self.simulation.clock
        now_ms = None if clock is None else clock.now_ms(wall_ms)
        return {
            "clock": None if clock is None else {"event_ms": now_ms, "speed": clock.speed, "paused": clock.paused},
            "cards": self.simulation.cards,
            "runs": [self._run(run, now_ms or 0) for run in self.simulation.runs.values()],
            "steered": self._steered,
            "switches": {name: asdict(turned) for name, turned in self.switches.on.items()},
        }

    def _run(self, run: ScenarioRun, now_ms: int) -> dict[str, Any]:
        of = self._truth.get(run.run_id, _OfRun())
        alerted = [each for each in of.occurred_ms if each in self._alerted]
        cards = {of.card[each] for each in alerted}
        first_alert_ms = min((of.occurred_ms[each] for each in alerted), default=None)
        return {
            **asdict(run),
            "state": "waiting" if now_ms < run.begin_ms else "running" if now_ms < run.end_ms else "ended",
            "transactions": len(of.occurred_ms),
            "alerted": len(alerted),
            "declined": sum(self._alerted[each] == "decline" for each in alerted),
            "cards_hit": len(of.first_ms_by_card),
            "cards_caught": len(cards),
            "first_fraud_ms": min(of.first_ms_by_card.values(), default=None),
            "first_alert_ms": first_alert_ms,
        }


def _words(request: SetClock | Retrain | SetSwitch) -> str:
    if isinstance(request, Retrain):
        return "retrain"
    if isinstance(request, SetSwitch):
        return f"break it: {request.name} {'on' if request.on else 'off'}"
    if request.event_time_ms is not None:
        return "world started"
    if request.paused is not None:
        return "paused" if request.paused else "resumed"
    return f"speed {request.speed:g}"
