"""What is measured: ours or a peer, behind one face.

Rule 1. A subject reads JSON transactions from `topic` and answers each with a score on `output`.
Rule 2. Subjects run one at a time on the same broker and the same Redis; whoever is not measured is not running.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol


class Subject(Protocol):
    """A stack that scores transactions."""

    @property
    def name(self) -> str:
        """As tables call it."""

    @property
    def topic(self) -> str:
        """Where it reads."""

    @property
    def output(self) -> str:
        """Where it answers."""

    @property
    def partitions(self) -> int:
        """Of both topics."""

    def start(self) -> None:
        """Start its processes; they may still be connecting when this returns."""

    def stop(self) -> None:
        """End its processes."""

    def check(self) -> None:
        """Raise when a process of it has ended."""

    def pids(self) -> Mapping[str, int]:
        """Its processes by name."""

    def decode(self, value: bytes) -> Iterable[str]:
        """The transaction ids that a record of `output` answers."""
