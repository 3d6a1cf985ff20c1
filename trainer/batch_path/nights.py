"""The nights: the lake's rows, the snapshot of a midnight, its file, and its publication.

Rule 1. A midnight is due when the lake's event time has passed it in every partition: then all that was sent before it is there.
Rule 2. A published snapshot's file is kept: the model of this path learns from what was served. A night without a file is made again
        from the lake, as it could have been known then.
Rule 3. A file appears whole or not at all (temporary file, rename); those of other features lie in another folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from adapters.lake import Lake
from adapters.snapshot_store import Entities, Published, SnapshotStore
from fraud import topics
from fraud.batch_features import BATCH_HASH, CARD_COLUMNS, SPAN_MS, TERMINAL_COLUMNS, midnight_before
from fraud.windows import DAY_MS
from trainer.batch_path.snapshot import LABEL_COLUMNS, TRANSACTION_COLUMNS, History, Snapshot, snapshot
from trainer.dataset import TrainRefusedError

NIGHTS_KEPT: Final = 200
_TEMPORARY: Final = ".part"
_MOST: Final = pl.col("sent_at_ms").quantile(0.9, interpolation="lower")
_NO_LABELS: Final = {
    "transaction_id": pl.String, "card_id": pl.String, "is_fraud": pl.Boolean, "known_at_ms": pl.Int64,
}  # fmt: skip


class NoNightError(TrainRefusedError):
    """There is nothing to make a snapshot of; the message says what is missing."""


def history(lake: Lake, from_ms: int, to_ms: int) -> History:
    """The lake's transactions of from_ms <= t < to_ms and every label. Raises NoNightError without a transaction, LakeGapError."""
    at = pl.col("occurred_at_ms")
    accepted = pl.col("refused").is_null()
    try:
        transactions = lake.scan(topics.TRANSACTIONS.name)
    except FileNotFoundError as error:
        raise NoNightError(f"{error}: let transactions stream first (is the archiver running?)") from error
    rows = transactions.filter(accepted & (at >= from_ms) & (at < to_ms)).select(TRANSACTION_COLUMNS).collect()
    try:
        labels = lake.scan(topics.LABELS.name).filter(accepted).select(LABEL_COLUMNS).collect()
    except FileNotFoundError:
        labels = pl.DataFrame(schema=_NO_LABELS)
    return History.of(rows, labels)


def newest_midnight(lake: Lake) -> int | None:
    """The newest midnight that the lake's event time has passed in every partition; None before any transaction.

    Event time is when most of the newest file was sent: a single sender whose clock is a year ahead moves no midnight.
    """
    return _midnight_of([_sent_ms(path) for path in _newest_files(lake)])


def _newest_files(lake: Lake) -> list[Path]:
    """The newest file of each partition of transactions that has one."""
    partitions = lake.partitions(topics.TRANSACTIONS.name)
    return [files[-1].path for p in partitions if (files := lake.files(topics.TRANSACTIONS.name, p))]


def _sent_ms(path: Path) -> int | None:
    """When most of a file's rows had been sent; None for one without rows."""
    sent = pl.scan_parquet(path).select(_MOST).collect().item()
    return None if sent is None else int(sent)


def _midnight_of(sent: list[int | None]) -> int | None:
    known = [sent_ms for sent_ms in sent if sent_ms is not None]
    return midnight_before(min(known)) if known else None


class NewestMidnight:
    """newest_midnight, asked again and again: a file never changes, so what was read of the newest one is remembered."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._sent: dict[Path, int | None] = {}

    def __call__(self) -> int | None:
        """See newest_midnight. Raises LakeGapError, OSError."""
        newest = _newest_files(self._lake)
        self._sent = {path: self._sent[path] if path in self._sent else _sent_ms(path) for path in newest}
        return _midnight_of(list(self._sent.values()))


@dataclass(frozen=True, slots=True)
class SnapshotFiles:
    """Snapshots as Parquet files below `root`, two a night."""

    root: Path

    @property
    def folder(self) -> Path:
        """Where the files of these features lie."""
        return self.root / BATCH_HASH

    def read(self, midnight_ms: int) -> Snapshot | None:
        """The snapshot of a night; None when it was not made here, or its files cannot be read."""
        cards, terminals = self._paths(midnight_ms)
        try:
            return Snapshot(midnight_ms, pl.read_parquet(cards), pl.read_parquet(terminals))
        except (FileNotFoundError, pl.exceptions.PolarsError, OSError):
            return None

    def write(self, made: Snapshot) -> None:
        """Keep a snapshot; of more than NIGHTS_KEPT the oldest go. Raises OSError when the disk refuses."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path, table in zip(self._paths(made.midnight_ms), (made.cards, made.terminals), strict=True):
            temporary = path.with_suffix(_TEMPORARY)
            table.write_parquet(temporary, compression="zstd", compression_level=1)
            temporary.rename(path)
        for kind in ("cards", "terminals"):
            for old in sorted(self.folder.glob(f"*-{kind}.parquet"))[:-NIGHTS_KEPT]:
                old.unlink(missing_ok=True)

    def _paths(self, midnight_ms: int) -> tuple[Path, Path]:
        return self.folder / f"{midnight_ms:014d}-cards.parquet", self.folder / f"{midnight_ms:014d}-terminals.parquet"


class Nights:
    """Snapshots by midnight: from their files, else made from the lake and kept. from_ms, to_ms: of the nights that are asked for."""

    def __init__(self, lake: Lake, files: SnapshotFiles, from_ms: int, to_ms: int) -> None:
        self._lake = lake
        self._files = files
        self._span = (midnight_before(from_ms) - SPAN_MS, to_ms)
        self._history: History | None = None

    def __call__(self, midnight_ms: int) -> Snapshot:
        """The snapshot of a midnight. Raises NoNightError."""
        kept = self._files.read(midnight_ms)
        if kept is not None:
            return kept
        if self._history is None:
            self._history = history(self._lake, *self._span)
        made = snapshot(self._history, midnight_ms)
        self._files.write(made)
        return made


def nightly(lake: Lake, store: SnapshotStore, midnight_ms: int, files: SnapshotFiles | None = None) -> Published:
    """Make the snapshot of a midnight, keep it, and publish it.

    Raises NoNightError without a transaction before the midnight, SnapshotRefusedError, redis.RedisError, LakeGapError, OSError.
    """
    known = history(lake, midnight_ms - SPAN_MS, midnight_ms)
    made = snapshot(known, midnight_ms)
    if not made.cards.height:
        raise NoNightError(
            f"the lake {lake.root} has no transaction of the {SPAN_MS // DAY_MS} days before that midnight: choose a later --as-of"
        )
    if files is not None:
        files.write(made)
    return store.publish(
        midnight_ms,
        _entities(made.cards, "card_id", CARD_COLUMNS),
        _entities(made.terminals, "terminal_id", TERMINAL_COLUMNS),
    )


def _entities(table: pl.DataFrame, entity: str, columns: tuple[str, ...]) -> Entities:
    return Entities(table[entity].to_list(), np.ascontiguousarray(table.select(columns).to_numpy(), np.float32))
