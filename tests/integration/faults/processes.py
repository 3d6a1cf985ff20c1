"""A service under a small supervisor: started, watched, killed, and started again when it asks for it.

Rule 1. Exit code 70 means "start me again", which the supervisor does; any other code that was not asked for is a finding.
Rule 2. Only processes started here are signalled, by their id; what is left at the end is killed.
Rule 3. Every wait has a deadline; its error says what was awaited and shows the end of the log.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from adapters.ports import LOOPBACK, free_ports

ROOT: Final = Path(__file__).parents[3]
EXIT_RESTART: Final = 70
POLL_SECONDS: Final = 0.05
PR_SET_PDEATHSIG: Final = 1


def _die_with_parent() -> None:
    """A test run that is killed leaves no service behind."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(what: str, is_so: Callable[[], bool], seconds_max: float, instead: Callable[[], str]) -> None:
    """Ask until it is so. Raises TimeoutError with what was awaited and what stood instead."""
    deadline = time.monotonic() + seconds_max
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds_max:.0f} s; instead {instead()}")
        time.sleep(POLL_SECONDS)


class Service:
    """One supervised process. `codes` are the exit codes so far, -9 for a kill."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._health_port = free_ports(1)[0]
        self.log = folder / f"{name}.log"
        self.codes: list[int] = []
        self._command = [sys.executable, *command]
        self._environment = {**os.environ, **environment, "FRAUD_METRICS_PORT": str(self._health_port)}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()

    def start(self, **once: str) -> None:
        """Start it; `once`: variables for this start alone."""
        with self._lock, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env=self._environment | once, preexec_fn=_die_with_parent,
            )  # fmt: skip

    def tend(self) -> None:
        """Start it again if it ended with 70 or was killed. Raises AssertionError when it ended otherwise."""
        with self._lock:
            code = self._ended()
            if code is None:
                return
            self.codes.append(code)
            self._process = None
            assert code in (EXIT_RESTART, -signal.SIGKILL), f"{self.name} ended with code {code}:\n{self.tail()}"
            self.start()

    def kill(self) -> None:
        """SIGKILL; tend() starts it again."""
        self._signal(signal.SIGKILL)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def stop(self, seconds_max: float = 10.0) -> int:
        """SIGTERM; returns the exit code. Raises TimeoutError when it does not end."""
        self._signal(signal.SIGTERM)
        return self.wait(seconds_max)

    def wait(self, seconds_max: float) -> int:
        """Wait for its end and return the exit code."""
        wait_until(f"the end of {self.name}", lambda: self._ended() is not None, seconds_max, self.tail)
        code = self._ended()
        assert code is not None
        self.codes.append(code)
        self._process = None
        return code

    def is_healthy(self) -> bool:
        """Whether it says on /healthz that it does its work."""
        with suppress(OSError), urlopen(f"http://{LOOPBACK}:{self._health_port}/healthz", timeout=1) as answer:
            return bool(answer.status == 200)
        return False

    def counted(self, metric: str) -> float:
        """The sum of a counter over all of its labels."""
        with urlopen(f"http://{LOOPBACK}:{self._health_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{metric}{{", f"{metric} ")))

    def is_stopped(self) -> bool:
        """Whether the kernel has it stopped (SIGSTOP)."""
        if self._process is None:
            return False
        with suppress(OSError):
            return Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
        return False

    def discard(self) -> None:
        """Kill it, whatever it does, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return "no log"
        return "\n".join(line[:300] for line in self.log.read_text(errors="replace").splitlines()[-lines:])

    def _ended(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def _signal(self, number: int) -> None:
        with self._lock:
            if self._process is not None:
                self._process.send_signal(number)
