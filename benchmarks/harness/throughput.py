"""Sustained throughput: interleaved rounds, each a search of every subject, then a confirmation at full length.

Rule 1. Rounds go through the subjects in turns, so that a busy minute of the machine falls on all of them.
Rule 2. A round begins where the one before has ended; the confirmation begins at the rounds' median.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from benchmarks.harness.hold import Held
from benchmarks.harness.ours import NAME
from benchmarks.harness.receiver import Receiver
from benchmarks.harness.result import Sustained, interval
from benchmarks.harness.search import Found, confirmed, highest_held
from benchmarks.harness.session import Session
from benchmarks.harness.subject import Subject

FIRST_STEP, LATER_STEP = 1.5, 1.15
RATE_MIN = 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """seconds: of the confirmation, ours and a peer's; probe_s: of a hold within a search; start: the first rate tried, ours and a
    peer's."""

    seconds: float
    seconds_peer: float
    probe_s: float
    rounds: int
    start: float
    start_peer: float = 500.0
    rate_max: float = 100_000.0


@dataclass(slots=True)
class _Standing:
    """A subject's results so far. latest: where its next search begins."""

    subject: Subject
    latest: float
    rates: list[float] = field(default_factory=list)
    trials: list[tuple[float, bool]] = field(default_factory=list)
    best: Held | None = None


def sustained(session: Session, plan: Plan) -> list[Sustained]:
    """Measure every subject of the session."""
    standings = [
        _Standing(subject, plan.start if subject.name == NAME else plan.start_peer) for subject in session.subjects
    ]
    for number in range(plan.rounds):
        session.say(f"throughput, round {number + 1} of {plan.rounds}")
        for standing in _rotated(standings, number):
            with session.measured(standing.subject) as receiver:
                found = _search(session, plan, standing, receiver, FIRST_STEP if number == 0 else LATER_STEP)
            standing.trials += found.trials
            standing.rates.append(found.rate)
            standing.latest = max(found.rate, RATE_MIN)
    session.say(f"throughput, confirmation over {plan.seconds:.0f} s, of peers over {plan.seconds_peer:.0f} s")
    return [_confirmed(session, plan, standing) for standing in standings]


def _rotated(standings: list[_Standing], number: int) -> list[_Standing]:
    first = number % len(standings)
    return standings[first:] + standings[:first]


def _search(session: Session, plan: Plan, standing: _Standing, receiver: Receiver, step: float) -> Found:
    def hold(rate: float) -> bool:
        if rate > plan.rate_max:
            return False
        held = session.bench.hold(standing.subject, receiver, rate, plan.probe_s)
        session.told(held)
        return held.lag.held

    return highest_held(hold, min(standing.latest, plan.rate_max), step=step, rate_min=RATE_MIN)


def _confirmed(session: Session, plan: Plan, standing: _Standing) -> Sustained:
    last: list[Held] = []
    seconds = plan.seconds if standing.subject.name == NAME else plan.seconds_peer
    with session.measured(standing.subject) as receiver:

        def hold(rate: float) -> tuple[bool, float]:
            held = session.bench.hold(standing.subject, receiver, rate, seconds)
            session.told(held)
            last.append(held)
            return held.lag.held, held.served_per_s

        found = confirmed(hold, max(RATE_MIN, statistics.median(standing.rates)))
    held = last[-1]
    return Sustained(
        subject=standing.subject.name,
        rounds=interval(standing.rates),
        confirmed_per_s=round(found.rate, 1),
        hold_s=seconds,
        us_per_transaction=held.us_per_transaction(),
        latency={name: getattr(held.latency, name) for name in ("p50_ms", "p99_ms", "max_ms")} if held.latency else {},
        lag_s_max=held.lag.max_s,
        foreign_cores=held.cpu.foreign_cores,
        trials=[*standing.trials, *found.trials],
        equal_rows=session.equal_rows.get(standing.subject.name),
    )
