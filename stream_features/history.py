"""The log as it was: records of a partition from an offset on, out of the lake as far as it reaches, then out of Kafka.

Rule 1. Every offset asked for is given once and in order, or HistoryMissingError says which are gone and where they may still be.
Rule 2. The lake's rows become the records that they were: what folds them does not know where they come from.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import polars as pl
from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.lake import Lake, LakeFile
from fraud import packed, topics
from fraud.columns import transaction_hashes

RECORDS_MAX: Final = 10_000
POLL_MS: Final = 500
SILENT_SECONDS_MAX: Final = 60.0
_CONTENTS: Final = ("log_offset", "card_id")


class HistoryMissingError(RuntimeError):
    """Records that are needed are neither in Kafka nor in the lake; the message says what to do."""


@dataclass(frozen=True, slots=True)
class PastRecord:
    """A record as the stages take it; `timestamp` is the broker's append time in epoch ms."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


class History:
    """Reads partitions from a started consumer without a group and, where one is given, from a lake, and counts that."""

    def __init__(self, consumer: AIOKafkaConsumer, lake: Lake | None, feature_hash: str) -> None:
        self._consumer = consumer
        self._lake = lake
        self._feature_hash = feature_hash
        self.records_of_lake = 0

    async def read(self, topic: str, partition: int, first: int, end: int) -> AsyncIterator[list[Any]]:
        """Records of the offsets first <= offset < end, some at a time. Raises HistoryMissingError."""
        at = first
        if self._lake is not None and at < end:
            for file in self._lake.files(topic, partition):
                if file.next > at and file.first <= at:
                    for records in self._of_file(file):
                        if wanted := [r for r in records if at <= r.offset < end]:
                            self.records_of_lake += len(wanted)
                            yield wanted
                    at = min(file.next, end)
        if at < end:
            async for records in self._of_log(TopicPartition(topic, partition), at, end):
                yield records

    async def _of_log(self, source: TopicPartition, first: int, end: int) -> AsyncIterator[list[Any]]:
        start = (await self._consumer.beginning_offsets([source]))[source]
        if start > first:
            remedy = (
                "the lake does not hold it either"
                if self._lake
                else "give --from lake, which keeps what Kafka has deleted"
            )
            raise HistoryMissingError(
                f"{source.topic}/{source.partition}: offset {first} is needed, Kafka begins at {start}: {remedy}"
            )
        self._consumer.assign([source])
        self._consumer.seek(source, first)
        at, deadline = first, time.monotonic() + SILENT_SECONDS_MAX
        while at < end:
            got = await self._consumer.getmany(source, timeout_ms=POLL_MS, max_records=RECORDS_MAX)
            if records := [r for r in got.get(source, []) if r.offset < end]:
                at, deadline = records[-1].offset + 1, time.monotonic() + SILENT_SECONDS_MAX
                yield records
            elif time.monotonic() > deadline:
                raise HistoryMissingError(
                    f"{source.topic}/{source.partition}: nothing from offset {at} on for {SILENT_SECONDS_MAX:.0f} s, "
                    f"though the log ends at {end}: see whether Kafka is well, then start again: it goes on from here"
                )

    def _of_file(self, file: LakeFile) -> Iterator[list[PastRecord]]:
        frame = pl.read_parquet(file.path)
        if file.topic == topics.TERMINAL_LOG.name:
            yield from self._of_terminal_log(file, frame)
            return
        rows = frame.select("log_offset", "key", "value", "ingested_at_ms").iter_rows()
        past = [PastRecord(*row) for row in rows]
        for at in range(0, len(past), RECORDS_MAX):
            yield past[at : at + RECORDS_MAX]

    def _of_terminal_log(self, file: LakeFile, frame: pl.DataFrame) -> Iterator[list[PastRecord]]:
        """Its rows packed again, a record for each that had fresh rows; the last offset always stands for the file's end."""
        frame = self._with_cards(frame)
        columns = {name: _column(frame, name) for name in frame.columns}
        columns["transaction_hash"] = transaction_hashes(frame["transaction_id"].to_list())
        offsets = frame["log_offset"].to_numpy()
        cuts = [0, *(np.flatnonzero(np.diff(offsets)) + 1).tolist(), frame.height] if frame.height else [0]
        records = [
            PastRecord(int(offsets[a]), None, self._packed({n: c[a:b] for n, c in columns.items()}), 0)
            for a, b in pairwise(cuts)
        ]
        if not records or records[-1].offset < file.next - 1:
            records.append(PastRecord(file.next - 1, None, self._nothing(), 0))
        for at in range(0, len(records), RECORDS_MAX):
            yield records[at : at + RECORDS_MAX]

    def _packed(self, columns: dict[str, Any]) -> bytes:
        rows = len(columns["log_offset"])
        kind = packed.LABELS if columns["origin_topic"][0] == topics.LABELS.name else packed.CARD_VECTORS
        if kind == packed.CARD_VECTORS:
            columns |= {"vector": np.zeros((rows, 1), np.float32), "ingested_at_ms": np.zeros(rows, np.int64)}
        known = {n: columns[n] for n in packed.COLUMNS[kind] if n in columns}  # an older file lacks what came later
        return packed.pack(kind, known, {"feature_hash": self._feature_hash})

    def _nothing(self) -> bytes:
        empty: dict[str, packed.Column] = {
            n: [] if t == packed.TEXT else np.empty(0, t) for n, t in packed.COLUMNS[packed.LABELS].items()
        }
        return packed.pack(packed.LABELS, empty, {"feature_hash": self._feature_hash})

    def _with_cards(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The card of each transaction, which stands in the lake's `transactions` at the row's origin."""
        assert self._lake is not None
        parts = [frame.head(0).select("origin_partition", "origin_offset").with_columns(card_id=pl.lit("")).head(0)]
        of_cards = frame.filter(pl.col("origin_topic") == topics.TRANSACTIONS.name)
        for (partition,), rows in of_cards.group_by("origin_partition"):
            low, high = rows["origin_offset"].min(), rows["origin_offset"].max()
            files = [
                f.path
                for f in self._lake.files(topics.TRANSACTIONS.name, int(str(partition)))
                if f.next > low and f.first <= high  # type: ignore[operator]  # polars types a minimum as anything
            ]
            if files:
                cards = pl.read_parquet(files, columns=list(_CONTENTS)).rename({"log_offset": "origin_offset"})
                parts.append(
                    cards.select(pl.lit(partition, pl.Int32).alias("origin_partition"), "origin_offset", "card_id")
                )
        joined = frame.join(
            pl.concat(parts), on=["origin_partition", "origin_offset"], how="left", maintain_order="left"
        )
        lost = joined.filter((pl.col("origin_topic") == topics.TRANSACTIONS.name) & pl.col("card_id").is_null())
        if lost.height:
            raise HistoryMissingError(
                f"the lake's terminal-log has a row of transactions/{lost['origin_partition'][0]} offset "
                f"{lost['origin_offset'][0]}, which its `transactions` do not have: let the archiver catch up, or give --from log"
            )
        return joined


def _column(frame: pl.DataFrame, name: str) -> Any:
    """A column as a packed batch takes it; what a row's kind does not have is never read."""
    column = frame[name]
    if column.dtype == pl.String:
        return column.fill_null("").to_list()
    return column.fill_null(0).to_numpy()
