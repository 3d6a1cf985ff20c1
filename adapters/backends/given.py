"""A server that a person gave the address of: it is used, and never started, stopped or killed."""

from __future__ import annotations

import re
from collections.abc import Callable

from adapters.backends.child import polled
from adapters.backends.server import BackendFailedError, StartedWithin

READY_S_MAX = 10.0


class GivenServer(StartedWithin):
    """The server at an address. setting: the variable that names it."""

    def __init__(self, address: str, shown: str, setting: str, ready: Callable[[str], bool]) -> None:
        self.address = address
        self.port = int(found.group(1)) if (found := re.search(r":(\d+)(?:/|,|$)", address)) else 0
        self.description = f"{shown}, given by {setting}"
        self._shown = shown
        self._setting = setting
        self._ready = ready

    def start(self) -> None:
        """Wait until it answers. Raises BackendFailedError that names the setting."""
        for _ in polled(READY_S_MAX, 0.2):
            if self._ready(self.address):
                return
        raise BackendFailedError(f"nothing usable answers at {self._shown}: start it, or unset {self._setting}")

    def stop(self, timeout_s: float = 5.0) -> None:
        """It is not ours to stop."""

    def kill(self) -> None:
        """It is not ours to kill."""
        raise NotImplementedError(
            f"{self._setting} is somebody's server: only servers that were started here are killed"
        )

    def alive(self) -> bool:
        """Whether it answers."""
        return self._ready(self.address)
