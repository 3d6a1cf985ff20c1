"""A process of ours: started in a session of its own, its output in a file, ended by pid and start time, never by name.

Rule 1. A pid alone names nobody: with the start time it does, so a recycled pid is never signalled.
Rule 2. A child gets SIGTERM when the process that started it dies (Linux), unless it is meant to outlive it.
Rule 3. Every end is bounded: SIGTERM, a while, then SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_PR_SET_PDEATHSIG: Final = 1
_AUTOGROUP: Final = Path("/proc/self/autogroup")
_START_TIME_TOLERANCE_S: Final = 0.5
_libc: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of this machine. started_at: epoch seconds, as the kernel says."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of a running process. Raises psutil.NoSuchProcess."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process while it runs, zombies aside."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started_at) < _START_TIME_TOLERANCE_S
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def end(self, timeout_s: float) -> bool:
        """End the process if it still runs: SIGTERM, at most `timeout_s`, SIGKILL. Returns whether it ran."""
        process = self.process()
        if process is None:
            return False
        for send in (process.terminate, process.kill):
            try:
                send()
                process.wait(timeout_s)
                break
            except psutil.NoSuchProcess:
                break
            except psutil.TimeoutExpired:
                continue
        return True


class Child:
    """A command that runs as a child of this process, and can be started again after it ended."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        niceness: int = 0,
        death_signal: int | None = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._environment = {**os.environ, **(environment or {})}
        self._niceness = niceness
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_end = False
        self.identity: Identity | None = None

    def start(self) -> None:
        """Start the command, output appended to the log. Raises OSError when the machine refuses."""
        assert not self.alive(), f"{self.name} runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._asked_to_end = False
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=self._bind_to_parent(),
            )
        try:
            self.identity = Identity.of(self._process.pid)
        except psutil.NoSuchProcess:
            self.identity = Identity(self._process.pid, time.time())

    def _bind_to_parent(self) -> Callable[[], None]:
        # The kernel's death signal follows the thread that forked, so only the main thread may ask for it.
        libc = _libc if threading.current_thread() is threading.main_thread() else None
        parent, niceness, death_signal = os.getpid(), self._niceness, self._death_signal

        def in_child() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(
                    number, signal.SIG_DFL
                )  # who is started by a process that ignores them can still be ended
            if niceness:
                os.nice(niceness)
                # A child has a session of its own. Where the kernel shares the processor out by session first (autogroup),
                # niceness counts only inside of it, unless the session itself is niced.
                with suppress(OSError):  # no autogroup here, or niced too often just now
                    _AUTOGROUP.write_text(str(niceness))
            if libc is not None and death_signal is not None:
                libc.prctl(_PR_SET_PDEATHSIG, death_signal)
                if os.getppid() != parent:
                    os._exit(1)  # the parent died before the call

        return in_child

    def alive(self) -> bool:
        """Whether it runs now; a child that ended is reaped."""
        return self._process is not None and self._process.poll() is None

    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs or before the start."""
        return None if self._process is None else self._process.poll()

    def ask_to_end(self) -> None:
        """Send SIGTERM if it runs; once: a second one would interrupt the end that the first one began."""
        if self._process is not None and self.alive() and not self._asked_to_end:
            self._asked_to_end = True
            self._process.terminate()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """SIGTERM, at most `timeout_s`, then SIGKILL. Returns whether it ended by itself."""
        self.ask_to_end()
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
            return True
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def kill(self) -> None:
        """SIGKILL to the command and all it started; returns when it is gone."""
        if self._process is None or not self.alive():
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_lines(self, count: int = 20) -> list[str]:
        """The last lines of its log."""
        return last_lines(self.log, count)


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file, none when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def rotate(log: Path, kept: int = 3) -> None:
    """Make room for a new log: log -> log.1 -> log.2, at most `kept` old ones."""
    for number in range(kept, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log if number == 1 else log.with_name(f"{log.name}.{number - 1}")
        if newer.exists():
            newer.replace(older)


def polled(deadline_s: float, every_s: float = 0.1, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Turns of a polling loop until `deadline_s` from now, at least one."""
    ends = clock() + deadline_s
    while True:
        yield
        if clock() >= ends:
            return
        time.sleep(every_s)
