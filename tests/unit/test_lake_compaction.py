"""Compaction under kills: at every step of it, each row is read once, in order.

Rule 1. A kill is an exception that no code of ours catches, before and after each call that changes the disk; what was being
        written stays half written.
Rule 2. The check is shown to work: it finds a compaction that deletes too early, and a reader that takes every file it sees.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from adapters.lake import Lake, LakeFile, LakeGapError, LakeLockedError
from trainer.compaction import CompactionLimits, compact, runs

PARTS = ((0, 3), (3, 5), (5, 9), (9, 11))
EVERY = list(range(11))
LIMITS = CompactionLimits(small_rows=100, rows_max=1000)
Read = Callable[[Path], list[int]]


class Killed(BaseException):
    """The end of the process."""


class Steps:
    """Counts the calls that change the disk, and ends the process at the one that is due."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kill_at: int) -> None:
        self.taken, self.kill_at = 0, kill_at
        monkeypatch.setattr(os, "fsync", self._watched(os.fsync))
        monkeypatch.setattr(Path, "rename", self._watched(Path.rename))
        monkeypatch.setattr(Path, "unlink", self._watched(Path.unlink))
        real = pl.LazyFrame.sink_parquet

        def sink(frame: pl.LazyFrame, path: Path | str, **options: Any) -> None:
            Path(path).write_bytes(b"PAR1 half a file")
            self._step()
            real(frame, path, **options)
            self._step()

        monkeypatch.setattr(pl.LazyFrame, "sink_parquet", sink)

    def _watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self._step()
            result = real(*given, **named)
            self._step()
            return result

        return call

    def _step(self) -> None:
        self.taken += 1
        if self.taken == self.kill_at:
            raise Killed


def parts_of(root: Path) -> Lake:
    lake = Lake(root)
    for first, after in PARTS:
        frame = pl.DataFrame({"log_offset": range(first, after)}, schema={"log_offset": pl.Int64})
        lake.write_chunk("features", 0, (first, after), frame, {("transactions", 0): after}, "abc")
    return lake


def through_the_lake(root: Path) -> list[int]:
    return list(Lake(root).scan("features").collect()["log_offset"])


def every_file_it_sees(root: Path) -> list[int]:
    return list(pl.read_parquet(sorted((root / "features" / "0").glob("*.parquet")))["log_offset"])


def wrong_steps(root: Path, read: Read = through_the_lake) -> tuple[int, list[int]]:
    """How many steps a compaction has, and after a kill at which of them a reader does not get each row once."""
    wrong: list[int] = []
    for kill_at in range(1, 200):
        folder = root / str(kill_at)
        lake = parts_of(folder)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Steps(monkeypatch, kill_at)
            try:
                compact(lake, "features", 0, LIMITS, sweep_after_s=0)
                return kill_at - 1, wrong
            except Killed:
                pass
        try:
            rows = read(folder)
        except (LakeGapError, FileNotFoundError, pl.exceptions.PolarsError):
            rows = []
        if rows != EVERY:
            wrong.append(kill_at)
    raise AssertionError("a compaction without end")


def test_a_kill_at_any_step_loses_and_doubles_no_row(tmp_path: Path) -> None:
    steps, wrong = wrong_steps(tmp_path)
    assert steps >= 16, "write, sync, rename, sync, four deletions, each before and after"
    assert wrong == []


def test_after_a_kill_at_any_step_the_next_compaction_ends_with_one_file(tmp_path: Path) -> None:
    for kill_at in range(1, 17):
        lake = parts_of(tmp_path / str(kill_at))
        with pytest.MonkeyPatch.context() as monkeypatch:
            Steps(monkeypatch, kill_at)
            with pytest.raises(Killed):
                compact(lake, "features", 0, LIMITS, sweep_after_s=0)
        compact(Lake(lake.root), "features", 0, LIMITS, sweep_after_s=0)
        assert [path.name for path in (lake.root / "features" / "0").iterdir()] == [f"{0:020d}-{11:020d}.parquet"]
        assert through_the_lake(lake.root) == EVERY
        assert lake.files("features")[0].marks == {("transactions", 0): 11}


def test_a_compaction_that_deletes_before_the_merged_file_stands_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hasty(lake: Lake, files: list[LakeFile]) -> None:
        frame = pl.concat([pl.read_parquet(file.path) for file in files])
        for file in files:
            file.path.unlink()
        lake.write_chunk("features", 0, (files[0].first, files[-1].next), frame, {}, "abc")

    monkeypatch.setattr(Lake, "merge", hasty)
    _, wrong = wrong_steps(tmp_path)
    assert wrong


def test_a_reader_that_takes_every_file_is_noticed(tmp_path: Path) -> None:
    _, wrong = wrong_steps(tmp_path, every_file_it_sees)
    assert wrong


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return parts_of(tmp_path / "lake")


def spans(found: list[list[LakeFile]]) -> list[list[tuple[int, int]]]:
    return [[(file.first, file.next) for file in run] for run in found]


def test_files_are_merged_up_to_the_most_rows_and_large_ones_stay(lake: Lake) -> None:
    files = lake.files("features")
    assert spans(runs(files, LIMITS)) == [list(PARTS)]
    assert spans(runs(files, CompactionLimits(small_rows=100, rows_max=5))) == [[(0, 3), (3, 5)]]
    assert spans(runs(files, CompactionLimits(small_rows=4, rows_max=100))) == [[(0, 3), (3, 5)]]


def test_files_of_other_features_or_columns_and_retired_ones_are_not_merged(lake: Lake) -> None:
    lake.retire(lake.files("features")[:1])
    frame = pl.DataFrame({"log_offset": [11], "more": [1.0]})
    lake.write_chunk("features", 0, (11, 12), frame, {}, "abc")
    lake.write_chunk("features", 0, (12, 13), frame, {}, "new")
    assert spans(runs(lake.files("features"), LIMITS)) == [[(3, 5), (5, 9), (9, 11)]]


def test_two_processes_do_not_merge_one_lake_at_a_time(lake: Lake) -> None:
    with lake.locked_for_compaction(), pytest.raises(LakeLockedError):
        compact(Lake(lake.root), "features", 0, LIMITS)
