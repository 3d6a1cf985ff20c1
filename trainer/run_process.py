"""A training as a process of its own: started niced, listened to, and ended with the service that started it.

Rule 1. It cannot take the live path's processor, and its crash is only its own.
Rule 2. It holds the other end of our stdin pipe: when this service dies, it reads the end of it and dies too.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Final

import msgspec

from fraud.control import Retrain

NICENESS: Final = 10
# Threads that wait for each other sleep: niced ones that spin would wait for one that gets no processor.
QUIET_THREADS: Final = {"OMP_WAIT_POLICY": "passive"}


class StageLine(msgspec.Struct, frozen=True):
    """One line of `train --json-progress`."""

    stage: str
    percent: int
    detail: str


@dataclass(slots=True)
class Run:
    """A training process and what it has said. lines: its output, None at the end."""

    request: Retrain
    process: subprocess.Popen[str]
    started_s: float
    lines: queue.Queue[str | None] = field(default_factory=queue.Queue)
    last: StageLine | None = None
    last_text: str = ""


def start_run(
    request: Retrain,
    clock: Callable[[], float] = time.monotonic,
    niceness: int = NICENESS,
    switches: Callable[[], Sequence[str]] = tuple,
) -> Run:
    """Start the training process of a request. switches(): the break-it switches that it is made under.

    Raises OSError when the machine refuses, or the switches are not known.
    """
    as_of = "latest" if request.as_of_ms is None else str(request.as_of_ms)
    command = [sys.executable, "-m", "trainer", "train", "--as-of", as_of, "--json-progress", "--tethered"]
    command += [word for name in switches() for word in ("--under", name)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**QUIET_THREADS, **os.environ},
    )
    os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
    return listened_to(Run(request, process, clock()))


def listened_to(run: Run) -> Run:
    """Read the run's output on a thread beside, so that neither waits for the other."""
    threading.Thread(target=_pump, args=(run.process.stdout, run.lines), daemon=True, name="train-output").start()
    return run


def _pump(output: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in output:
        lines.put(line.rstrip())
    lines.put(None)
