"""One server process: start, wait until it answers, kill, start again, stop.

Rule 1. Ready is what the server's own port says, asked until a deadline; the log's last lines stand in the error.
Rule 2. A server dies with the process that started it, also when that one is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
READY_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.1


class ServerError(RuntimeError):
    """A server did not start, or ended; the message says what to do."""


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections at the port."""
    with suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def _die_with_parent() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """A process with a port. `describe` is what the header of the tests and `fraudstream status` say of it."""

    def __init__(
        self,
        name: str,
        describe: str,
        command: Sequence[str],
        port: int,
        folder: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.describe = describe
        self.port = port
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._command = list(command)
        self._ready = ready
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Start and wait until it answers. Raises ServerError with the log's last lines."""
        if answers(self.port):
            raise ServerError(f"port {self.port} is taken: choose another for {self.name}, or end what listens there")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env=self._environment, start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        deadline = time.monotonic() + seconds_max
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerError(f"{self.name} ended with code {self._process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.name} did not answer within {seconds_max:.0f} s:\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self, seconds_max: float = 10.0) -> None:
        """SIGTERM, and SIGKILL when that takes longer than `seconds_max`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            self.kill()

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _answers(self) -> bool:
        return answers(self.port) and self._ready()
