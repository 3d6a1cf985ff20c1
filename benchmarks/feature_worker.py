"""The feature worker alone, end to end: `python -m benchmarks.feature_worker [--rows N]`.

Rule 1. The input stands in `transactions` before the worker starts; its time begins with the first vectors and ends with the last.
Rule 2. All of its work counts: decoding, both folds, packing, `terminal-log` and `features` acknowledged, Redis applied.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.fold import made_rows
from benchmarks.machine import machine
from benchmarks.worker_stack import WorkerStack, busy_seconds, cpu_seconds, worker_stack
from fraud.features import FEATURE_HASH, NAMES

BAR_PER_SECOND: Final = 25_000


def measure(stack: WorkerStack, rows: int) -> str:
    """One line: transactions per second and CPU per transaction of one worker that takes all of them."""
    stack.send(made_rows(rows))
    with stack.progress() as served, stack.worker() as worker:
        begin_s = stack.wait_for(worker, lambda: served() > 0)
        first, cpu_s, busy_s = served(), cpu_seconds(worker.pid), busy_seconds()
        end_s = stack.wait_for(worker, lambda: served() >= rows)
        cpu_s, busy_s = cpu_seconds(worker.pid) - cpu_s, busy_seconds() - busy_s
    took_s, count = end_s - begin_s, rows - first
    return (
        f"feature worker alone  {count / took_s:>9,.0f} transactions/s (bar: {BAR_PER_SECOND:,}), {count:,} in {took_s:.1f} s; "
        f"CPU of the worker {cpu_s / count * 1e6:.1f} us a transaction; the machine was busy {busy_s / took_s:.2f} of "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )


def main(rows: Annotated[int, typer.Option(min=1000, help="how many transactions are preloaded")] = 300_000) -> None:
    """Preload, start one worker, and print its speed."""
    with tempfile.TemporaryDirectory() as folder, worker_stack(Path(folder)) as stack:
        began_s = time.perf_counter()
        typer.echo(measure(stack, rows))
        typer.echo(
            f"{len(NAMES)} features, {FEATURE_HASH}; {time.perf_counter() - began_s:.0f} s in all; on {machine('numpy')}"
        )


if __name__ == "__main__":
    typer.run(main)
