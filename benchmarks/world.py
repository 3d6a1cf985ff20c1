"""`python -m benchmarks.world [--cards N] [--days D]`: transactions per second of the world on one core, and its memory.

Rule 1. Each measurement runs in a process of its own, on one CPU and with one thread, so that its peak memory is its own.
Rule 2. Two speeds: the rows alone, and the rows as a table with their ids; the population is made before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from typing import Any

DEFAULT = [(5000, 60), (1_000_000, 3)]


def measure(cards: int, days: int) -> dict[str, Any]:
    """Make the days of a world one by one in this process."""
    from producer.world.world import World

    begin_s = time.perf_counter()
    world = World(0, cards)
    _ = world.population
    population_s = time.perf_counter() - begin_s
    world.frame(world.day(0))  # the first day also loads code
    rows_s = frame_s = 0.0
    transactions = 0
    for day in range(days):
        begin_s = time.perf_counter()
        rows = world.day(day)
        middle_s = time.perf_counter()
        transactions += world.frame(rows).height
        rows_s += middle_s - begin_s
        frame_s += time.perf_counter() - middle_s
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "cards": cards,
        "days": days,
        "transactions": transactions,
        "population_s": population_s,
        "rows_s": rows_s,
        "frame_s": frame_s,
        "peak_rss_bytes": rss,
    }


def alone(cards: int, days: int) -> dict[str, Any]:
    """`measure` in a process of its own on one CPU."""
    command = [sys.executable, "-m", "benchmarks.world", "--measure", "--cards", str(cards), "--days", str(days)]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    result: dict[str, Any] = json.loads(
        subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    )
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", type=int)
    parser.add_argument("--days", type=int)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(measure(arguments.cards, arguments.days)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}; one CPU and one thread used")
    sizes = [(arguments.cards or 5000, arguments.days or 60)] if arguments.cards or arguments.days else DEFAULT
    for cards, days in sizes:
        found = alone(cards, days)
        rows = found["transactions"]
        print(
            f"{cards:>9,} cards, {days:>3} days: {rows:>10,} transactions; population {found['population_s']:.2f} s; "
            f"rows {rows / found['rows_s']:>9,.0f}/s, with ids {rows / (found['rows_s'] + found['frame_s']):>9,.0f}/s; "
            f"peak {found['peak_rss_bytes'] / 2**30:.2f} GiB"
        )


if __name__ == "__main__":
    main()
