"""Ports of this machine's loopback address.

Rule 1. A port is free when it can be bound now. A server binds it seconds later: until then the choice is kept by a lock of the
        kernel, so that two stacks that start at once do not choose the same one. The lock ends with the process that chose.
Rule 2. Ports that are chosen freely lie below those that the system gives to outgoing connections.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
CHOSEN_FROM: Final = range(20_000, 32_000)
LOCKS: Path = Path(tempfile.gettempdir()) / "fraudstream-ports"

_kept: dict[int, int] = {}  # port -> the descriptor that holds its lock


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Different free ports, drawn at random. Raises OSError when there are not so many."""
    found: list[int] = []
    for port in random.sample(CHOSEN_FROM, len(CHOSEN_FROM)):
        if len(found) == count:
            return found
        if port not in _kept and is_free(port):
            found.append(port)
    raise OSError(f"{count} free ports are needed on {LOOPBACK}, and {len(found)} were found")


def free_port_near(preferred: int) -> int:
    """The preferred port when it is free and nobody else's choice, else any such one; kept for this process. 0 asks for any."""
    if preferred and is_free(preferred) and keep(preferred):
        return preferred
    return next(port for port in iter(lambda: free_ports(1)[0], None) if keep(port))


def keep(port: int) -> bool:
    """Whether the port is this process's choice from now on, or was before."""
    if port in _kept:
        return True
    try:
        LOCKS.mkdir(mode=0o777, exist_ok=True)
        lock = os.open(LOCKS / str(port), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return True  # a folder of somebody else's: then only the binding decides
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    _kept[port] = lock
    return True


def answers(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return True
    except OSError:
        return False
