"""What the lake holds, partition by partition, and everything that is wrong with it.

Rule 1. A fault ends nothing: all of them are told, each with its files and offsets.
Rule 2. What is counted is what a reader gets: covered files and rows that were let go are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import polars as pl

from adapters.lake import NEVER_THERE, RETIRED, Lake, LakeFault, LakeFile, LakeGapError
from trainer.retention import TIME_COLUMN


class PartitionStats(msgspec.Struct, frozen=True):
    """One partition: files that count, their rows and bytes, and the offsets first <= offset < next they stand for.

    oldest_ms, newest_ms: event time (of labels: when known), None without any. retired_to, absent_to: offsets before it
    were let go by retention, and were never archived; 0 for none. covered_files: merged into others, not deleted yet.
    """

    topic: str
    partition: int
    files: int
    rows: int
    bytes: int
    first: int
    next: int
    oldest_ms: int | None
    newest_ms: int | None
    retired_to: int
    absent_to: int
    covered_files: int
    feature_hashes: tuple[str, ...]
    faults: tuple[str, ...]


class LakeStats(msgspec.Struct, frozen=True):
    """All of it; whole: nothing is missing, there twice or damaged."""

    lake: str
    whole: bool
    rows: int
    bytes: int
    partitions: tuple[PartitionStats, ...]

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong, a sentence each."""
        return [fault for each in self.partitions for fault in each.faults]


def stats(lake: Lake) -> LakeStats:
    """Look at every file of the lake."""
    found = tuple(_partition(lake, topic, number) for topic in lake.topics() for number in lake.partitions(topic))
    return LakeStats(
        lake=str(lake.root),
        whole=not any(each.faults for each in found),
        rows=sum(each.rows for each in found),
        bytes=sum(each.bytes for each in found),
        partitions=found,
    )


@dataclass(slots=True)
class _Sums:
    rows: int = 0
    oldest_ms: int | None = None
    newest_ms: int | None = None

    def add(self, rows: int, oldest_ms: int | None, newest_ms: int | None) -> None:
        self.rows += rows
        if oldest_ms is not None and newest_ms is not None:
            self.oldest_ms = oldest_ms if self.oldest_ms is None else min(self.oldest_ms, oldest_ms)
            self.newest_ms = newest_ms if self.newest_ms is None else max(self.newest_ms, newest_ms)


def _partition(lake: Lake, topic: str, partition: int) -> PartitionStats:
    files, gaps = lake.join(topic, partition)
    faults = [str(fault) for fault in gaps]
    gone_to = {RETIRED: 0, NEVER_THERE: 0}
    hashes: list[str] = []
    sums = _Sums()
    for file in files:
        try:
            sums.add(*_measured(file))
            if (why := file.gone) is not None:
                gone_to[why] = file.next
            elif (feature_hash := file.feature_hash) and feature_hash not in hashes:
                hashes.append(feature_hash)
        except LakeGapError as error:
            faults.append(str(error))
    return PartitionStats(
        topic=topic,
        partition=partition,
        files=len(files),
        rows=sums.rows,
        bytes=sum(file.path.stat().st_size for file in files),
        first=files[0].first if files else 0,
        next=files[-1].next if files else 0,
        oldest_ms=sums.oldest_ms,
        newest_ms=sums.newest_ms,
        retired_to=gone_to[RETIRED],
        absent_to=gone_to[NEVER_THERE],
        covered_files=max(0, len(lake.all_files(topic, partition)) - len(files)),
        feature_hashes=tuple(hashes),
        faults=tuple(faults),
    )


def _measured(file: LakeFile) -> tuple[int, int | None, int | None]:
    """Rows and range of event time. Raises LakeGapError for a file that is damaged or holds offsets that its name does not."""
    columns = file.schema()
    time = TIME_COLUMN.get(file.topic, "")
    wanted = [pl.len().alias("rows")]
    wanted += [pl.col("log_offset").min().alias("low"), pl.col("log_offset").max().alias("high")] * (
        "log_offset" in columns
    )
    wanted += [pl.col(time).min().alias("oldest"), pl.col(time).max().alias("newest")] * (time in columns)
    try:
        (row,) = pl.scan_parquet(file.path, glob=False).select(wanted).collect().to_dicts()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _fault(file, str(error).splitlines()[0][:200]) from error
    if row["rows"] != file.rows:
        raise _fault(file, f"it has {row['rows']} rows, its writer counted {file.rows}")
    low, high = row.get("low"), row.get("high")
    if low is not None and high is not None and not file.first <= low <= high < file.next:
        raise _fault(file, f"it holds offsets {low} .. {high}")
    return row["rows"], row.get("oldest"), row.get("newest")


def _fault(file: LakeFile, why: str) -> LakeGapError:
    return LakeFault(file.topic, file.partition, "unreadable", file.first, file.next, (file.path.name,), why).error()


def as_text(found: LakeStats) -> str:
    """For people: a line per partition, then what is wrong."""
    head = ("topic/partition", "files", "rows", "MiB", "offsets", "event time", "")
    lines = [head, *[_line(each) for each in found.partitions]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    left = {0, 4, 5, 6}
    shown = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    shown.append(f"{found.rows:,} rows, {found.bytes / 2**20:,.1f} MiB in {found.lake}")
    verdict = "the lake is whole" if found.whole else "THE LAKE IS NOT WHOLE"
    return "\n".join([line.rstrip() for line in shown] + found.faults + [verdict])


def _line(each: PartitionStats) -> tuple[str, ...]:
    notes = [
        *([f"before {each.retired_to} retired"] if each.retired_to else []),
        *([f"before {each.absent_to} never archived"] if each.absent_to else []),
        *([f"{each.covered_files} covered"] if each.covered_files else []),
        *([f"features {', '.join(each.feature_hashes)}"] if each.feature_hashes else []),
        *([f"{len(each.faults)} FAULTS"] if each.faults else []),
    ]
    period = "-" if each.oldest_ms is None else f"{_moment(each.oldest_ms)} .. {_moment(each.newest_ms or 0)}"
    return (
        f"{each.topic}/{each.partition}",
        f"{each.files:,}",
        f"{each.rows:,}",
        f"{each.bytes / 2**20:,.1f}",
        f"{each.first} .. {each.next}",
        period,
        ", ".join(notes),
    )


def _moment(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}"
