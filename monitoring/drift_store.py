"""What is kept of drift: open windows, alarms, and the newest judgements, in a journal.

Rule 1. Counts belong to one reference; for another model's they are dropped, never carried over.
Rule 2. Only windows that were watched from their begin are judged: a half day is no day.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from fraud.drift import Alarm, Judgement, Window
from monitoring.journal import Journal, open_for_reading

VERSION: Final = 1
KEPT: Final = 60  # judgements
TABLES: Final = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value);
CREATE TABLE IF NOT EXISTS clock (topic TEXT, partition INTEGER, newest_ms INTEGER NOT NULL, PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS drift_window (start_ms INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS alarm (name TEXT PRIMARY KEY, raised INTEGER NOT NULL, streak INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS judgement (end_ms INTEGER PRIMARY KEY, content BLOB NOT NULL);
"""


class _StoredWindow(msgspec.Struct):
    start_ms: int
    end_ms: int
    counts: dict[str, list[int]]
    alerted: int
    probability: float
    alerted_probability: float


_decode_window = msgspec.json.Decoder(_StoredWindow).decode
_decode_judgement = msgspec.json.Decoder(Judgement).decode


class DriftStore:
    """The tables of an open journal, and the open windows in memory.

    version: whose reference is counted against; windows that begin before counted_from_ms are not counted.
    retrain_asked_ms: event time at which drift has last asked for a training; None: never.
    """

    def __init__(self, journal: Journal) -> None:
        self._db = journal.connection
        facts = dict(self._db.execute("SELECT * FROM fact"))
        self.version: str | None = facts.get("version")
        self.counted_from_ms: int = facts.get("counted_from_ms", 0)
        self.retrain_asked_ms: int | None = facts.get("retrain_asked_ms")
        self.windows = {start: _window(content) for start, content in self._db.execute("SELECT * FROM drift_window")}
        self.alarms = read_alarms(self._db)
        self.clock = {(t, p): newest for t, p, newest in self._db.execute("SELECT * FROM clock")}

    def begin(self, version: str, counted_from_ms: int) -> None:
        """Count against another reference from a moment of event time on."""
        self.version, self.counted_from_ms = version, counted_from_ms
        self.windows.clear()
        self.alarms.clear()
        for table in ("alarm", "judgement"):
            self._db.execute(f"DELETE FROM {table}")

    def judged(self, judgement: Judgement) -> None:
        """Keep a judgement, and forget the oldest."""
        self._db.execute(
            "INSERT OR REPLACE INTO judgement VALUES (?, ?)", (judgement.end_ms, msgspec.json.encode(judgement))
        )
        self._db.execute(
            "DELETE FROM judgement WHERE end_ms NOT IN (SELECT end_ms FROM judgement ORDER BY end_ms DESC LIMIT ?)",
            (KEPT,),
        )

    def put(self) -> None:
        """Write what is in memory into the tables; it counts with the journal's next commit."""
        facts = {
            "version": self.version,
            "counted_from_ms": self.counted_from_ms,
            "retrain_asked_ms": self.retrain_asked_ms,
        }
        self._db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", facts.items())
        self._db.executemany(
            "INSERT OR REPLACE INTO clock VALUES (?, ?, ?)",
            [(*source, newest) for source, newest in self.clock.items()],
        )
        self._db.execute("DELETE FROM drift_window")
        self._db.executemany(
            "INSERT INTO drift_window VALUES (?, ?)", [(start, _content(w)) for start, w in self.windows.items()]
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO alarm VALUES (?, ?, ?)",
            [(name, alarm.raised, alarm.streak) for name, alarm in self.alarms.items()],
        )

    def now_ms(self, topics: Iterable[str] = ()) -> int | None:
        """Event time that every source has reached; None before any row, or while one of `topics` has given none."""
        if not set(topics) <= {topic for topic, _ in self.clock}:
            return None
        return min(self.clock.values(), default=None)

    def newest(self) -> Judgement | None:
        """The newest judgement."""
        return read_newest(self._db)


def read_newest(db: sqlite3.Connection) -> Judgement | None:
    """The newest judgement in the tables."""
    found = db.execute("SELECT content FROM judgement ORDER BY end_ms DESC LIMIT 1").fetchone()
    return None if found is None else _decode_judgement(found[0])


def read_alarms(db: sqlite3.Connection) -> dict[str, Alarm]:
    """Every column's alarm in the tables."""
    return {name: Alarm(bool(raised), streak) for name, raised, streak in db.execute("SELECT * FROM alarm")}


def read_drift(path: Path) -> tuple[Judgement | None, dict[str, Alarm]]:
    """The newest judgement and the alarms, while another process may write. Raises FileNotFoundError."""
    with open_for_reading(path) as db:
        return read_newest(db), read_alarms(db)


def read_fullest_window(path: Path) -> tuple[str, Window] | None:
    """The open window with most rows, and whose reference it is counted against; None when none is open. Raises FileNotFoundError."""
    with open_for_reading(path) as db:
        version = db.execute("SELECT value FROM fact WHERE name = 'version'").fetchone()
        found = db.execute("SELECT content FROM drift_window ORDER BY start_ms DESC").fetchall()
    windows = [_window(content) for (content,) in found]
    # The newest has just begun: the one with the most rows says most.
    fullest = max(windows, key=lambda each: max((each.rows(name) for name in each.counts), default=0), default=None)
    return None if version is None or version[0] is None or fullest is None else (str(version[0]), fullest)


def _content(window: Window) -> bytes:
    counts = {name: column.tolist() for name, column in window.counts.items()}
    return msgspec.json.encode(
        _StoredWindow(
            window.start_ms, window.end_ms, counts, window.alerted, window.probability, window.alerted_probability
        )
    )


def _window(content: bytes) -> Window:
    stored = _decode_window(content)
    counts = {name: np.array(column, np.int64) for name, column in stored.counts.items()}
    return Window(
        stored.start_ms, stored.end_ms, counts, stored.alerted, stored.probability, stored.alerted_probability
    )
