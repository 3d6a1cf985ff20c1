"""Reading whole topics: what stands in Kafka, and the first copy of every row of it.

Rule 1. Nothing here is shared with the services: the checker must not repeat their mistakes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from fraud.packed import unpack

READ_SECONDS_MAX = 60.0
Row = dict[str, Any]
Origin = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as it stands in a partition."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def read_logs(bootstrap: str, topics: Sequence[str]) -> dict[str, list[list[LogRecord]]]:
    """Every record of every partition of the topics, up to the end as it is now."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        wanted = [TopicPartition(t, p) for t in topics for p in sorted(consumer.partitions_for_topic(t) or ())]
        consumer.assign(wanted)
        ends = consumer.end_offsets(wanted)
        consumer.seek_to_beginning(*wanted)
        logs: dict[TopicPartition, list[LogRecord]] = {tp: [] for tp in wanted}
        left = {tp for tp in wanted if ends[tp] > 0}
        deadline = time.monotonic() + READ_SECONDS_MAX
        while left:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not read to the end within {READ_SECONDS_MAX:.0f} s: {sorted(left)}")
            for tp, records in consumer.poll(timeout_ms=200, max_records=10_000).items():
                logs[tp] += [
                    LogRecord(tp.topic, tp.partition, r.offset, r.timestamp, r.key, r.value, dict(r.headers))
                    for r in records
                    if r.offset < ends[tp]
                ]
                if records[-1].offset + 1 >= ends[tp]:
                    left.discard(tp)
    finally:
        consumer.close()
    return {t: [logs[tp] for tp in wanted if tp.topic == t] for t in topics}


def end_offsets(bootstrap: str, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """The end of every partition of the topics."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        wanted = [TopicPartition(t, p) for t in topics for p in sorted(consumer.partitions_for_topic(t) or ())]
        return {(tp.topic, tp.partition): end for tp, end in consumer.end_offsets(wanted).items()}
    finally:
        consumer.close()


def rows_of(records: Iterable[LogRecord], kinds: Sequence[str]) -> list[tuple[Origin, Row]]:
    """The rows of packed records in order, each with its origin (topic, partition, offset); NaN is None, so that rows compare."""
    rows: list[tuple[Origin, Row]] = []
    for record in records:
        batch = unpack(record.value, kinds)
        columns = {n: _values(column) for n, column in batch.columns.items()}
        for i in range(batch.rows):
            row = {name: column[i] for name, column in columns.items()}
            if "vector" in row:
                row["vector"] = np.asarray(row["vector"], np.float32).tobytes()
            rows.append(((batch.origin_topic, row["origin_partition"], row["origin_offset"]), row))
    return rows


def _values(column: Any) -> Any:
    if isinstance(column, list) or column.ndim > 1:
        return column
    return [None if value != value else value for value in column.tolist()]


def first_copies(rows: Iterable[tuple[Origin, Row]], where: str) -> tuple[dict[Origin, Row], list[str]]:
    """The first copy of every row in order, and what is wrong: copies that differ, first copies that do not ascend."""
    first: dict[Origin, Row] = {}
    newest: dict[tuple[str, int], int] = {}
    wrong: list[str] = []
    for origin, row in rows:
        if origin in first:
            if row != first[origin]:
                wrong.append(f"{where}: {origin} stands there again, with another content")
            continue
        if origin[2] <= newest.get(origin[:2], -1):
            wrong.append(f"{where}: {origin} comes after {newest[origin[:2]]}")
        newest[origin[:2]] = max(origin[2], newest.get(origin[:2], -1))
        first[origin] = row
    return first, wrong
