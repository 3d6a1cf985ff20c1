"""What the evaluator keeps: every score of a period, every label, and the world's scenarios, joined when they are asked for.

Rule 1. The tables are sets: their content does not depend on the order in which the topics are read, nor on kills; a score
        and its label may come in either order. The newest label of a transaction counts, as in training.
Rule 2. A row that stands already is an error: the origin marks must have dropped it.
Rule 3. A row has the score of every path: what was declined was declined by the path that decides, and the batch path's scores
        stand beside those of the streaming path. A challenger scores beside the champion and decides nothing: the decision of
        its rows is the champion's.
Rule 4. Scores go into the file in blocks, as they were read, and out of it in columns: no row is ever taken by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud.columns import transaction_hashes
from fraud.decision import DECLINE
from fraud.labels import Label
from fraud.measures import Matured
from fraud.packed import Batch
from fraud.transaction import id_hash
from fraud.truth import Truth
from monitoring.journal import Journal

VERSION: Final = 4  # 4: scores in blocks
STREAMING: Final = "streaming"
BATCH: Final = "batch"
CHALLENGER: Final = "challenger"
BENCHMARK: Final = "benchmark"  # the source of labels that are known of every transaction
TABLES: Final = """
CREATE TABLE IF NOT EXISTS name (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS block (
    id INTEGER PRIMARY KEY, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, scores BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS scored (
    partition INTEGER, origin_partition INTEGER, last INTEGER NOT NULL, PRIMARY KEY (partition, origin_partition)
);
CREATE TABLE IF NOT EXISTS label (
    transaction_key INTEGER PRIMARY KEY, card INTEGER NOT NULL, occurred_at_ms INTEGER NOT NULL, is_fraud INTEGER NOT NULL,
    known_at_ms INTEGER NOT NULL, source TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS fraud ON label (transaction_key, card, occurred_at_ms, known_at_ms) WHERE is_fraud;
CREATE TABLE IF NOT EXISTS truth (transaction_key INTEGER PRIMARY KEY, occurred_at_ms INTEGER NOT NULL, scenario TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS clock (partition INTEGER PRIMARY KEY, newest_ms INTEGER NOT NULL);
"""
# A row of a block. versions: number of a name, 0 for none; a score that is absent: NaN; snapshot_ms: NO_SNAPSHOT for none.
SCORE: Final = np.dtype(
    [
        ("origin_partition", "<i4"), ("origin_offset", "<i8"), ("key", "<i8"), ("card", "<i8"), ("occurred_at_ms", "<i8"),
        ("amount_minor", "<i8"), ("snapshot_ms", "<i8"), ("score", "<f4"), ("batch_score", "<f4"), ("challenger_score", "<f4"),
        ("version", "<i4"), ("batch_version", "<i4"), ("challenger_version", "<i4"), ("decision", "|u1"),
        ("batch_decision", "|u1"), ("explored", "|u1"),
    ]
)  # fmt: skip
NO_SNAPSHOT: Final = -1
_COPIED: Final = (
    "origin_partition", "origin_offset", "occurred_at_ms", "amount_minor", "score", "batch_score", "challenger_score",
    "decision", "batch_decision", "explored",
)  # fmt: skip
_NEVER_MS: Final = 2**62
_CARDS_KEPT: Final = 1 << 16
_LABEL: Final = """
INSERT INTO label VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET is_fraud = excluded.is_fraud, known_at_ms = excluded.known_at_ms, source = excluded.source
WHERE excluded.known_at_ms >= label.known_at_ms
"""
Scores = npt.NDArray[np.void]
Names = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Period:
    """Scores of a period of event time with what is known of them; path, version and scenario (None: of none) by row, [rows].

    censored: declined by the path that decides. transaction: its number in the period, 0 .. transactions - 1, the same in each
    path. snapshot_ms: midnight of the snapshot that the row was scored with, NaN without one.
    known_card, known_at_ms: of every fraud that is known, from the period's begin on.
    """

    rows: Matured
    path: Names
    version: Names
    scenario: Names
    censored: npt.NDArray[np.bool_]
    transaction: npt.NDArray[np.int64]
    snapshot_ms: npt.NDArray[np.float64]
    known_card: npt.NDArray[np.int64]
    known_fraud_at_ms: npt.NDArray[np.int64]
    known_at_ms: npt.NDArray[np.int64]
    hides_declined: bool

    def has(self, mine: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which transactions a mask of rows has, [transactions]."""
        found = np.zeros(int(self.transaction.max(initial=-1)) + 1, np.bool_)
        found[self.transaction[mine]] = True
        return found


def key_of(card_id: str, transaction_id: str) -> int:
    """One number for a transaction: ids hold no slash, so no two pairs have the same text."""
    return _signed(id_hash(_name_of(card_id, transaction_id)))


def _name_of(card_id: str, transaction_id: str) -> str:
    return f"{card_id}/{transaction_id}"


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


@lru_cache(_CARDS_KEPT)
def _card_number(card_id: str) -> int:
    return _signed(id_hash(card_id))


class EvaluationStore:
    """The tables of an open journal."""

    def __init__(self, journal: Journal) -> None:
        self._db = journal.connection
        self._names: dict[str, int] = {name: number for number, name in self._db.execute("SELECT * FROM name")}
        self._last = {(of, origin): last for of, origin, last in self._db.execute("SELECT * FROM scored")}
        self._is_book_open = _is_book_open(journal.connection)
        self._changed_from_ms = -_NEVER_MS

    def add_scores(self, partition: int, *batches: Batch) -> None:
        """Add the rows of batches of `scores` that were not seen before, in log order. partition: of `scores`.

        Raises sqlite3.IntegrityError for a row that stands already.
        """
        parts = [self._rows_of(batch) for batch in batches if batch.rows]
        if not parts:
            return
        rows = np.concatenate(parts)
        self._mark(partition, rows)
        first_ms, last_ms = self._put_block(rows)
        self._changed_from_ms = min(self._changed_from_ms, first_ms)
        self._db.execute(
            "INSERT INTO clock VALUES (?, ?) ON CONFLICT DO UPDATE SET newest_ms = max(newest_ms, excluded.newest_ms)",
            (partition, last_ms),
        )

    def _rows_of(self, batch: Batch) -> Scores:
        rows = np.empty(batch.rows, SCORE)
        for name in _COPIED:
            rows[name] = batch.array(name)
        cards, meta = batch.text("card_id"), batch.meta
        names = [_name_of(*pair) for pair in zip(cards, batch.text("transaction_id"), strict=True)]
        rows["key"] = transaction_hashes(names).view(np.int64)
        rows["card"] = [_card_number(card) for card in cards]
        rows["version"] = self._id(str(meta.get("model_version")))
        for name in ("batch_version", "challenger_version"):
            rows[name] = 0 if meta.get(name) is None else self._id(str(meta[name]))
        if meta.get("challenger_version") is None:
            rows["challenger_score"] = np.nan
        date = meta.get("snapshot_date")
        rows["snapshot_ms"] = NO_SNAPSHOT if date is None else int(np.datetime64(date, "ms").astype(np.int64))
        return rows

    def _mark(self, partition: int, rows: Scores) -> None:
        """Refuse what stands already: rows of one origin ascend (fraud/packed.py), so the last one tells."""
        for origin in np.unique(rows["origin_partition"]).tolist():
            offsets = rows["origin_offset"][rows["origin_partition"] == origin]
            last = self._last.get((partition, origin), -1)
            if offsets[0] <= last or not np.all(offsets[1:] > offsets[:-1]):
                raise sqlite3.IntegrityError(
                    f"scores/{partition} repeats a row of partition {origin} at or below offset {max(last, *offsets.tolist())}: "
                    "the origin marks ought to have dropped it"
                )
            self._last[partition, origin] = int(offsets[-1])
            self._db.execute("INSERT OR REPLACE INTO scored VALUES (?, ?, ?)", (partition, origin, int(offsets[-1])))

    def _put_block(self, rows: Scores) -> tuple[int, int]:
        """Write a block; its first and last event time."""
        at = rows["occurred_at_ms"]
        span = int(at.min()), int(at.max())
        self._db.execute("INSERT INTO block (first_ms, last_ms, scores) VALUES (?, ?, ?)", (*span, rows.tobytes()))
        return span

    def add_labels(self, labels: Iterable[Label]) -> None:
        """Add labels in log order."""
        rows = [
            (
                key_of(label.card_id, label.transaction_id),
                _card_number(label.card_id),
                label.occurred_at_ms,
                label.is_fraud,
                label.known_at_ms,
                label.source,
            )
            for label in labels
        ]
        self._db.executemany(_LABEL, rows)
        self._changed([row[2] for row in rows])
        if not self._is_book_open and any(row[5] == BENCHMARK for row in rows):
            self._reopen()

    def add_truth(self, truths: Iterable[Truth]) -> None:
        """Add what the world says of its frauds: their scenarios. It never says whether a label is right."""
        rows = [(key_of(truth.card_id, truth.transaction_id), truth.occurred_at_ms, truth.scenario) for truth in truths]
        self._db.executemany("INSERT OR REPLACE INTO truth VALUES (?, ?, ?)", rows)
        self._changed([row[1] for row in rows])

    def forget(self, before_ms: int) -> None:
        """Drop what happened before a moment of event time."""
        astride = "first_ms < ? AND last_ms >= ?"
        kept = self._db.execute(f"SELECT scores FROM block WHERE {astride}", (before_ms, before_ms)).fetchall()
        self._db.execute(f"DELETE FROM block WHERE last_ms < ? OR ({astride})", (before_ms, before_ms, before_ms))
        if kept:
            rows = _joined(kept)
            self._put_block(rows[rows["occurred_at_ms"] >= before_ms])
        for table in ("label", "truth"):
            self._db.execute(f"DELETE FROM {table} WHERE occurred_at_ms < ?", (before_ms,))
        if self._is_book_open != _is_book_open(self._db):
            self._reopen()

    def take_changed_from_ms(self) -> int:
        """The earliest event time of what was added since this was last asked; the beginning of time when all of it counts."""
        changed, self._changed_from_ms = self._changed_from_ms, _NEVER_MS
        return changed

    def now_ms(self) -> int | None:
        """Event time that every partition of `scores` with rows has reached; None before any row."""
        return now_ms(self._db)

    def period(self, from_ms: int, to_ms: int) -> Period:
        """The scores of from_ms <= t < to_ms, joined."""
        return period(self._db, from_ms, to_ms)

    def _changed(self, times_ms: Sequence[int]) -> None:
        self._changed_from_ms = min(self._changed_from_ms, *times_ms) if times_ms else self._changed_from_ms

    def _reopen(self) -> None:
        """Whether declined transactions show what they were has changed, which changes everything."""
        self._is_book_open, self._changed_from_ms = _is_book_open(self._db), -_NEVER_MS

    def _id(self, name: str) -> int:
        if name not in self._names:
            self._db.execute("INSERT INTO name (name) VALUES (?)", (name,))
            (self._names[name],) = self._db.execute("SELECT id FROM name WHERE name = ?", (name,)).fetchone()
        return self._names[name]


def now_ms(db: sqlite3.Connection) -> int | None:
    """See EvaluationStore.now_ms."""
    (newest,) = db.execute("SELECT min(newest_ms) FROM clock").fetchone()
    return None if newest is None else int(newest)


def scored_rows(db: sqlite3.Connection, from_ms: int, to_ms: int) -> Scores:
    """The rows (SCORE) of from_ms <= t < to_ms, by their origin."""
    blocks = db.execute("SELECT scores FROM block WHERE last_ms >= ? AND first_ms < ?", (from_ms, to_ms)).fetchall()
    rows = _joined(blocks)
    rows = rows[(rows["occurred_at_ms"] >= from_ms) & (rows["occurred_at_ms"] < to_ms)]
    return rows[np.lexsort((rows["origin_offset"], rows["origin_partition"]))]


def _joined(blocks: Iterable[tuple[bytes]]) -> Scores:
    return np.frombuffer(b"".join(scores for (scores,) in blocks), SCORE)


def period(db: sqlite3.Connection, from_ms: int, to_ms: int) -> Period:
    """See EvaluationStore.period."""
    rows = scored_rows(db, from_ms, to_ms)
    fraud = db.execute("SELECT transaction_key, card, occurred_at_ms, known_at_ms FROM label WHERE is_fraud").fetchall()
    fraud_key, card, occurred, known_at = np.array(fraud, np.int64).reshape(-1, 4).T
    known = occurred >= from_ms
    key = np.ascontiguousarray(rows["key"])
    is_fraud, scenario = _places(np.sort(fraud_key), key)[1], _scenarios(db, key)
    name = np.full(1 + max((number for number, _ in _named(db)), default=0), "None", object)
    for number, text in _named(db):
        name[number] = text
    of = {
        STREAMING: np.arange(len(rows)),
        BATCH: np.flatnonzero(~np.isnan(rows["batch_score"])),
        CHALLENGER: np.flatnonzero(~np.isnan(rows["challenger_score"])),
    }
    at = np.concatenate(list(of.values()))
    decided = rows[at]

    def by_path(streaming: str, batch: str, challenger: str) -> npt.NDArray[Any]:
        columns = zip((streaming, batch, challenger), of.values(), strict=True)
        return np.concatenate([rows[column][mine] for column, mine in columns])

    snapshot_ms = np.full(len(at), np.nan)
    mine = slice(len(rows), len(rows) + len(of[BATCH]))
    told = rows["snapshot_ms"][of[BATCH]]
    snapshot_ms[mine] = np.where(told == NO_SNAPSHOT, np.nan, told)
    return Period(
        rows=Matured(
            decided["card"],
            decided["occurred_at_ms"],
            decided["amount_minor"],
            by_path("score", "batch_score", "challenger_score"),
            by_path("decision", "batch_decision", "decision"),
            decided["explored"].astype(np.bool_),
            is_fraud[at],
        ),
        path=np.repeat(np.array(list(of), object), [len(mine) for mine in of.values()]),
        version=name[by_path("version", "batch_version", "challenger_version")],
        scenario=scenario[at],
        censored=decided["decision"] == DECLINE,
        transaction=at,
        snapshot_ms=snapshot_ms,
        known_card=card[known],
        known_fraud_at_ms=occurred[known],
        known_at_ms=known_at[known],
        # Benchmark labels are known of every transaction; in any other world a declined one never shows what it was.
        hides_declined=not _is_book_open(db),
    )


def _named(db: sqlite3.Connection) -> list[tuple[int, str]]:
    return db.execute("SELECT id, name FROM name").fetchall()


def _scenarios(db: sqlite3.Connection, key: npt.NDArray[np.int64]) -> Names:
    """Each transaction's scenario; None for what is no fraud of the world's."""
    told = db.execute("SELECT transaction_key, scenario FROM truth ORDER BY transaction_key").fetchall()
    names = np.array([scenario for _, scenario in told] + [None], object)
    keys = np.array([each for each, _ in told], np.int64)
    place, is_told = _places(keys, key)
    return np.asarray(names[np.where(is_told, place, len(keys))])


def _places(
    known: npt.NDArray[np.int64], key: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Where each key stands among the known ones, which ascend, and whether it does, both [keys]. Few are known: no key is sorted."""
    if not len(known):
        return np.zeros(len(key), np.int64), np.zeros(len(key), np.bool_)
    place = np.minimum(np.searchsorted(known, key), len(known) - 1)
    return place, np.asarray(known[place] == key)


def _is_book_open(db: sqlite3.Connection) -> bool:
    (found,) = db.execute("SELECT EXISTS (SELECT 1 FROM label WHERE source = ?)", (BENCHMARK,)).fetchone()
    return bool(found)
