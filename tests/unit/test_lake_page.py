"""docs/lake.md is true: every query and every piece of Python on it runs over a lake, and gives the right rows.

Rule 1. The page's blocks are executed as they stand, in their order; LAKE is the lake's folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from adapters.lake import Lake
from fraud.features import NAMES
from tests.unit.small_lake import DAYS, PER_DAY, small_lake
from trainer.lake_views import views

PAGE = (Path(__file__).parents[2] / "docs" / "lake.md").read_text()
ROWS = DAYS * PER_DAY


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return small_lake(tmp_path_factory.mktemp("page") / "it's a lake")


@pytest.fixture
def db(lake: Lake) -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute(views(lake))
    return made


def test_every_piece_of_python_on_the_page_runs(lake: Lake) -> None:
    names: dict[str, Any] = {"LAKE": lake.root}
    for block in blocks("python"):
        exec(block, names)
    assert names["db"].execute("SELECT count(*) FROM features").fetchone() == (ROWS,)
    assert names["alerts"]["len"].to_list() == [15]
    assert names["vectors"].shape == (10, 2)
    assert names["fraud"].height == 8


def test_every_query_on_the_page_runs_and_tells_the_truth(db: duckdb.DuckDBPyConnection) -> None:
    days, decisions, delays = (db.execute(query).fetchall() for query in blocks("sql"))
    assert len(days) == DAYS
    assert {day[1] for day in days} == {PER_DAY}
    assert decisions == [(0, 0, ROWS - 15, ROWS - 15, 0), (2, 0, 15, 15, 8)]
    assert delays == [("benchmark", ROWS, 7.0)]


def test_both_readers_see_each_row_once_also_between_merging_and_sweeping(lake: Lake) -> None:
    for topic in ("features", "transactions"):
        lake.merge(lake.files(topic)[3:9])
    by_duckdb = duckdb.connect()
    by_duckdb.execute(views(lake))
    for topic in lake.topics():
        rows = lake.scan(topic).collect()
        assert by_duckdb.execute(f"SELECT count(*) FROM {topic}").fetchone() == (rows.height,), topic
    order = f"SELECT {NAMES[0]} FROM features ORDER BY origin_partition, origin_offset"
    assert [row[0] for row in by_duckdb.execute(order).fetchall()] == lake.scan("features").collect()[
        NAMES[0]
    ].to_list()


def test_a_pattern_finds_rows_twice_as_the_page_warns(lake: Lake) -> None:
    lake.merge(lake.files("labels")[:5])
    assert pl.read_parquet(lake.root / "labels" / "*" / "*.parquet", missing_columns="insert").height > ROWS
    assert lake.scan("labels").collect().height == ROWS
