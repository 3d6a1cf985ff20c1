"""The simulator against the published file, and against itself.

Rule 1. The published file is the judge; where it is absent, the comparison is skipped with the reason.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from fraud.windows import DAY_MS
from producer import handbook as simulator
from producer.worlds import compare, handbook_file, published, world_digest

DAYS_COMPARED = 30


@pytest.fixture(scope="module")
def two_days() -> pl.DataFrame:
    return simulator.world(days=2)


def test_the_first_thirty_days_equal_the_published_file_as_a_multiset(handbook: Path):
    end_ms = simulator.BEGIN_MS + DAYS_COMPARED * DAY_MS
    theirs = published(handbook).filter(pl.col("occurred_at_ms") < end_ms)
    result = compare(simulator.world(days=DAYS_COMPARED), theirs)
    assert result.published == 288_062
    assert result.equal, result


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_processes(two_days: pl.DataFrame):
    assert world_digest(simulator.world(days=2, processes=1)) == world_digest(two_days)


def test_another_seed_gives_another_world(two_days: pl.DataFrame):
    other = simulator.world(seed=1, days=2)
    assert other["transaction_id"][0] == "h1-0"
    assert world_digest(other) != world_digest(two_days)
    assert other.drop("transaction_id").row(0) != two_days.drop("transaction_id").row(0)


def test_a_shorter_world_is_the_beginning_of_the_longer_one(two_days: pl.DataFrame):
    one_day = simulator.world(days=1)
    assert one_day.equals(two_days.head(one_day.height))


def test_rows_are_in_order_of_time_with_ids_that_hold_their_position(two_days: pl.DataFrame):
    assert two_days["occurred_at_ms"].is_sorted()
    assert two_days["transaction_id"].to_list() == [f"h0-{i}" for i in range(two_days.height)]
    assert tuple(two_days.columns) == simulator.COLUMNS
    assert (two_days["is_fraud"] == (two_days["scenario"] > 0)).all()


def test_progress_counts_all_customers():
    seen: list[tuple[int, int]] = []
    simulator.world(days=1, progress=lambda done, of: seen.append((done, of)), processes=1)
    assert seen[-1] == (simulator.CUSTOMERS, simulator.CUSTOMERS)
    assert seen == sorted(seen)


@pytest.mark.parametrize(("seed", "days"), [(0, 0), (0, 184), (-1, 1), (simulator.SEED_MAX + 1, 1)])
def test_a_world_outside_the_specification_is_refused(seed: int, days: int):
    with pytest.raises(ValueError, match=r"must be|has 1 \.\. 183"):
        simulator.world(seed, days)


def test_a_generated_world_is_kept_and_read_again(tmp_path: Path):
    path = handbook_file(tmp_path / "worlds", 0, 1, processes=1)
    written = path.stat().st_mtime_ns
    assert path.name == "handbook-0-1.parquet"
    assert handbook_file(tmp_path / "worlds", 0, 1).stat().st_mtime_ns == written
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_comparing_counts_rows_that_only_one_side_has(two_days: pl.DataFrame):
    twice = pl.concat([two_days.head(3), two_days.head(1)])
    result = compare(two_days.head(3), twice)
    assert (result.only_generated, result.only_published, result.equal) == (0, 1, False)
