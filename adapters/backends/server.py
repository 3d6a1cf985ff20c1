"""What every rung of the ladder gives: a server with an address that can be stopped, killed and started again.

Rule 1. After kill() or stop(), start() brings back the same server: same address, same data.
Rule 2. A message to a person names what is missing and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

Say = Callable[[str], None]


def quietly(line: str) -> None:
    """A Say that says nothing."""


class BackendMissingError(RuntimeError):
    """No rung of the ladder can be had; the message says why for each, and the remedies."""


class BackendFailedError(RuntimeError):
    """A server was started and did not become ready; the message holds its last words and where its log is."""


class Server(Protocol):
    """A Kafka broker or a Redis server.

    address: Kafka's bootstrap `host:port`, or a Redis URL. port: the one in the address. description: what it is, for people.
    """

    address: str
    port: int
    description: str

    def start(self) -> None:
        """Start and wait until it answers. Raises BackendFailedError."""

    def stop(self, timeout_s: float = 5.0) -> None:
        """End it in order, at most `timeout_s`, then by force."""

    def kill(self) -> None:
        """End it as a power failure would."""

    def alive(self) -> bool:
        """Whether it runs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class StartedWithin:
    """`with server as s:` starts it and stops it in the end."""

    def start(self) -> None:
        """Start and wait until it answers."""
        raise NotImplementedError

    def stop(self, timeout_s: float = 5.0) -> None:
        """End it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
