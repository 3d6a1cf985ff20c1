"""Does the lake hold what Kafka holds: every record of public topics, every row of packed ones once?

Rule 1. The lake is compared with the logs, row by row and in order; a gap between files is found by the lake itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from adapters.lake import Lake, LakeGapError
from fraud import packed
from fraud.features import NAMES
from tests.integration.faults.logs import LogRecord, first_copies, rows_of

PACKED: Final[Mapping[str, tuple[str, ...]]] = {
    "terminal-log": (packed.CARD_VECTORS, packed.LABELS),
    "features": (packed.VECTORS,),
    "scores": (packed.SCORES,),
}


def lake_differences(lake: Lake, logs: Mapping[str, list[list[LogRecord]]]) -> list[str]:
    """What the lake lacks, has twice, or has otherwise than Kafka; empty when all is well."""
    found: list[str] = []
    for topic, partitions in logs.items():
        for p, records in enumerate(partitions):
            where = f"lake {topic}/{p}"
            try:
                files = lake.files(topic, p)
            except LakeGapError as error:
                found.append(f"{where}: {error}")
                continue
            ends = (files[-1].next if files else 0, records[-1].offset + 1 if records else 0)
            if ends[0] != ends[1]:
                found.append(f"{where}: it ends at {ends[0]}, the log at {ends[1]}")
            frames = [pl.read_parquet(file.path) for file in files]
            if frames:
                frame = pl.concat(frames, how="diagonal_relaxed")
                found += _packed(frame, records, topic, where) if topic in PACKED else _raw(frame, records, where)
    return found


def _raw(frame: pl.DataFrame, records: list[LogRecord], where: str) -> list[str]:
    stored = list(zip(frame["log_offset"].to_list(), frame["value"].to_list(), strict=True))
    logged = [(record.offset, record.value) for record in records]
    return [] if stored == logged else [f"{where}: {len(stored)} records differ from the log's {len(logged)}"]


def _packed(frame: pl.DataFrame, records: list[LogRecord], topic: str, where: str) -> list[str]:
    first, _ = first_copies(rows_of(records, PACKED[topic]), where)
    origin_topics = (
        frame["origin_topic"].to_list() if "origin_topic" in frame.columns else ["transactions"] * len(frame)
    )
    stored = list(
        zip(origin_topics, frame["origin_partition"].to_list(), frame["origin_offset"].to_list(), strict=True)
    )
    if stored != list(first):
        return [
            f"{where}: {len(stored)} rows, {len(set(stored))} different ones, instead of {len(first)} in the log's order"
        ]
    if topic != "features" or not first:
        return []
    vectors = np.stack([np.frombuffer(row["vector"], "<u4") for row in first.values()])
    kept = frame.select(NAMES).to_numpy().astype("<f4").view("<u4")
    return (
        [] if np.array_equal(vectors, kept) else [f"{where}: vectors differ in {int((vectors != kept).sum())} numbers"]
    )
