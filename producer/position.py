"""How far a world has been streamed: a file of what was acknowledged, and the log's own tail, which knows better.

Rule 1. The file is written after the acknowledgement and replaced whole: it may be behind the log, never ahead of it.
Rule 2. Transaction ids hold their row ("h0-41" is row 41 of seed 0), and rows ascend in every partition. So the tail
        of each partition says exactly which rows stand in it: after a kill nothing is lost and nothing is sent twice.
Rule 3. Where a tail shows none of the world's ids (others wrote much since), the file alone decides; rows sent again
        carry the same ids, which the card stage ignores as duplicates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from kafka import KafkaConsumer, TopicPartition

from fraud import topics
from producer.messages import partitions_of
from producer.whole_file import write_whole

TAIL_RECORDS: Final = 2000
_ID: Final = re.compile(rb'"transaction_id":"([^"]*)"')


class PositionError(RuntimeError):
    """The position file cannot be used; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Position:
    """rows, labels: how many of the world's transactions and labels are acknowledged, from its first on.

    row_marks, label_marks: last row found in each partition of `transactions` and of `labels`, -1 for none.
    """

    rows: int = 0
    labels: int = 0
    row_marks: tuple[int, ...] = ()
    label_marks: tuple[int, ...] = ()

    @property
    def first_row(self) -> int:
        """Where reading begins: the first row whose label has not been sent."""
        return min(self.rows, self.labels)

    def unsent_transactions(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Those of `rows` that are not in the log."""
        return _unsent(rows, "card_id", self.rows, self.row_marks)

    def unsent_labels(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Those of the labels that are not in the log."""
        return _unsent(rows, "terminal_id", self.labels, self.label_marks)


def _unsent(rows: pl.DataFrame, key: str, first: int, marks: Sequence[int]) -> pl.DataFrame:
    if rows.filter(pl.col("row") <= max(first - 1, *marks, -1)).is_empty():
        return rows
    rows = rows.filter(pl.col("row") >= first)
    if not marks or not rows.height:
        return rows
    mark_of_row = partitions_of(rows[key], len(marks)).replace_strict(range(len(marks)), marks, return_dtype=pl.Int64)
    return rows.filter(rows["row"] > mark_of_row)


class PositionFile:
    """The position of one world in a file that holds those of all."""

    def __init__(self, path: Path, world: str) -> None:
        self._path = path
        self._world = world

    def load(self) -> Position:
        """The saved position; zero when there is none. Raises PositionError for a file that is not ours."""
        try:
            saved = self._all().get(self._world, {})
            return Position(int(saved.get("rows", 0)), int(saved.get("labels", 0)))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise PositionError(
                f"{self._path} is not a position file ({error}): remove it to begin from the log's tail"
            ) from None

    def save(self, rows: int, labels: int) -> None:
        """Replace the saved position."""
        worlds = self._all() | {self._world: {"rows": rows, "labels": labels}}
        write_whole(self._path, lambda beside: beside.write_text(json.dumps({"worlds": worlds}, indent=1) + "\n"))

    def _all(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        worlds: dict[str, Any] = json.loads(self._path.read_text())["worlds"]
        return worlds


def resume(saved: Position, consumer: KafkaConsumer, partitions: int, id_prefix: str) -> Position:
    """The saved position corrected by the tails of `transactions` and `labels`.

    An empty `transactions` topic is another log than the saved position's: begin at the beginning.
    """
    if not any(_end_offsets(consumer, topics.TRANSACTIONS.name, partitions).values()):
        return Position()
    row_marks = tail_marks(consumer, topics.TRANSACTIONS.name, partitions, id_prefix)
    label_marks = tail_marks(consumer, topics.LABELS.name, partitions, id_prefix)
    # Rows ascend in every partition, so all before the lowest mark stand in the log, whatever the file says.
    rows, labels = max(saved.rows, min(row_marks) + 1), max(saved.labels, min(label_marks) + 1)
    return Position(rows, labels, row_marks, label_marks)


def tail_marks(consumer: KafkaConsumer, topic: str, partitions: int, id_prefix: str) -> tuple[int, ...]:
    """The highest row with `id_prefix` among the last TAIL_RECORDS records of each partition, -1 for none."""
    ends = _end_offsets(consumer, topic, partitions)
    begins = consumer.beginning_offsets(list(ends))
    marks = [-1] * partitions
    for place, end in ends.items():
        begin = max(begins[place], end - TAIL_RECORDS)
        consumer.assign([place])
        consumer.seek(place, begin)
        while consumer.position(place) < end:
            for record in consumer.poll(timeout_ms=1000).get(place, []):
                marks[place.partition] = max(marks[place.partition], _row_of(record.value, id_prefix))
    return tuple(marks)


def _end_offsets(consumer: KafkaConsumer, topic: str, partitions: int) -> dict[TopicPartition, int]:
    ends: dict[TopicPartition, int] = consumer.end_offsets([TopicPartition(topic, p) for p in range(partitions)])
    return ends


def _row_of(value: bytes | None, id_prefix: str) -> int:
    found = _ID.search(value or b"")
    transaction_id = found[1].decode(errors="replace") if found else ""
    number = transaction_id.removeprefix(id_prefix)
    return int(number) if transaction_id.startswith(id_prefix) and number.isdecimal() else -1
