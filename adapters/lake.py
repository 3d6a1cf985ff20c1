"""The lake: what the topics said, as Parquet files named by topic, partition and offset range.

Rule 1. A file's name says which offsets it stands for: `first` inclusive, `next` exclusive. The files of a partition join
        without gap from offset 0 on; where a merged file covers its parts, the larger one is read and the parts do not count.
Rule 2. A file appears whole or not at all (temporary file, fsync, rename) and never changes. Rows stand in log order.
Rule 3. Every file carries the origin marks as they stood at its end, so that a restarted archiver drops repeated rows.
Rule 4. Nothing that counts is deleted: first a file that covers it stands there, then the covered ones go, and not while
        anyone is `reading()`. A kill between the two leaves files that do not count.

    lake/features/0/00000000000000000000-00000000000000200000.parquet
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final

import polars as pl

from adapters.lake_file import (
    FEATURE_HASH_KEY,
    GONE_KEY,
    MARKS_KEY,
    NEVER_THERE,
    RETIRED,
    ROWS_KEY,
    LakeFault,
    LakeFile,
    LakeGapError,
    joined,
)

__all__ = [
    "FEATURE_HASH_KEY",
    "NEVER_THERE",
    "RETIRED",
    "Lake",
    "LakeFault",
    "LakeFile",
    "LakeGapError",
    "LakeLockedError",
]

Marks = Mapping[tuple[str, int], int]

_TEMPORARY: Final = ".part"
_parse_name = re.compile(r"\A(\d{20})-(\d{20})\.parquet\Z").match
_ARCHIVER_LOCK, _COMPACTION_LOCK, _READERS_LOCK = ".archiver.lock", ".compaction.lock", ".readers.lock"

# Topics whose rows may stand twice after a crash, and what makes a row the same: the first one counts.
_ALERT_IDENTITY: Final = ("origin_partition", "origin_offset")
_DEAD_LETTER_IDENTITY: Final = ("source_topic", "source_partition", "source_offset")


class LakeLockedError(RuntimeError):
    """Another process writes this lake, or merges its files."""


class Lake:
    """The lake below `root`; it need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def topics(self) -> list[str]:
        """Topics that have at least one partition in the lake."""
        return sorted(p.name for p in self.root.iterdir() if p.is_dir()) if self.root.exists() else []

    def partitions(self, topic: str) -> list[int]:
        """Partitions of a topic in the lake."""
        folder = self.root / topic
        return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal()) if folder.exists() else []

    def files(self, topic: str, partition: int | None = None) -> list[LakeFile]:
        """The files that count, by partition and offset. Raises LakeGapError when they do not join."""
        numbers = self.partitions(topic) if partition is None else [partition]
        counted: list[LakeFile] = []
        for number in numbers:
            files, faults = self.join(topic, number)
            if faults:
                raise faults[0].error()
            counted += files
        return counted

    def join(self, topic: str, partition: int) -> tuple[list[LakeFile], list[LakeFault]]:
        """The files of a partition that count, by offset, and what is wrong with how they join."""
        listed = self.all_files(topic, partition)
        while True:
            files, faults = joined(listed)
            if not faults:
                return files, faults
            # A listing is no snapshot: of two files that came while it was made it may have the later one alone.
            again = self.all_files(topic, partition)
            if set(again) == set(listed):
                return files, faults
            listed = again

    def all_files(self, topic: str, partition: int) -> list[LakeFile]:
        """Every file of a partition, also those that are covered by another, in no order."""
        folder = self.root / topic / str(partition)
        if not folder.exists():
            return []
        named = ((entry, _parse_name(entry.name)) for entry in folder.iterdir())
        return [LakeFile(topic, partition, int(name[1]), int(name[2]), entry) for entry, name in named if name]

    def next_offset(self, topic: str, partition: int) -> int | None:
        """The first offset that the lake does not have; None before any file."""
        files = self.files(topic, partition)
        return files[-1].next if files else None

    def scan(self, topic: str, feature_hash: str | None = None) -> pl.LazyFrame:
        """Every row of a topic, partition by partition in log order, each row once.

        With `feature_hash`, only files with vectors of these features. Columns that a file does not have are null.
        Raises FileNotFoundError when there is no file, LakeGapError when one is missing or damaged. Collect within
        `reading()`: outside of it a file may be merged away before it is opened.
        """
        files = [f for f in self.files(topic) if feature_hash is None or f.feature_hash == feature_hash]
        if not files:
            of = f" with vectors of features {feature_hash}" if feature_hash else ""
            raise FileNotFoundError(f"the lake {self.root} has no file of topic {topic}{of}")
        alike = [[f.path for f in group] for _, group in groupby(files, key=LakeFile.schema)]
        parts = [pl.scan_parquet(paths, hive_partitioning=False, glob=False) for paths in alike]
        rows = parts[0] if len(parts) == 1 else pl.concat(parts, how="diagonal_relaxed")
        identity = identity_of(topic)
        return rows.unique(identity, keep="first", maintain_order=True) if identity else rows

    def write_chunk(
        self,
        topic: str,
        partition: int,
        span: tuple[int, int],
        frame: pl.DataFrame,
        marks: Marks,
        feature_hash: str | None = None,
        gone: str | None = None,
    ) -> LakeFile:
        """Write the rows of the offsets span[0] <= offset < span[1]. Raises OSError when the disk refuses.

        gone: why these offsets have no rows and never will, RETIRED or NEVER_THERE.
        """
        metadata = _metadata(frame.height, marks, feature_hash, gone)

        def write(path: Path) -> None:
            frame.write_parquet(path, compression="zstd", compression_level=1, metadata=metadata)

        return self._write(topic, partition, span, write)

    def merge(self, files: Sequence[LakeFile]) -> LakeFile:
        """Write adjacent files of one partition as one. The parts stay until `sweep`: a reader may hold their names."""
        first, last = files[0], files[-1]
        rows = sum(file.rows for file in files)
        metadata = _metadata(rows, last.marks, last.feature_hash, None)

        def write(path: Path) -> None:
            parts = pl.scan_parquet([file.path for file in files], hive_partitioning=False, glob=False)
            parts.sink_parquet(path, compression="zstd", compression_level=1, metadata=metadata, maintain_order=True)
            written = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
            if written != rows:
                raise LakeGapError(
                    f"{first.path} .. {last.path.name}: {written} rows instead of {rows}; nothing is merged"
                )

        return self._write(first.topic, first.partition, (first.first, last.next), write)

    def retire(self, files: Sequence[LakeFile]) -> LakeFile | None:
        """Let go of the rows of the first files of a partition: one file without rows stands for their offsets then.

        None, and nothing done, while anyone is reading.
        """
        first, last = files[0], files[-1]
        assert first.first == 0, first
        nothing = pl.DataFrame(schema=last.schema())
        with self._nobody_reading() as alone:
            if not alone:
                return None
            return self.write_chunk(
                first.topic, first.partition, (0, last.next), nothing, last.marks, last.feature_hash, RETIRED
            )

    def sweep(self, topic: str, partition: int, older_than_s: float) -> int:
        """Delete the files that another of at least that age covers, and leftovers of a killed writer of that age.

        Returns how many covered ones went: none while anyone is reading; the next sweep takes them.
        """
        counted = self.files(topic, partition)
        now, removed = time.time(), 0
        with self._nobody_reading() as alone:
            for file in self.all_files(topic, partition) if alone else ():
                cover = next((c for c in counted if c.first <= file.first and file.next <= c.next), None)
                if cover is not None and cover != file and now - cover.path.stat().st_mtime >= older_than_s:
                    file.path.unlink(missing_ok=True)
                    removed += 1
        for leftover in (self.root / topic / str(partition)).glob(f"*{_TEMPORARY}"):
            if now - leftover.stat().st_mtime >= older_than_s:
                leftover.unlink(missing_ok=True)
        return removed

    @contextmanager
    def locked_for_writing(self) -> Iterator[None]:
        """Hold the lake as its only archiver. Raises LakeLockedError when another process does."""
        with self._locked(_ARCHIVER_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            if not alone:
                raise LakeLockedError(f"another archiver writes {self.root}: stop it, or set FRAUD_LAKE_DIR")
            yield

    @contextmanager
    def locked_for_compaction(self) -> Iterator[None]:
        """Hold the lake as the only one that merges and retires. Raises LakeLockedError when another process does."""
        with self._locked(_COMPACTION_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            if not alone:
                raise LakeLockedError(
                    f"files of {self.root} are being merged by another process: try again when it is done"
                )
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While it lasts no file is deleted that was listed within it; several may read at once, and files may be added."""
        if not self.root.exists():
            yield
            return
        with self._locked(_READERS_LOCK, fcntl.LOCK_SH):
            yield

    @contextmanager
    def _nobody_reading(self) -> Iterator[bool]:
        with self._locked(_READERS_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            yield alone

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[bool]:
        """Whether the lock was to be had. A lake that cannot be written (a read-only copy) is read without one."""
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(self.root / name, os.O_RDONLY | os.O_CREAT, 0o644)  # also where another user made it
        except OSError:
            if how & fcntl.LOCK_EX:
                raise
            yield True
            return
        try:
            try:
                fcntl.flock(descriptor, how)
                had = True
            except BlockingIOError:
                had = False
            yield had
        finally:
            os.close(descriptor)

    def _write(self, topic: str, partition: int, span: tuple[int, int], write: Callable[[Path], None]) -> LakeFile:
        folder = self.root / topic / str(partition)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{span[0]:020d}-{span[1]:020d}.parquet"
        temporary = path.with_name(f"{path.stem}.{os.getpid()}{_TEMPORARY}")
        write(temporary)
        _sync(temporary)
        temporary.rename(path)
        _sync(folder)
        return LakeFile(topic, partition, span[0], span[1], path)


def identity_of(topic: str) -> tuple[str, ...] | None:
    """Columns that make a row the same where a topic may have it twice; None where it cannot."""
    if topic.endswith(".dlq"):
        return _DEAD_LETTER_IDENTITY
    return _ALERT_IDENTITY if topic == "alerts" else None


def _metadata(rows: int, marks: Marks, feature_hash: str | None, gone: str | None) -> dict[str, str]:
    told = {FEATURE_HASH_KEY: feature_hash, GONE_KEY: gone}
    return {
        MARKS_KEY: json.dumps([[origin, number, offset] for (origin, number), offset in sorted(marks.items())]),
        ROWS_KEY: str(rows),
    } | {key: value for key, value in told.items() if value}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
