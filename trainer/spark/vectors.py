"""Vectors and labels in Spark tasks: the replay's own functions, a slice of the entities of a log partition in each task.

Rule 1. A task reads its log's files itself, in the order of the log, and keeps the rows of its slice: Spark sorts nothing, and
        no order depends on it.
Rule 2. Card vectors go once over the network, to the task of their terminal. Nothing else does.
Rule 3. All tasks see the files that were there when the driver looked, whatever the archiver adds meanwhile; and all compute
        the driver's features, or none.

    transactions, by partition and slice of cards -> card stage -> [card vectors, by slice of terminals]
    terminal-log, every partition, by slice of terminals -> terminal stage -> join of the labels known -> labelled rows
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa

from adapters.lake import Lake, LakeFile
from fraud import topics
from fraud.features import FEATURE_HASH, NAMES
from trainer.dataset import Maturity, Split, labelled, labels_and_declined
from trainer.replay import (
    CARD_COLUMNS,
    Cards,
    NothingToReplayError,
    Slice,
    fold_cards,
    fold_every_terminal,
    slice_numbers,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ARROW_ROWS: Final = 10_000  # rows that pass between the JVM and Python at once: some 4 MB of vectors
TASK_ROWS_MAX: Final = 1_000_000  # card vectors that a task of the terminal stage holds, as a rule: 200 MB
_CARDS: Final = (
    ("origin_partition", pa.int32(), "int"),
    ("origin_offset", pa.int64(), "bigint"),
    ("card_id", pa.string(), "string"),
    ("terminal_slice", pa.int32(), "int"),
    ("vector", pa.binary(), "binary"),
)
_ROWS: Final = (
    ("transaction_id", pa.string(), "string"),
    ("card_id", pa.string(), "string"),
    ("occurred_at_ms", pa.int64(), "bigint"),
    *((name, pa.float32(), "float") for name in NAMES),
    ("is_fraud", pa.bool_(), "boolean"),
    ("known_at_ms", pa.int64(), "bigint"),
    ("is_censored", pa.bool_(), "boolean"),
)
_Columns = Sequence[tuple[str, pa.DataType, str]]


class ListedLake(Lake):
    """A lake as it was listed once."""

    def __init__(self, lake: Lake, names: Iterable[str]) -> None:
        super().__init__(lake.root)
        self._listed = {name: lake.files(name) for name in names}

    def partitions(self, topic: str) -> list[int]:
        """Partitions with files."""
        return sorted({file.partition for file in self._listed[topic]})

    def files(self, topic: str, partition: int | None = None) -> list[LakeFile]:
        """The files that counted."""
        return [file for file in self._listed[topic] if partition in (None, file.partition)]


@dataclass(frozen=True, slots=True)
class Work:
    """What every task is told. cards: (partition of `transactions`, slice) of each task of the card stage."""

    lake: ListedLake
    split: Split
    maturity: Maturity
    cards: tuple[tuple[int, Slice], ...]
    terminal_slices: int
    feature_hash: str = FEATURE_HASH


def work_for(lake: Lake, split: Split, maturity: Maturity, tasks: int) -> Work:
    """The work for the periods of a split, so many tasks at once. Raises LakeGapError, NothingToReplayError."""
    names = (topics.TRANSACTIONS.name, topics.TERMINAL_LOG.name, topics.LABELS.name, topics.SCORES.name)
    listed = ListedLake(lake, names)
    rows = sum(file.rows for file in listed.files(topics.TRANSACTIONS.name))
    if not rows:
        raise NothingToReplayError(f"the lake {lake.root} has no transactions: let some stream first")
    partitions = listed.partitions(topics.TRANSACTIONS.name)
    each = -(-tasks // len(partitions))
    cards = tuple((partition, Slice(number, each)) for partition in partitions for number in range(each))
    return Work(listed, split, maturity, cards, tasks * -(-rows // (tasks * TASK_ROWS_MAX)))


def labelled_rows(spark: SparkSession, work: Work) -> DataFrame:
    """transaction_id, card_id, occurred_at_ms, NAMES, is_fraud, known_at_ms and is_censored of all rows of the split's periods."""
    tasks = len(work.cards)

    def card_stage(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return card_task(work, batches)

    def terminal_stage(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return terminal_task(work, batches)

    cards = spark.range(0, tasks, 1, tasks).mapInArrow(card_stage, _ddl(_CARDS))
    by_terminal = cards.repartitionById(work.terminal_slices, "terminal_slice")
    return by_terminal.mapInArrow(terminal_stage, _ddl(_ROWS))


def card_task(work: Work, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The card stage over the slices whose numbers come in column `id`."""
    _check_features(work)
    for batch in batches:
        for number in batch.column("id").to_pylist():
            partition, keys = work.cards[number]
            found = fold_cards(work.lake, partition, keys)
            width = pa.binary(CARD_COLUMNS * 4)
            vectors = pa.FixedSizeBinaryArray.from_buffers(
                width, len(found.offsets), [None, pa.py_buffer(found.vectors)]
            )
            columns = [
                np.full(len(found.offsets), partition, np.int32),
                found.offsets,
                found.card_ids.to_arrow(),
                slice_numbers(found.terminal_ids, work.terminal_slices).to_arrow(),
                vectors,
            ]
            yield from _batches(columns, _CARDS)


def terminal_task(work: Work, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The terminal stage over the slice that all rows of `batches` are of, and the labels known for its transactions."""
    _check_features(work)
    table = pa.Table.from_batches(batches, _schema(_CARDS))
    if not table.num_rows:
        return
    keys = Slice(int(table["terminal_slice"][0].as_py()), work.terminal_slices)
    cards = _by_partition(table)
    del table
    lake, split = work.lake, work.split
    vectors = fold_every_terminal(lake, cards, split.from_ms, split.as_of_ms, keys)
    labels, declined = labels_and_declined(lake)
    rows = labelled(vectors.lazy(), labels, split, work.maturity, declined).collect()
    yield from _batches(rows.select([name for name, _, _ in _ROWS]).to_arrow().columns, _ROWS)


def _by_partition(table: pa.Table) -> dict[int, Cards]:
    """Card vectors as the fold takes them: by partition of `transactions`, in the order of its offsets."""
    partitions, offsets = table["origin_partition"].to_numpy(), table["origin_offset"].to_numpy()
    vectors = np.frombuffer(b"".join(table["vector"].to_pylist()), np.float32).reshape(-1, CARD_COLUMNS)
    card_ids = pl.Series("card_id", table["card_id"], pl.String)
    terminal_ids = pl.Series("terminal_id", [], pl.String)  # the log names them
    order = np.lexsort((offsets, partitions))
    found = {}
    for partition in np.unique(partitions).tolist():
        at = order[partitions[order] == partition]
        found[partition] = Cards(offsets[at], card_ids.gather(at), terminal_ids, vectors[at])
    return found


def _check_features(work: Work) -> None:
    if work.feature_hash != FEATURE_HASH:
        raise RuntimeError(
            f"this executor computes features {FEATURE_HASH}, the driver {work.feature_hash}: "
            "install the same release of fraudstream on every node"
        )


def _batches(columns: Sequence[object], of: _Columns) -> Iterator[pa.RecordBatch]:
    table = pa.table(list(columns), names=[name for name, _, _ in of]).cast(_schema(of))
    return iter(table.to_batches(ARROW_ROWS))


def _schema(of: _Columns) -> pa.Schema:
    return pa.schema([(name, dtype) for name, dtype, _ in of])


def _ddl(of: _Columns) -> str:
    return ", ".join(f"{name} {dtype}" for name, _, dtype in of)
