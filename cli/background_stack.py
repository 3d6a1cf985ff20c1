"""A stack that runs in a process of its own: start it, follow what it says, end it.

Rule 1. Starting a stack that runs is no error: it is found, and nothing is started.
Rule 2. What the runner says is in logs/runner.log; whoever starts it reads it there.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Final

from adapters.backends.child import Child, last_lines, rotate
from adapters.backends.server import Say
from cli.failure import CommandError
from cli.preflight import check_folder, end_leftovers
from cli.runner import READY_S_MAX, STOP_S_MAX
from cli.services import with_code_on_path
from cli.stack_state import StackFolder, StackState

_FETCH_S_MAX: Final = 900.0
_TURN_S: Final = 0.1


class LineReader:
    """The whole lines that a growing file has got since the last call."""

    def __init__(self, path: Path, from_end: bool = False) -> None:
        self._path = path
        self._at = path.stat().st_size if from_end and path.exists() else 0
        self._rest = b""

    def lines(self) -> list[str]:
        """New lines; a file that was replaced by a shorter one is read from its beginning."""
        try:
            with self._path.open("rb") as file:
                if self._path.stat().st_size < self._at:
                    self._at, self._rest = 0, b""
                file.seek(self._at)
                new = file.read()
        except OSError:
            return []
        self._at += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        return [line.decode(errors="replace") for line in whole]


def prepared(folder: StackFolder, say: Say) -> None:
    """Check the folder, and end what an earlier runner left. Raises CommandError."""
    check_folder(folder.path)
    end_leftovers(folder, say)
    folder.remove_env()
    folder.logs.mkdir(exist_ok=True)


def start_runner(folder: StackFolder, outlives_us: bool) -> Child:
    """Start the runner as a process of its own. outlives_us: whether it goes on when this process ends."""
    log = folder.logs / "runner.log"
    rotate(log)
    environment = {**with_code_on_path(), "FRAUD_STATE_DIR": str(folder.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "cli.runner"]
    death_signal = None if outlives_us else signal.SIGTERM
    runner = Child("runner", command, log, environment=environment, death_signal=death_signal)
    runner.start()
    return runner


def await_ready(folder: StackFolder, runner: Child, say: Say) -> StackState:
    """Pass on what the runner says until the stack is ready. Raises CommandError with its reason when it is not."""
    reader = LineReader(runner.log)
    deadline_s = time.monotonic() + READY_S_MAX + _FETCH_S_MAX
    while time.monotonic() < deadline_s:
        alive = runner.alive()
        for line in reader.lines():
            say(line)
        state = folder.running()
        if state is not None and state.phase == "ready":
            return state
        if not alive:
            raise CommandError(_why_ended(folder, runner), runner.exit_code() or 1)
        time.sleep(_TURN_S)
    raise CommandError(f"the stack did not become ready; what it says is in {runner.log}")


def _why_ended(folder: StackFolder, runner: Child) -> str:
    state = folder.read()
    if state is not None and state.phase == "failed":
        return "the stack could not be started; the reason stands above, and in " + str(runner.log)
    told = "\n  ".join(last_lines(runner.log, 10))
    return f"the runner ended with code {runner.exit_code()}; its log is {runner.log}, its last lines:\n  {told}"


def end_stack(folder: StackFolder, say: Say) -> bool:
    """End the running stack, and what a dead runner left. Returns whether there was anything to end."""
    state = folder.read()
    if state is None:
        return False
    identity = state.runner.identity()
    process = identity.process()
    if process is not None:
        reader = LineReader(folder.logs / "runner.log", from_end=True)
        process.terminate()
        deadline_s = time.monotonic() + STOP_S_MAX + 3
        while identity.process() is not None and time.monotonic() < deadline_s:
            for line in reader.lines():
                say(line)
            time.sleep(_TURN_S)
        if identity.end(1.0):
            say("the runner did not end in time: killed")
    leftovers = bool(state.leftovers() or state.left_containers())
    end_leftovers(folder, say)
    folder.remove_env()
    return process is not None or leftovers
