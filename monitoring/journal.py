"""The journal: a SQLite file with what a reader has made of the logs, and how far it has read them, in one commit.

Rule 1. Positions, origin marks and the owner's tables change in one transaction: after a kill they are of one moment, and
        reading on from there gives what an unbroken run would have given.
Rule 2. One process writes a journal; others may read it meanwhile.
Rule 3. A journal of another schema is refused with the remedy, never guessed at.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from fraud.packed import OriginMarks

_OWN_TABLES: Final = """
CREATE TABLE IF NOT EXISTS position (topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS mark (
    topic TEXT, partition INTEGER, origin_topic TEXT, origin_partition INTEGER, last INTEGER NOT NULL,
    PRIMARY KEY (topic, partition, origin_topic, origin_partition)
);
"""


class Source(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class JournalRefusedError(RuntimeError):
    """A journal that cannot be used; the message names the file and the remedy."""


class Journal:
    """A journal that is open for writing; `tables` makes the owner's tables, IF NOT EXISTS.

    version: of the owner's tables, above 0. Raises JournalRefusedError, and OSError when the disk refuses.
    """

    def __init__(self, path: Path, tables: str, version: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing, a power cut whole commits only
        self._prepare(tables, version)
        self._positions = {Source(t, p): n for t, p, n in self.connection.execute("SELECT * FROM position")}
        self._marks: dict[Source, OriginMarks] = {}
        for topic, partition, origin_topic, origin, last in self.connection.execute("SELECT * FROM mark"):
            self.marks(Source(topic, partition)).marks[origin_topic, origin] = last
        self.connection.execute("BEGIN")

    def _prepare(self, tables: str, version: int) -> None:
        (found,) = self.connection.execute("PRAGMA user_version").fetchone()
        if found not in (0, version):
            raise JournalRefusedError(
                f"{self.path} has tables of version {found}, this code writes {version}: delete the file, "
                "it is made again from the logs"
            )
        self.connection.executescript(_OWN_TABLES + tables)
        self.connection.execute(f"PRAGMA user_version = {version}")

    def position(self, source: Source) -> int | None:
        """The next offset to read; None before the first."""
        return self._positions.get(source)

    def marks(self, source: Source) -> OriginMarks:
        """The origin marks of a source: whoever moves them moves what the next commit stores."""
        return self._marks.setdefault(source, OriginMarks())

    def read_up_to(self, source: Source, next_offset: int) -> None:
        """Note that everything below an offset is in the tables; it counts with the next commit."""
        self._positions[source] = next_offset

    def commit(self) -> None:
        """Let everything since the last commit count: tables, positions and marks."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO position VALUES (?, ?, ?)", [(*s, n) for s, n in self._positions.items()]
        )
        self.connection.executemany(
            "INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?, ?)",
            [(*s, *origin, last) for s, marks in self._marks.items() for origin, last in marks.marks.items()],
        )
        self.connection.execute("COMMIT")
        self.connection.execute("BEGIN")

    def close(self) -> None:
        """Forget what was not committed, and close."""
        self.connection.close()
        os.close(self._lock)


@contextmanager
def open_for_reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The tables as of the newest commit, also while another process writes. Raises FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(path)
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def _locked(path: Path) -> int:
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalRefusedError(f"another process writes {path}: stop it, or set FRAUD_STATE_DIR") from None
    return descriptor
