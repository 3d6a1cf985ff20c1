"""The parity meter again and again: a process of its own each time, and its finding as metrics.

Rule 1. A round is niced and bounded in time: it never takes the live path's processor.
Rule 2. While a break-it switch is on, and once after it was turned off, rounds follow each other: a person waits for the meter.
Rule 3. What was found stays until the next round has ended; a round that failed is counted, and changes nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from adapters.telemetry import counter, gauge
from fraud import metrics
from monitoring.series import Series

ROUND_S_MAX: Final = 600.0
WATCHED_EVERY_S: Final = 10.0  # between the begins of two rounds
_NICENESS: Final = 15
_HOLDS, _BROKEN, _NOTHING = 0, 1, 3
FAULTS: Final = ("mismatched", "missing", "extra", "repeated")

log = structlog.get_logger("monitoring.parity")


def measured(sample: int) -> tuple[int, str]:
    """Run `python -m monitoring parity` once; its exit code and what it printed. Raises TimeoutExpired, OSError."""
    done = subprocess.run(
        [sys.executable, "-m", "monitoring", "parity", "--sample", str(sample), "--json"],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ROUND_S_MAX,
        preexec_fn=lambda: os.nice(_NICENESS),
    )
    return done.returncode, done.stdout or done.stderr


class Cadence:
    """When the next round is due. on(): the break-it switches that are on."""

    def __init__(
        self, every_s: float, on: Callable[[], tuple[str, ...]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._on = on
        self._clock = clock
        self._began_s = float("-inf")
        self._measured_with: tuple[str, ...] = ()

    def due(self) -> bool:
        """Whether a round begins now; it counts as begun."""
        now_s, on = self._clock(), self._on()
        watched = on or on != self._measured_with
        if now_s - self._began_s < (min(self._every_s, WATCHED_EVERY_S) if watched else self._every_s):
            return False
        self._began_s, self._measured_with = now_s, on
        return True


class ParityRounds:
    """Rounds over `sample` vectors. measure(sample): exit code and output of the meter."""

    def __init__(self, sample: int, measure: Callable[[int], tuple[int, str]] = measured) -> None:
        self._sample = sample
        self._measure = measure
        self._mismatches = Series(metrics.PARITY_MISMATCHES)
        self._wrong = Series(metrics.PARITY_WRONG_ROWS)

    def round(self) -> None:
        """Measure once and show it."""
        outcome = "failed"
        try:
            code, output = self._measure(self._sample)
            if code in (_HOLDS, _BROKEN):
                self._show(json.loads(output))
            outcome = {_HOLDS: "holds", _BROKEN: "broken", _NOTHING: "nothing"}.get(code, "failed")
        except (subprocess.TimeoutExpired, OSError, ValueError, KeyError) as error:
            output = repr(error)
            outcome = "failed"
        if outcome in ("broken", "failed"):
            log.warning("parity", outcome=outcome, output=output[-500:])
        counter(metrics.PARITY_ROUNDS_TOTAL).labels(outcome).inc()

    def _show(self, found: Mapping[str, Any]) -> None:
        rows = {fault: float(found["mismatched_rows" if fault == "mismatched" else fault]) for fault in FAULTS}
        gauge(metrics.PARITY_COMPARED).set(found["compared"])
        self._wrong.show({(fault,): count for fault, count in rows.items()})
        self._mismatches.show({(name,): float(count) for name, count in found["mismatches"].items()})
