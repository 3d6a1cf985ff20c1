"""The training runs, past and present: asked, queued, running, and how each of them ended.

Rule 1. The trainer alone writes; anyone may read while it does. What was written survives a kill at any moment.
Rule 2. A request id stands once: the same id again is the same request.
Rule 3. A run that the trainer left open when it was killed is closed by the next start: failed, interrupted.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

QUEUED: Final = "queued"
RUNNING: Final = "running"
ENDED: Final = frozenset({"promoted", "rejected", "failed"})
KEPT: Final = 1000
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS run (
    number INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT UNIQUE NOT NULL, state TEXT NOT NULL, content BLOB NOT NULL
)
"""


class TrainingRun(msgspec.Struct, frozen=True, kw_only=True):
    """One request for a model and what became of it.

    trigger: person, nightly or drift; why: what the asker said. as_of_ms: the moment to train for, None: the newest.
    covers_ms: event time that the lake had reached when it began. state: queued, running, promoted, rejected or failed.
    stage, percent: how far (0 .. 100); detail: of the stage, at the end the reason. joined: the request whose run serves it.
    asked_at_ms, started_at_ms, ended_at_ms: wall clock, epoch milliseconds.
    """

    request_id: str
    trigger: str
    why: str
    as_of_ms: int | None
    asked_at_ms: int
    covers_ms: int | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    state: str = QUEUED
    stage: str = QUEUED
    percent: int = 0
    detail: str = ""
    joined: str | None = None


_decode = msgspec.json.Decoder(TrainingRun).decode


class RunHistory:
    """The history in one file, open for writing by one thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")

    def add(self, run: TrainingRun) -> bool:
        """Add a request; False when its id stands already."""
        added = self._db.execute(
            "INSERT OR IGNORE INTO run (request_id, state, content) VALUES (?, ?, ?)",
            (run.request_id, run.state, msgspec.json.encode(run)),
        )
        self._db.execute("DELETE FROM run WHERE number <= (SELECT max(number) FROM run) - ?", (KEPT,))
        return added.rowcount == 1

    def put(self, run: TrainingRun) -> None:
        """Write a run as it is now."""
        self._db.execute(
            "UPDATE run SET state = ?, content = ? WHERE request_id = ?",
            (run.state, msgspec.json.encode(run), run.request_id),
        )

    def get(self, request_id: str) -> TrainingRun:
        """A run by its id. Raises KeyError."""
        found = self._db.execute("SELECT content FROM run WHERE request_id = ?", (request_id,)).fetchone()
        if found is None:
            raise KeyError(request_id)
        return _decode(found[0])

    def all(self) -> list[TrainingRun]:
        """Every run that is kept, oldest request first."""
        return [_decode(content) for (content,) in self._db.execute("SELECT content FROM run ORDER BY number")]

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _make(path: Path) -> None:
    """An empty history, whole when it appears: readers ask at any moment."""
    half = path.with_suffix(".half")
    half.unlink(missing_ok=True)
    with closing(sqlite3.connect(half)) as db:
        db.execute(_TABLE)
    half.replace(path)


def read_runs(path: Path, limit: int) -> list[TrainingRun]:
    """The newest runs, newest first, while the trainer may write; none when there is no file."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as db:
        rows = db.execute("SELECT content FROM run ORDER BY number DESC LIMIT ?", (limit,)).fetchall()
    return [_decode(content) for (content,) in rows]
