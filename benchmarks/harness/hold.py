"""One hold: a subject gets transactions at a rate for a time, and is measured.

Rule 1. Moments are fixed before; a transaction's latency is from its moment to its score's arrival at a reader.
Rule 2. The first warm_s seconds of moments are sent and scored but not in the percentiles.
Rule 3. CPU is counted from the beginning until everything is scored, so that no work is left out.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import msgspec
import numpy as np

from benchmarks.harness.bounded import Bound, Lag, lag_of
from benchmarks.harness.load import Order
from benchmarks.harness.loader import Loader
from benchmarks.harness.pacing import Schedule, Seconds
from benchmarks.harness.percentiles import Latency, latency_of
from benchmarks.harness.processes import CpuUse, between, read_cpu
from benchmarks.harness.receiver import Arrivals, Receiver
from benchmarks.harness.rows import number_of
from benchmarks.harness.servers import Servers
from benchmarks.harness.subject import Subject
from producer.streamer import linger_ms_for

HARNESS: Final = "harness"
PRODUCER: Final = "producer"
DRAIN_S_MIN: Final = 20.0
_BEGIN_AFTER_S: Final = 0.2
_LOOK_EVERY_S: Final = 0.05


class Held(msgspec.Struct, frozen=True):
    """What a hold has measured. latency: None when nothing was scored. behind_s_max: how late the sender was at worst."""

    subject: str
    rate: float
    seconds: float
    count: int
    scored: int
    repeated: int
    lag: Lag
    latency: Latency | None
    cpu: CpuUse
    behind_s_max: float
    served_per_s: float

    def us_per_transaction(self) -> dict[str, float]:
        """CPU of each process per scored transaction; the harness itself is not in it."""
        told = self.cpu.us_per(max(1, self.scored))
        return {name: us for name, us in told.items() if name != HARNESS}

    def cores(self) -> float:
        """CPU of broker, Redis, sender and subject, in cores."""
        return sum(cores for name, cores in self.cpu.cores.items() if name != HARNESS)


@dataclass(frozen=True, slots=True)
class Moments:
    """When the transactions of a hold were scored: seconds after the beginning by number, NaN for never; and the beginning."""

    hold: str
    begin_ns: int
    schedule: Schedule
    scored_s: Seconds


@dataclass(slots=True)
class Bench:
    """What holds need: the servers, the sender, and how a hold is judged."""

    servers: Servers
    loader: Loader
    bound: Bound = field(default_factory=Bound)
    _numbers: count[int] = field(default_factory=count)

    def hold(self, subject: Subject, receiver: Receiver, rate: float, seconds: float, warm_s: float = 0.0) -> Held:
        """Hold `rate` a second for warm_s + seconds."""
        return self.traced(subject, receiver, rate, seconds, warm_s)[0]

    def traced(
        self, subject: Subject, receiver: Receiver, rate: float, seconds: float, warm_s: float = 0.0
    ) -> tuple[Held, Moments]:
        """As `hold`, and the moment of each transaction."""
        schedule = Schedule(rate, max(1, round(rate * (seconds + warm_s))), linger_ms_for(rate) / 1000)
        name = f"h{next(self._numbers)}"
        order = Order(name, subject.name, subject.topic, subject.partitions, rate, schedule.count, schedule.linger_s)
        self.loader.prepare(order)
        subject.check()
        receiver.forget()
        arrivals = Arrivals(schedule.count, subject.decode, lambda told: number_of(told, name))
        pids = {
            **self.servers.pids(),
            **subject.pids(),
            PRODUCER: self.loader.pid,
            HARNESS: os.getpid(),
        }
        before = read_cpu(pids)
        begin_ns = time.time_ns() + int(_BEGIN_AFTER_S * 1e9)
        self.loader.begin(begin_ns)
        paced = self.loader.ended(schedule.count / rate)
        self._drain(subject, receiver, arrivals, schedule)
        cpu = between(before, read_cpu(pids))
        scored_s = arrivals.seconds(begin_ns)
        known = scored_s[~np.isnan(scored_s)]
        late = (scored_s - schedule.moments())[round(rate * warm_s) :]
        late = late[~np.isnan(late)]
        held = Held(
            subject=subject.name,
            rate=rate,
            seconds=seconds,
            count=schedule.count,
            scored=arrivals.scored,
            repeated=arrivals.repeated,
            lag=lag_of(schedule, known, self.bound),
            latency=latency_of(late) if len(late) else None,
            cpu=cpu,
            behind_s_max=round(paced.behind_s_max, 4),
            served_per_s=round(len(known) / float(known.max()), 1) if len(known) else 0.0,
        )
        return held, Moments(name, begin_ns, schedule, scored_s)

    def _drain(self, subject: Subject, receiver: Receiver, arrivals: Arrivals, schedule: Schedule) -> None:
        """Wait until everything is scored, at most as long as the hold was."""
        deadline_s = time.monotonic() + max(DRAIN_S_MIN, schedule.count / schedule.rate)
        while True:
            arrivals.add(receiver.take())
            if arrivals.scored >= schedule.count or time.monotonic() > deadline_s:
                return
            subject.check()
            time.sleep(_LOOK_EVERY_S)
