"""What the harness has measured, as plain data: docs/performance.json, from which tables, README and the plot are drawn.

Rule 1. Whatever is needed to repeat a run or to doubt it stands in it: command, settings, machine, foreign CPU.
Rule 2. A median stands with its lowest and highest round; one round is no interval, and is shown as one.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from benchmarks.harness.hold import Held
from benchmarks.machine import processor

BUSY_CORES: Final = 0.2  # more foreign CPU than that and a number is marked


class Interval(msgspec.Struct, frozen=True):
    """The median of some rounds, the lowest and the highest."""

    median: float
    low: float
    high: float
    rounds: int


def interval(values: Sequence[float]) -> Interval:
    """Of at least one value."""
    return Interval(statistics.median(values), min(values), max(values), len(values))


class Sustained(msgspec.Struct, frozen=True, kw_only=True):
    """A subject's throughput. rounds: the rate that each round's search found; confirmed_per_s: the highest that was held for
    hold_s, 0 when none was; us_per_transaction: CPU in that hold by process, without the harness."""

    subject: str
    rounds: Interval
    confirmed_per_s: float
    hold_s: float
    us_per_transaction: dict[str, float]
    latency: dict[str, float]
    lag_s_max: float
    foreign_cores: float
    trials: list[tuple[float, bool]]
    equal_rows: int | None = None

    @property
    def us_all(self) -> float:
        """CPU microseconds per transaction of all processes."""
        return sum(self.us_per_transaction.values())


class LatencyAt(msgspec.Struct, frozen=True, kw_only=True):
    """A subject's latency at a rate: percentiles in ms over the rounds; cores: of broker, Redis, sender and subject."""

    subject: str
    rate: float
    seconds: float
    p50_ms: Interval
    p90_ms: Interval
    p99_ms: Interval
    p999_ms: Interval
    max_ms: Interval
    cores: Interval
    cores_by_process: dict[str, float]
    foreign_cores: float
    hops_ms: dict[str, tuple[float, float]] = {}
    slow: dict[str, int] = {}


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement without the stack: its value, unit, and what it is compared with."""

    name: str
    value: float
    unit: str
    bar: str
    passed: bool


class Grown(msgspec.Struct, frozen=True, kw_only=True):
    """What a thing costs at one size. axis: cards, span (hours) or workers; at: how many; us: CPU per transaction of the worker,
    and of all processes; per_second: 0 where no process was timed."""

    axis: str
    at: float
    shown: str
    us_worker: float
    us_all: float
    per_second: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One command's results. at: UTC, ISO."""

    command: str
    at: str
    machine: str
    servers: str
    settings: dict[str, Any]
    throughput: list[Sustained] = []
    latency: list[LatencyAt] = []
    features: list[Feature] = []
    train: list[Feature] = []
    growth: list[Grown] = []
    foreign_cores: float = 0.0
    seconds: float = 0.0


class Results(msgspec.Struct, frozen=True):
    """The newest run of each command, by the command's name."""

    runs: dict[str, Run] = {}


def read_results(path: Path) -> Results:
    """Results as write_results wrote them; none when the file is not there."""
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results()


def write_results(path: Path, results: Results) -> None:
    """Replace the file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def latency_at(held: Sequence[Held], hops: dict[str, tuple[float, float]], slow: dict[str, int]) -> LatencyAt:
    """Rounds of one subject at one rate. Raises ValueError when in none of them anything was scored."""
    told = [one.latency for one in held if one.latency is not None]
    if not told:
        raise ValueError(f"{held[0].subject} scored nothing at {held[0].rate:g} a second")
    names = held[0].cpu.cores.keys()
    return LatencyAt(
        subject=held[0].subject,
        rate=held[0].rate,
        seconds=held[0].seconds,
        **{
            name: interval([getattr(one, name) for one in told])
            for name in ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
        },
        cores=interval([round(one.cores(), 3) for one in held]),
        cores_by_process={
            name: round(statistics.median([one.cpu.cores.get(name, 0.0) for one in held]), 3) for name in names
        },
        foreign_cores=round(statistics.median([one.cpu.foreign_cores for one in held]), 3),
        hops_ms=hops,
        slow=slow,
    )


def machine() -> str:
    """The machine line under every table."""
    memory = psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.release()}"
    return f"{processor()}, {os.cpu_count()} CPUs, {memory:.0f} GiB, {system}, Python {platform.python_version()}"
