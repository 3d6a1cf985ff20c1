"""Latency from the intended send to the score, at rates well below saturation, in interleaved rounds.

Rule 1. A round goes through all rates and subjects; a peer that does not hold a rate is not measured at it, and that is said.
Rule 2. After each hold of ours the topics tell in which hop the time went.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.harness import hops
from benchmarks.harness.hold import Held
from benchmarks.harness.ours import NAME
from benchmarks.harness.pacing import Seconds
from benchmarks.harness.receiver import Receiver
from benchmarks.harness.result import LatencyAt, latency_at
from benchmarks.harness.session import Session
from benchmarks.harness.subject import Subject

WARM_S: Final = 2.0
IDLE_RATE: Final = 1.0
SLOW_S: Final = 0.08  # a transaction slower than this has met a stall, at any rate that is measured here


@dataclass(frozen=True, slots=True)
class Plan:
    """seconds: of a hold; rates: transactions a second; peer_rate_max: peers are not asked for more.

    idle_seconds: of a hold of ours at IDLE_RATE, after the others: what the stack costs while nearly nothing comes. 0: none.
    """

    seconds: float
    rates: tuple[float, ...]
    rounds: int
    peer_rate_max: float = 1_000.0
    idle_seconds: float = 0.0


@dataclass(slots=True)
class _Seen:
    held: list[Held]
    moments: list[Seconds]


def latencies(session: Session, plan: Plan) -> list[LatencyAt]:
    """Measure every subject at every rate."""
    seen: defaultdict[tuple[str, float], _Seen] = defaultdict(lambda: _Seen([], []))
    for number in range(plan.rounds):
        session.say(f"latency, round {number + 1} of {plan.rounds}")
        for subject in session.subjects:
            with session.measured(subject) as receiver:
                for rate in plan.rates:
                    if subject.name == NAME or rate <= plan.peer_rate_max:
                        _hold(session, plan.seconds, subject, receiver, rate, seen[subject.name, rate])
                if subject.name == NAME and plan.idle_seconds:
                    _hold(session, plan.idle_seconds, subject, receiver, IDLE_RATE, seen[subject.name, IDLE_RATE])
    return [
        latency_at(one.held, hops.hops_of(_all(one.moments)), _slow(one.moments))
        for one in seen.values()
        if any(held.latency for held in one.held)
    ]


def _hold(session: Session, seconds: float, subject: Subject, receiver: Receiver, rate: float, seen: _Seen) -> None:
    bootstrap = session.servers.kafka.address
    since = hops.ends_of(bootstrap) if subject.name == NAME else {}
    held, told = session.bench.traced(subject, receiver, rate, seconds, WARM_S)
    session.told(held)
    seen.held.append(held)
    if since:
        seen.moments.append(hops.moments_of(bootstrap, since, told)[round(rate * WARM_S) :])


def _all(moments: Sequence[Seconds]) -> Seconds:
    return np.concatenate(moments) if moments else np.empty((0, len(hops.HOPS) + 1))


def _slow(moments: Sequence[Seconds]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in moments:
        found.update(hops.slowest_hops(one, SLOW_S))
    return dict(found)
