"""Progress of long work: bars on a terminal, plain lines otherwise.

Rule 1. It writes to stderr: standard output belongs to results.
Rule 2. Plain lines come at most every LINE_SECONDS, and once at the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_SECONDS: Final = 5.0


class Meter:
    """Shows how much of each named amount is done: Meter({"sent": 1000, "scored": 1000})."""

    def __init__(
        self,
        totals: Mapping[str, int],
        unit: str = "tx",
        stream: TextIO | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._totals = dict(totals)
        self._done = dict.fromkeys(totals, 0)
        self._unit = unit
        self._stream = stream or sys.stderr
        self._now_s = now_s
        self._begin_s = now_s()
        self._moved_s = dict.fromkeys(totals, self._begin_s)
        self._line_s = self._begin_s
        self._line_shown = ""
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._stream.isatty():
            columns = (
                TextColumn("{task.description:>10}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
            )
            self._bars = Progress(*columns, TimeRemainingColumn(), console=Console(file=self._stream))
            self._tasks = {
                name: self._bars.add_task(name, total=total, rate="") for name, total in self._totals.items()
            }
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif any(self._done.values()):
            self._print_line()

    def update(self, name: str, done: int) -> None:
        """`done` of the amount `name` are done."""
        if done != self._done[name]:
            self._done[name] = done
            self._moved_s[name] = self._now_s()
        if self._bars is not None:
            self._bars.update(self._tasks[name], completed=done, rate=self._rate(name))
        elif self._now_s() - self._line_s >= LINE_SECONDS:
            self._print_line()

    def _print_line(self) -> None:
        self._line_s = self._now_s()
        parts = []
        for name, done in self._done.items():
            percent = 100 * done / max(1, self._totals[name])
            parts.append(f"{name} {done:,} of {self._totals[name]:,} ({percent:.0f} %, {self._rate(name)})")
        line = "; ".join(parts)
        if line != self._line_shown:
            print(line, file=self._stream, flush=True)
        self._line_shown = line

    def _rate(self, name: str) -> str:
        """Mean rate until the amount last grew, so that what is complete keeps its own."""
        return f"{self._done[name] / max(1e-9, self._moved_s[name] - self._begin_s):,.0f} {self._unit}/s"
