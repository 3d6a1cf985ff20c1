"""Ports of this machine's loopback address.

Rule 1. A port is free when it can be bound now; nobody holds it for the caller, so whoever asks binds it soon.
"""

from __future__ import annotations

import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"


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
    """Different free ports; all are held until all are chosen."""
    held = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [server.getsockname()[1] for server in held]
    finally:
        for server in held:
            server.close()


def free_port_near(preferred: int) -> int:
    """The preferred port when it is free, else any free one. 0 asks for any."""
    return preferred if preferred and is_free(preferred) else free_ports(1)[0]


def answers(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return True
    except OSError:
        return False
