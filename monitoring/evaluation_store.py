"""What the evaluator keeps: every score of a period, every label, and the world's scenarios, joined when they are asked for.

Rule 1. The tables are sets: their content does not depend on the order in which the topics are read, nor on kills; a score
        and its label may come in either order. The newest label of a transaction counts, as in training.
Rule 2. A row that stands already is an error: the origin marks must have dropped it.
Rule 3. A path is a row of its own: the batch path's scores stand beside those of the streaming path, under their name. What was
        declined was declined by the path that decides: `censored` says so in the rows of both.
Rule 4. So is the challenger, who scores beside the champion and decides nothing: the decision in its rows is the champion's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud.decision import DECLINE
from fraud.labels import Label
from fraud.measures import Matured
from fraud.packed import Batch
from fraud.transaction import id_hash
from fraud.truth import Truth
from monitoring.journal import Journal

VERSION: Final = 3  # 3: with the challenger's rows; a journal without them would say that nobody scored in shadow
STREAMING: Final = "streaming"
BATCH: Final = "batch"
CHALLENGER: Final = "challenger"
TABLES: Final = """
CREATE TABLE IF NOT EXISTS name (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS score (
    path INTEGER, origin_partition INTEGER, origin_offset INTEGER, transaction_key INTEGER NOT NULL,
    card INTEGER NOT NULL, occurred_at_ms INTEGER NOT NULL, amount_minor INTEGER NOT NULL, version INTEGER NOT NULL,
    score REAL NOT NULL, decision INTEGER NOT NULL, explored INTEGER NOT NULL, censored INTEGER NOT NULL, snapshot_ms INTEGER,
    PRIMARY KEY (path, origin_partition, origin_offset)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS score_by_time ON score (occurred_at_ms);
CREATE TABLE IF NOT EXISTS label (
    transaction_key INTEGER PRIMARY KEY, card INTEGER NOT NULL, occurred_at_ms INTEGER NOT NULL, is_fraud INTEGER NOT NULL,
    known_at_ms INTEGER NOT NULL, source TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS truth (transaction_key INTEGER PRIMARY KEY, occurred_at_ms INTEGER NOT NULL, scenario TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS clock (partition INTEGER PRIMARY KEY, newest_ms INTEGER NOT NULL);
"""
_SCORES: Final = "INSERT INTO score VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LABEL: Final = """
INSERT INTO label VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET is_fraud = excluded.is_fraud, known_at_ms = excluded.known_at_ms, source = excluded.source
WHERE excluded.known_at_ms >= label.known_at_ms
"""
_PERIOD: Final = """
SELECT score.card, score.occurred_at_ms, amount_minor, score, decision, explored,
       coalesce(label.is_fraud, 0), path, version, truth.scenario, censored, score.transaction_key, snapshot_ms
FROM score LEFT JOIN label USING (transaction_key) LEFT JOIN truth USING (transaction_key)
WHERE score.occurred_at_ms >= ? AND score.occurred_at_ms < ?
ORDER BY path, origin_partition, origin_offset
"""


@dataclass(frozen=True, slots=True)
class Period:
    """Scores of a period of event time with what is known of them; path, version and scenario by row, [rows].

    censored: declined by the path that decides. key: of the transaction, the same in both paths. snapshot_ms: midnight of the
    snapshot that the row was scored with, NaN without one.
    known_card, known_at_ms: of every fraud that is known, from the period's begin on.
    """

    rows: Matured
    path: list[str]
    version: list[str]
    scenario: list[str | None]
    censored: npt.NDArray[np.bool_]
    key: npt.NDArray[np.int64]
    snapshot_ms: npt.NDArray[np.float64]
    known_card: npt.NDArray[np.int64]
    known_fraud_at_ms: npt.NDArray[np.int64]
    known_at_ms: npt.NDArray[np.int64]
    hides_declined: bool


def key_of(card_id: str, transaction_id: str) -> int:
    """One number for a transaction: ids hold no slash, so no two pairs have the same text."""
    return _signed(id_hash(f"{card_id}/{transaction_id}"))


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


class EvaluationStore:
    """The tables of an open journal."""

    def __init__(self, journal: Journal) -> None:
        self._db = journal.connection
        self._names: dict[str, int] = {name: number for number, name in self._db.execute("SELECT * FROM name")}

    def add_scores(self, partition: int, batch: Batch) -> None:
        """Add the rows of a batch of `scores` that were not seen before, partition: of `scores`.

        Raises sqlite3.IntegrityError for a row that stands already.
        """
        if not batch.rows:
            return
        occurred = batch.array("occurred_at_ms")
        censored = (batch.array("decision") == DECLINE).tolist()
        self._db.executemany(_SCORES, self._rows_of(batch, STREAMING, "model_version", "", censored, None))
        self._add_challenger(batch, censored)
        if not np.isnan(batch.array("batch_score")).all():
            date = batch.meta.get("snapshot_date")
            snapshot_ms = None if date is None else int(np.datetime64(date, "ms").astype(np.int64))
            self._db.executemany(_SCORES, self._rows_of(batch, BATCH, "batch_version", "batch_", censored, snapshot_ms))
        self._db.execute(
            "INSERT INTO clock VALUES (?, ?) ON CONFLICT DO UPDATE SET newest_ms = max(newest_ms, excluded.newest_ms)",
            (partition, int(occurred.max())),
        )

    def _add_challenger(self, batch: Batch, censored: list[bool]) -> None:
        scored = ~np.isnan(batch.array("challenger_score"))
        if batch.meta.get("challenger_version") is None or not scored.any():
            return
        shown = Batch(
            batch.kind, batch.rows, {**batch.columns, "challenger_decision": batch.array("decision")}, batch.meta
        )
        hidden = np.array(censored, np.bool_)[scored].tolist()
        rows = self._rows_of(shown.take(scored), CHALLENGER, "challenger_version", "challenger_", hidden, None)
        self._db.executemany(_SCORES, rows)

    def _rows_of(
        self, batch: Batch, path: str, version: str, prefix: str, censored: list[bool], snapshot_ms: int | None
    ) -> Iterator[tuple[Any, ...]]:
        """A path's rows of the score table; prefix: of its columns."""
        of, by = self._id(path), self._id(str(batch.meta.get(version)))
        columns = zip(
            batch.array("origin_partition").tolist(),
            batch.array("origin_offset").tolist(),
            batch.text("card_id"),
            batch.text("transaction_id"),
            batch.array("occurred_at_ms").tolist(),
            batch.array("amount_minor").tolist(),
            batch.array(f"{prefix}score").tolist(),
            batch.array(f"{prefix}decision").tolist(),
            batch.array("explored").tolist(),
            censored,
            strict=True,
        )
        for partition, offset, card, transaction, at, amount, *judged in columns:
            key, of_card = key_of(card, transaction), _signed(id_hash(card))
            yield of, partition, offset, key, of_card, at, amount, by, *judged, snapshot_ms

    def add_labels(self, labels: Iterable[Label]) -> None:
        """Add labels in log order."""
        self._db.executemany(
            _LABEL,
            [
                (
                    key_of(label.card_id, label.transaction_id),
                    _signed(id_hash(label.card_id)),
                    label.occurred_at_ms,
                    label.is_fraud,
                    label.known_at_ms,
                    label.source,
                )
                for label in labels
            ],
        )

    def add_truth(self, truths: Iterable[Truth]) -> None:
        """Add what the world says of its frauds: their scenarios. It never says whether a label is right."""
        self._db.executemany(
            "INSERT OR REPLACE INTO truth VALUES (?, ?, ?)",
            [(key_of(truth.card_id, truth.transaction_id), truth.occurred_at_ms, truth.scenario) for truth in truths],
        )

    def forget(self, before_ms: int) -> None:
        """Drop what happened before a moment of event time."""
        for table in ("score", "label", "truth"):
            self._db.execute(f"DELETE FROM {table} WHERE occurred_at_ms < ?", (before_ms,))

    def now_ms(self) -> int | None:
        """Event time that every partition of `scores` with rows has reached; None before any row."""
        return now_ms(self._db)

    def period(self, from_ms: int, to_ms: int) -> Period:
        """The scores of from_ms <= t < to_ms, joined."""
        return period(self._db, from_ms, to_ms)

    def _id(self, name: str) -> int:
        if name not in self._names:
            self._db.execute("INSERT INTO name (name) VALUES (?)", (name,))
            (self._names[name],) = self._db.execute("SELECT id FROM name WHERE name = ?", (name,)).fetchone()
        return self._names[name]


def now_ms(db: sqlite3.Connection) -> int | None:
    """See EvaluationStore.now_ms."""
    (newest,) = db.execute("SELECT min(newest_ms) FROM clock").fetchone()
    return None if newest is None else int(newest)


def period(db: sqlite3.Connection, from_ms: int, to_ms: int) -> Period:
    """See EvaluationStore.period."""
    names: dict[int, str] = dict(db.execute("SELECT * FROM name"))
    found = db.execute(_PERIOD, (from_ms, to_ms)).fetchall()
    columns = list(zip(*found, strict=True)) if found else [()] * 13
    known = db.execute(
        "SELECT card, occurred_at_ms, known_at_ms FROM label WHERE is_fraud AND occurred_at_ms >= ?", (from_ms,)
    ).fetchall()
    known_columns = np.array(known, np.int64).reshape(-1, 3).T
    # Benchmark labels are known of every transaction; in any other world a declined one never shows what it was.
    (open_book,) = db.execute("SELECT EXISTS (SELECT 1 FROM label WHERE source = 'benchmark')").fetchone()
    return Period(
        rows=Matured(
            np.array(columns[0], np.int64),
            np.array(columns[1], np.int64),
            np.array(columns[2], np.int64),
            np.array(columns[3], np.float32),
            np.array(columns[4], np.uint8),
            np.array(columns[5], np.bool_),
            np.array(columns[6], np.bool_),
        ),
        path=[names[number] for number in columns[7]],
        version=[names[number] for number in columns[8]],
        scenario=list(columns[9]),
        censored=np.array(columns[10], np.bool_),
        key=np.array(columns[11], np.int64),
        snapshot_ms=np.array(columns[12], np.float64),
        known_card=known_columns[0],
        known_fraud_at_ms=known_columns[1],
        known_at_ms=known_columns[2],
        hides_declined=not open_book,
    )
