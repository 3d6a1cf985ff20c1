"""What is measured: ours or a peer, behind one face.

Rule 1. A subject reads JSON transactions from `topic` and answers each with a score on `output`.
Rule 2. Subjects run one at a time on the same broker and the same Redis; whoever is not measured is not running.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol


class Subject(Protocol):
    """A stack that scores transactions. partitions: of both topics."""

    name: str
    topic: str
    output: str
    partitions: int

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
