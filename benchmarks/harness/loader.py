"""The other end of benchmarks/harness/load.py: starts the sender, gives it orders, hears its answers.

Rule 1. Every answer is awaited with a deadline; a sender that ended says why in its log.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from adapters.backends.child import last_lines
from benchmarks.harness.load import Order
from benchmarks.harness.pacing import Paced
from cli.services import with_code_on_path

PREPARE_S_MAX: Final = 300.0
SEND_S_MAX: Final = 120.0  # beyond the hold's own length


class LoadFailedError(RuntimeError):
    """The sender ended or did not answer; the message has the last lines of its log."""


class Loader:
    """A sender process. `with Loader(...) as loader`."""

    def __init__(self, bootstrap: str, cards: int, log: Path) -> None:
        self._log = log
        with log.open("ab") as told:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.harness.load", bootstrap, str(cards)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told,
                env=with_code_on_path(),
            )
        self._rest = b""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def prepare(self, order: Order) -> None:
        """Have the messages made. Raises LoadFailedError."""
        self._tell(msgspec.to_builtins(order))
        self._answer(PREPARE_S_MAX)

    def begin(self, begin_ns: int) -> None:
        """Let it begin at a moment of time.time_ns()."""
        self._tell({"begin_ns": begin_ns})

    def ended(self, within_s: float) -> Paced:
        """Wait until everything is sent and acknowledged."""
        return Paced(**self._answer(within_s + SEND_S_MAX))

    def _tell(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(what) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed("has ended") from None

    def _answer(self, within_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor, deadline_s = self._process.stdout.fileno(), time.monotonic() + within_s
        while b"\n" not in self._rest:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise self._failed(f"did not answer within {within_s:.0f} s")
            read = os.read(descriptor, 65536)
            if not read:
                raise self._failed("has ended")
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = msgspec.json.decode(line)
        return answer

    def _failed(self, how: str) -> LoadFailedError:
        told = "\n  ".join(last_lines(self._log, 15))
        return LoadFailedError(f"the sender {how}; its log is {self._log}, its last lines:\n  {told}")
