"""What a running stack says of itself in its state folder: stack.json for us, stack.env for the services of other terminals.

Rule 1. Both are replaced whole, never edited in place.
Rule 2. A process stands in it with its start time, so that a recycled pid is nobody's.
Rule 3. stack.env exists only while the stack runs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from adapters.backends.child import Identity

Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]
ServiceState = Literal["starting", "ready", "unready", "restarting", "stopped"]


class Process(msgspec.Struct):
    """A process of the stack. started_at: epoch seconds."""

    pid: int
    started_at: float

    def identity(self) -> Identity:
        """What tells it from every other process."""
        return Identity(self.pid, self.started_at)


class ServerState(msgspec.Struct):
    """Kafka or Redis. process, container: what the runner started; None for the other kind, and for a given server."""

    address: str
    description: str
    process: Process | None = None
    container: str | None = None


class ServiceStatus(msgspec.Struct):
    """A service. port: of its metrics. address: the URL that it answers on, if any. detail: why it is not ready."""

    port: int
    log: str
    state: ServiceState = "starting"
    process: Process | None = None
    restarts: int = 0
    detail: str = ""
    address: str = ""

    def where(self) -> str:
        """Its addresses, for a person."""
        return f"{self.address}, metrics on {self.port}" if self.address else f"metrics on {self.port}"


class StackState(msgspec.Struct):
    """The whole stack. detail: why it failed."""

    runner: Process
    phase: Phase = "starting"
    detail: str = ""
    partitions: int = 1
    servers: dict[str, ServerState] = {}
    services: dict[str, ServiceStatus] = {}

    def running(self) -> bool:
        """Whether its runner lives."""
        return self.runner.identity().process() is not None

    def leftovers(self) -> list[tuple[str, Identity]]:
        """Its processes that live without a runner, in the order in which they are ended."""
        if self.running():
            return []
        processes = [(name, one.process) for name, one in self.services.items()]
        processes += [(name, one.process) for name, one in self.servers.items()]
        found = [(name, process.identity()) for name, process in processes if process is not None]
        return [(name, identity) for name, identity in found if identity.process() is not None]

    def left_containers(self) -> list[str]:
        """Its containers that nobody has stopped; they may be gone."""
        return [] if self.running() else [one.container for one in self.servers.values() if one.container is not None]


class StackFolder:
    """The state folder of a stack."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self._json = path / "stack.json"
        self._env = path / "stack.env"

    def read(self) -> StackState | None:
        """What the last runner wrote; None when there is nothing that can be read."""
        try:
            return msgspec.json.decode(self._json.read_bytes(), type=StackState)
        except (OSError, msgspec.DecodeError):
            return None

    def running(self) -> StackState | None:
        """The stack that runs now."""
        state = self.read()
        return state if state is not None and state.running() else None

    def write(self, state: StackState) -> None:
        """Replace stack.json."""
        _replace(self._json, msgspec.json.format(msgspec.json.encode(state), indent=1))

    def write_env(self, variables: Mapping[str, str]) -> None:
        """Replace stack.env."""
        _replace(self._env, "".join(f"{name}={value}\n" for name, value in variables.items()).encode())

    def remove_env(self) -> None:
        """The stack runs no more."""
        self._env.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the folder for one runner; gives whether it was free."""
        with (self.path / "stack.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True


def _replace(path: Path, content: bytes) -> None:
    half = path.with_name(f"{path.name}.{os.getpid()}.half")
    half.write_bytes(content)
    half.replace(path)
