"""Files of the lake: what one says of itself, how those of a partition join, and what is wrong where they do not.

Rule 1. The files of a partition join without gap from offset 0 on; where a file covers others, it is read and they do not count.
Rule 2. What is wrong is told with topic, partition, offsets and files, and with a remedy; nothing wrong is read past.
Rule 3. A file without rows may stand for offsets that are gone on purpose: its metadata says why (`gone`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import polars as pl

FEATURE_HASH_KEY: Final = "feature_hash"
MARKS_KEY: Final = "origin_marks"
ROWS_KEY: Final = "rows"
GONE_KEY: Final = "gone"

RETIRED: Final = "retired"  # by retention
NEVER_THERE: Final = "never archived"  # the log had lost them before the first archiver came

_REMEDY: Final = (
    "restore the file from a copy; or, while Kafka still has these offsets, move the files after them out of the folder and "
    "start the archiver, which fetches them again; `fraudstream lake stats` shows all that is wrong"
)


class LakeGapError(RuntimeError):
    """Offsets that the lake ought to have and does not, or has twice; the message names topic, partition, offsets and files."""


@dataclass(frozen=True, slots=True)
class LakeFault:
    """Offsets first <= offset < next of a partition that are missing, there twice, or in a file that cannot be read."""

    topic: str
    partition: int
    kind: Literal["gap", "overlap", "unreadable"]
    first: int
    next: int
    files: tuple[str, ...]
    why: str = ""

    def __str__(self) -> str:
        where = " and ".join(self.files)
        what, place = {
            "gap": ("has no file for", f"between {where}" if len(self.files) > 1 else f"before {where}"),
            "overlap": ("has twice", f"in {where}"),
            "unreadable": ("cannot read", f"in {where}"),
        }[self.kind]
        why = f" ({self.why})" if self.why else ""
        return f"{self.topic}/{self.partition}: the lake {what} offsets {self.first} .. {self.next - 1}, {place}{why}: {_REMEDY}"

    def error(self) -> LakeGapError:
        """As what a reader raises."""
        return LakeGapError(str(self))


@dataclass(frozen=True, slots=True, order=True)
class LakeFile:
    """One file: the offsets first <= offset < next of a topic's partition."""

    topic: str
    partition: int
    first: int
    next: int
    path: Path

    def metadata(self) -> dict[str, str]:
        """The key-value metadata that its writer gave it. Raises LakeGapError when it is damaged."""
        try:
            return pl.read_parquet_metadata(self.path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from error

    def schema(self) -> dict[str, pl.DataType]:
        """Its columns. Raises LakeGapError when it is damaged."""
        try:
            return dict(pl.read_parquet_schema(self.path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from error

    @property
    def feature_hash(self) -> str | None:
        """Hash of the features whose vectors stand in the file; None for a topic without vectors."""
        return self.metadata().get(FEATURE_HASH_KEY)

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return int(self.metadata()[ROWS_KEY])

    @property
    def gone(self) -> str | None:
        """Why the offsets have no rows: RETIRED, NEVER_THERE; None for a file of rows."""
        return self.metadata().get(GONE_KEY)

    @property
    def marks(self) -> dict[tuple[str, int], int]:
        """Last origin offset by (topic, partition), of everything up to the file's end."""
        return {(topic, partition): offset for topic, partition, offset in json.loads(self.metadata()[MARKS_KEY])}

    def _unreadable(self, error: Exception) -> LakeGapError:
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return LakeFault(
            self.topic, self.partition, "unreadable", self.first, self.next, (self.path.name,), why
        ).error()


def joined(files: Sequence[LakeFile]) -> tuple[list[LakeFile], list[LakeFault]]:
    """The files that count, in order: of two that begin at one offset the longer, and none that lies within another;
    and everything that is wrong with how they join."""
    counted: list[LakeFile] = []
    faults: list[LakeFault] = []
    for file in sorted(files, key=lambda f: (f.first, -f.next)):
        before = counted[-1] if counted else None
        at = before.next if before else 0
        if before and file.next <= at:
            continue
        if file.first != at:
            low, high = sorted((at, file.first))
            names = (before.path.name, file.path.name) if before else (file.path.name,)
            kind: Literal["gap", "overlap"] = "gap" if file.first > at else "overlap"
            faults.append(LakeFault(file.topic, file.partition, kind, low, high, names))
        counted.append(file)
    return counted, faults
