"""One process writes, merges and sweeps, another reads all the while, and the first is killed again and again.

Rule 1. The kill is SIGKILL at moments drawn from a seed; what is read must be the rows 0 .. n, each once, in order, and n never
        falls.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters.lake import Lake
from trainer.compaction import CompactionLimits, compact

KILLS = 6
ROWS_MIN = 300
DEADLINE_S = 120.0
WRITER = """
import sys
from pathlib import Path
import polars as pl
from adapters.lake import Lake
from trainer.compaction import CompactionLimits, compact

lake = Lake(Path(sys.argv[1]))
at = lake.next_offset("features", 0) or 0
print("started", flush=True)
while True:
    for _ in range(4):
        frame = pl.DataFrame({"log_offset": range(at, at + 10)}, schema={"log_offset": pl.Int64})
        lake.write_chunk("features", 0, (at, at + 10), frame, {})
        at += 10
    compact(lake, "features", 0, CompactionLimits(small_rows=200, rows_max=400), sweep_after_s=0)
"""


class Writer:
    """The process that is killed."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-c", WRITER, str(root)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "started\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def read(lake: Lake) -> list[int]:
    with lake.reading():
        return list(lake.scan("features").collect()["log_offset"])


def test_a_reader_gets_every_row_once_while_the_lake_is_merged_and_its_writer_killed(lake: Lake) -> None:
    moments = random.Random(5)
    deadline = time.monotonic() + DEADLINE_S
    seen = reads = 0
    for _ in range(KILLS):
        writer = Writer(lake.root)
        goal, kill_at = seen + ROWS_MIN / KILLS, time.monotonic() + moments.random()
        try:
            while seen < goal or time.monotonic() < kill_at:
                assert time.monotonic() < deadline, f"{seen} rows after {DEADLINE_S} s"
                if seen or list(lake.root.rglob("*.parquet")):
                    rows = read(lake)
                    assert rows == list(range(len(rows))) and len(rows) >= seen
                    seen, reads = len(rows), reads + 1
        finally:
            writer.kill()
        assert read(lake) == list(range(lake.next_offset("features", 0) or 0))
    assert reads > KILLS
    before = len(list((lake.root / "features" / "0").iterdir()))
    compact(lake, "features", 0, CompactionLimits(), sweep_after_s=0)
    left = list((lake.root / "features" / "0").iterdir())
    assert len(left) == 1 < before, "no leftovers of the killed"
