"""The lake: what the topics said, as Parquet files named by topic, partition and offset range.

Rule 1. A file's name says which offsets it stands for: `first` inclusive, `next` exclusive. The files of a partition join
        without gap; where a merged file covers its parts, the larger one is read and the parts do not count.
Rule 2. A file appears whole or not at all (temporary file, fsync, rename) and never changes. Rows stand in log order.
Rule 3. Every file carries the origin marks as they stood at its end, so that a restarted archiver drops repeated rows.

    lake/features/0/00000000000000000000-00000000000000200000.parquet
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

Marks = Mapping[tuple[str, int], int]

FEATURE_HASH_KEY: Final = "feature_hash"
_MARKS_KEY: Final = "origin_marks"
_ROWS_KEY: Final = "rows"
_TEMPORARY: Final = ".part"
_parse_name = re.compile(r"\A(\d{20})-(\d{20})\.parquet\Z").match

# Topics whose rows may stand twice after a crash, and what makes a row the same: the first one counts.
_IDENTITY: Final[Mapping[str, tuple[str, ...]]] = {"alerts": ("origin_partition", "origin_offset")}
_DEAD_LETTER_IDENTITY: Final = ("source_topic", "source_partition", "source_offset")


class LakeGapError(RuntimeError):
    """Offsets that the lake ought to have and does not, or has twice; the message names topic, partition, offsets and files."""


class LakeLockedError(RuntimeError):
    """Another archiver writes this lake."""


@dataclass(frozen=True, slots=True, order=True)
class LakeFile:
    """One file: the offsets first <= offset < next of a topic's partition."""

    topic: str
    partition: int
    first: int
    next: int
    path: Path

    def metadata(self) -> dict[str, str]:
        """The key-value metadata that its writer gave it."""
        return pl.read_parquet_metadata(self.path)

    @property
    def feature_hash(self) -> str | None:
        """Hash of the features whose vectors stand in the file; None for a topic without vectors."""
        return self.metadata().get(FEATURE_HASH_KEY)

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return int(self.metadata()[_ROWS_KEY])

    @property
    def marks(self) -> dict[tuple[str, int], int]:
        """Last origin offset by (topic, partition), of everything up to the file's end."""
        return {(topic, partition): offset for topic, partition, offset in json.loads(self.metadata()[_MARKS_KEY])}


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
        return [file for number in numbers for file in _joined(self._all_files(topic, number))]

    def next_offset(self, topic: str, partition: int) -> int | None:
        """The first offset that the lake does not have; None before any file."""
        files = self.files(topic, partition)
        return files[-1].next if files else None

    def scan(self, topic: str, feature_hash: str | None = None) -> pl.LazyFrame:
        """Every row of a topic, partition by partition in log order, each row once.

        With `feature_hash`, only files with vectors of these features. Raises FileNotFoundError when there is no file.
        """
        files = [f for f in self.files(topic) if feature_hash is None or f.feature_hash == feature_hash]
        if not files:
            of = f" with vectors of features {feature_hash}" if feature_hash else ""
            raise FileNotFoundError(f"the lake {self.root} has no file of topic {topic}{of}")
        rows = pl.scan_parquet([file.path for file in files], hive_partitioning=False)
        identity = _DEAD_LETTER_IDENTITY if topic.endswith(".dlq") else _IDENTITY.get(topic)
        return rows.unique(identity, keep="first", maintain_order=True) if identity else rows

    def write_chunk(
        self,
        topic: str,
        partition: int,
        span: tuple[int, int],
        frame: pl.DataFrame,
        marks: Marks,
        feature_hash: str | None = None,
    ) -> LakeFile:
        """Write the rows of the offsets span[0] <= offset < span[1]. Raises OSError when the disk refuses."""
        folder = self.root / topic / str(partition)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{span[0]:020d}-{span[1]:020d}.parquet"
        metadata = {
            _MARKS_KEY: json.dumps([[origin, number, offset] for (origin, number), offset in sorted(marks.items())]),
            _ROWS_KEY: str(frame.height),
        } | ({FEATURE_HASH_KEY: feature_hash} if feature_hash else {})
        temporary = path.with_suffix(_TEMPORARY)
        with temporary.open("wb") as file:
            frame.write_parquet(file, compression="zstd", compression_level=1, metadata=metadata)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        _sync_folder(folder)
        return LakeFile(topic, partition, span[0], span[1], path)

    def merge(self, files: Sequence[LakeFile]) -> LakeFile:
        """Write adjacent files of one partition as one. The parts stay until `sweep`: a reader may hold their names."""
        first, last = files[0], files[-1]
        frame = pl.concat([pl.read_parquet(file.path) for file in files])
        return self.write_chunk(
            first.topic, first.partition, (first.first, last.next), frame, last.marks, last.feature_hash
        )

    def sweep(self, topic: str, partition: int, older_than_s: float) -> int:
        """Delete the parts that a merged file of at least that age covers, and leftovers of a killed writer; return how many."""
        counted = self.files(topic, partition)
        now, removed = time.time(), 0
        for file in self._all_files(topic, partition):
            cover = next((c for c in counted if c.first <= file.first and file.next <= c.next), None)
            if cover is not None and cover != file and now - cover.path.stat().st_mtime >= older_than_s:
                file.path.unlink(missing_ok=True)
                removed += 1
        for leftover in (self.root / topic / str(partition)).glob(f"*{_TEMPORARY}"):
            leftover.unlink(missing_ok=True)
        return removed

    @contextmanager
    def locked_for_writing(self) -> Iterator[None]:
        """Hold the lake as its only archiver. Raises LakeLockedError when another process does."""
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root / ".archiver.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LakeLockedError(f"another archiver writes {self.root}: stop it, or set FRAUD_LAKE_DIR") from None
            yield
        finally:
            os.close(descriptor)

    def _all_files(self, topic: str, partition: int) -> list[LakeFile]:
        folder = self.root / topic / str(partition)
        if not folder.exists():
            return []
        named = ((entry, _parse_name(entry.name)) for entry in folder.iterdir())
        return [LakeFile(topic, partition, int(name[1]), int(name[2]), entry) for entry, name in named if name]


def _joined(files: Sequence[LakeFile]) -> list[LakeFile]:
    """The files that count, in order: of two that begin at one offset the longer, and none that lies within another."""
    counted: list[LakeFile] = []
    for file in sorted(files, key=lambda f: (f.first, -f.next)):
        before = counted[-1] if counted else None
        if before is None or file.first == before.next:
            counted.append(file)
        elif file.next > before.next:
            what = "has no file for" if file.first > before.next else "has twice"
            low, high = sorted((before.next, file.first))
            raise LakeGapError(
                f"{file.topic}/{file.partition}: the lake {what} offsets {low} .. {high - 1}, "
                f"between {before.path.name} and {file.path.name}: restore the file, or archive again into an empty folder"
            )
    return counted


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
