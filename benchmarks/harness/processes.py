"""Who used the CPU: seconds of each process by name, and of everything that is not ours.

Rule 1. A process counts with its descendants, living and reaped, each once; a descendant that is named itself counts there.
Rule 2. What the machine spent and none of ours did is foreign; steal counts as foreign.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import psutil


@dataclass(frozen=True, slots=True)
class CpuReading:
    """CPU seconds so far: by name, and of the machine. at_s: monotonic clock."""

    at_s: float
    by_name: Mapping[str, float]
    machine_s: float


class CpuUse(msgspec.Struct, frozen=True):
    """CPU between two readings, in cores (CPU seconds per second)."""

    seconds: float
    cores: dict[str, float]
    foreign_cores: float

    def us_per(self, transactions: int) -> dict[str, float]:
        """Microseconds of CPU per transaction, by name."""
        return {name: round(cores * self.seconds / transactions * 1e6, 2) for name, cores in self.cores.items()}


def read_cpu(pids: Mapping[str, int]) -> CpuReading:
    """Read now. A process that is gone counts 0. pids: by name."""
    named = frozenset(pids.values())
    by_name = {name: seconds_of(pid, named - {pid}) for name, pid in pids.items()}
    return CpuReading(time.monotonic(), by_name, _machine_seconds())


def seconds_of(pid: int, apart: frozenset[int] = frozenset()) -> float:
    """CPU seconds of a process, of all that it has reaped, and of its living descendants but those in `apart` (and theirs)."""
    try:
        return _seconds(psutil.Process(pid), apart)
    except psutil.NoSuchProcess:
        return 0.0


def _seconds(process: psutil.Process, apart: frozenset[int]) -> float:
    try:
        times, children = process.cpu_times(), process.children()
    except psutil.NoSuchProcess:  # it ended just now: its parent reaps it, and counts it from then on
        return 0.0
    own = float(times.user + times.system + times.children_user + times.children_system)
    return own + sum(_seconds(child, apart) for child in children if child.pid not in apart)


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # the kernel counts them in user too
    return float(sum(times) - idle - guests)


def between(before: CpuReading, after: CpuReading) -> CpuUse:
    """What was used from one reading to a later one. Raises ValueError when no time has passed."""
    seconds = after.at_s - before.at_s
    if seconds <= 0:
        raise ValueError("two readings at one moment: nothing can be said of the time between")
    used = {name: max(0.0, total - before.by_name.get(name, 0.0)) for name, total in after.by_name.items()}
    foreign_s = max(0.0, after.machine_s - before.machine_s - sum(used.values()))
    cores = {name: round(one / seconds, 4) for name, one in used.items()}
    return CpuUse(round(seconds, 3), cores, round(foreign_s / seconds, 3))
