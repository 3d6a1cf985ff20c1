"""Random faults at random moments, the same for the same seed: who is killed, when, and for how long a server is away.

Rule 1. Every target is killed at least once per schedule.
Rule 2. Before each fault all services do their work again, and the log streams on: no kill hits a dead or an idle stack.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.integration.faults.feeder import BackgroundFeeder
from tests.integration.faults.processes import POLL_SECONDS, Service, wait_until
from tests.integration.faults.stack import Stack

SERVICES: Final = ("worker", "scorer", "archiver")
SERVERS: Final = ("redis", "kafka")
MORE_FAULTS: Final = 1
HEALTHY_SECONDS_MAX: Final = 90.0


@dataclass(frozen=True, slots=True)
class Fault:
    """SIGKILL `target` after `wait_s` of peace; a server stays away for `away_s`."""

    target: str
    wait_s: float
    away_s: float


def schedule(seed: int) -> list[Fault]:
    """The faults of a seed."""
    random_ = random.Random(seed)
    targets = [*SERVICES, *SERVERS, *random_.choices((*SERVICES, SERVERS[0]), k=MORE_FAULTS)]
    random_.shuffle(targets)
    return [Fault(target, random_.uniform(0.2, 2.0), random_.uniform(0.0, 2.0)) for target in targets]


def execute(faults: list[Fault], stack: Stack, services: dict[str, Service], feeder: BackgroundFeeder) -> None:
    """Let the faults happen, and start again what asks for it."""
    for number, fault in enumerate(faults, 1):
        _until_healthy(stack, services)
        feeder.allow(number / len(faults))
        _tend_for(fault.wait_s, stack.tend)
        if fault.target in services:
            services[fault.target].kill()
            continue
        server = stack.store if fault.target == "redis" else stack.broker
        server.kill()
        _tend_for(fault.away_s, stack.tend)
        server.start()


def _until_healthy(stack: Stack, services: dict[str, Service]) -> None:
    def unwell() -> list[str]:
        stack.tend()
        return [name for name, service in services.items() if not service.is_healthy()]

    def instead() -> str:
        return "\n".join(f"--- {name} is not\n{services[name].tail(6)}" for name in unwell())

    wait_until("all services do their work", lambda: not unwell(), HEALTHY_SECONDS_MAX, instead)


def _tend_for(seconds: float, tend: Callable[[], None]) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        tend()
        time.sleep(POLL_SECONDS)
