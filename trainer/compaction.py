"""Compaction: many small files of a partition become few larger ones.

Rule 1. Only files that adjoin each other and have the same columns and features are merged; their order stays.
Rule 2. The merged file stands whole before any of its parts goes, and parts go only after a while, when nobody reads:
        at every moment, and after a kill at any moment, each row is read once.
Rule 3. One process at a time merges a lake, whether or not an archiver adds files to it meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from adapters.lake import Lake, LakeFile

SWEEP_AFTER_S: Final = (
    600.0  # readers outside of this code list files and take no lock: so long they may take to open them
)


@dataclass(frozen=True, slots=True)
class CompactionLimits:
    """small_rows: a file with fewer is worth merging. rows_max: of a merged file."""

    small_rows: int = 100_000
    rows_max: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was done with a partition: files merged, files they became, covered files deleted."""

    merged: int = 0
    into: int = 0
    swept: int = 0


def runs(files: Sequence[LakeFile], limits: CompactionLimits) -> list[list[LakeFile]]:
    """Files to merge, run by run: adjacent, small, alike, together at most rows_max, and at least two."""
    found: list[list[LakeFile]] = []
    for small, alike in groupby(files, key=lambda file: _kind(file, limits)):
        if small is None:
            continue
        run: list[LakeFile] = []
        rows = 0
        for file in alike:
            if run and rows + file.rows > limits.rows_max:
                found.append(run)
                run, rows = [], 0
            run.append(file)
            rows += file.rows
        found.append(run)
    return [run for run in found if len(run) > 1]


def _kind(file: LakeFile, limits: CompactionLimits) -> tuple[object, ...] | None:
    """What a file must share with its neighbour; None for a file that stays as it is."""
    if file.rows >= limits.small_rows or file.gone:
        return None
    return file.feature_hash, tuple(file.schema().items())


def compact(
    lake: Lake, topic: str, partition: int, limits: CompactionLimits, sweep_after_s: float = SWEEP_AFTER_S
) -> Compacted:
    """Merge a partition's small files and delete what is covered long enough.

    Raises LakeLockedError while another process does so, LakeGapError, OSError when the disk refuses.
    """
    with lake.locked_for_compaction():
        found = runs(lake.files(topic, partition), limits)
        for run in found:
            lake.merge(run)
        swept = lake.sweep(topic, partition, sweep_after_s)
    return Compacted(sum(map(len, found)), len(found), swept)
