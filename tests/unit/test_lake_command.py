"""`fraudstream lake ...`: what a person and a script see, of a whole lake and of a broken one.

Rule 1. The commands run in this process; the lake is the small one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from adapters.lake import Lake
from fraud.features import FEATURE_HASH
from monitoring.__main__ import app as monitoring_app
from tests.unit.small_lake import DAYS, PER_DAY, small_lake
from trainer.__main__ import app

Run = Callable[..., Result]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(tmp_path / "lake", days=4)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("FRAUD_LAKE_DIR", str(tmp_path / "lake"))
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(app, [*arguments])


def lose(lake: Lake, topic: str, number: int = 1) -> str:
    """Delete a file; the offsets that are lost, as a message names them."""
    file = lake.files(topic)[number]
    file.path.unlink()
    return f"{topic}/0: the lake has no file for offsets {file.first} .. {file.next - 1}"


def test_stats_tell_files_rows_bytes_offsets_and_event_time(lake: Lake, run: Run) -> None:
    done = run("lake", "stats", "--json")
    found = json.loads(done.stdout)
    by_topic = {each["topic"]: each for each in found["partitions"]}
    rows = lake.scan("features").collect()
    features = by_topic["features"]
    assert done.exit_code == 0 and found["whole"] is True
    assert (features["files"], features["rows"], features["first"], features["next"]) == (4, 4 * PER_DAY, 0, 4)
    assert (features["oldest_ms"], features["newest_ms"]) == (rows["occurred_at_ms"][0], rows["occurred_at_ms"][-1])
    assert features["feature_hashes"] == [FEATURE_HASH]
    assert features["bytes"] == sum(file.path.stat().st_size for file in lake.files("features"))
    assert found["rows"] == sum(each["rows"] for each in found["partitions"])
    text = run("lake", "stats").stdout
    assert "the lake is whole" in text
    assert "2018-04-01 00:00 .. 2018-04-04 23:00" in text


def test_stats_name_every_gap_overlap_and_damaged_file_and_end_with_code_1(lake: Lake, run: Run) -> None:
    gap = lose(lake, "transactions")
    damaged = lake.files("labels")[2]
    damaged.path.write_bytes(damaged.path.read_bytes()[:50])
    frame = pl.read_parquet(lake.files("scores")[0].path)
    lake.write_chunk("scores", 0, (3, 6), frame, {})  # stands for 3 .. 5, and 3 stands in the file before it
    done = run("lake", "stats")
    assert done.exit_code == 1
    assert gap in done.stdout
    assert (
        f"labels/0: the lake cannot read offsets {damaged.first} .. {damaged.next - 1}, in {damaged.path.name}"
        in done.stdout
    )
    assert "scores/0: the lake cannot read offsets 3 .. 5" in done.stdout, "rows that the name does not stand for"
    lake.files("scores")[-1].path.unlink()
    lake.write_chunk("scores", 0, (2, 6), frame, {})
    lake.write_chunk("scores", 0, (5, 9), frame, {})
    assert "scores/0: the lake has twice offsets 5 .. 5" in run("lake", "stats").stdout
    assert "THE LAKE IS NOT WHOLE" in done.stdout
    assert len(json.loads(run("lake", "stats", "--json").stdout)["partitions"]) == len(lake.topics())


@pytest.mark.parametrize(
    ("topic", "command"),
    [
        ("features", ("train", "--as-of", "latest")),
        ("labels", ("train", "--as-of", "2018-05-30")),
        ("scores", ("train", "--as-of", "2018-05-30")),
        ("transactions", ("train", "--as-of", "latest", "--replay")),
        ("transactions", ("features", "backfill", "--from", "lake", "--output", "OUT")),
        ("scores", ("lake", "views")),
        ("labels", ("lake", "files", "labels")),
        ("labels", ("lake", "compact")),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_gap_is_named_with_its_remedy_wherever_the_lake_is_read(
    lake: Lake, run: Run, tmp_path: Path, topic: str, command: tuple[str, ...]
) -> None:
    gap = lose(lake, topic)
    done = run(*[str(tmp_path / "out.parquet") if each == "OUT" else each for each in command])
    assert done.exit_code == 1, done.output
    assert gap in done.output
    assert "restore the file" in done.output
    assert not (tmp_path / "out.parquet").exists()


def test_parity_names_a_gap_and_a_beginning_that_was_let_go(lake: Lake, run: Run) -> None:
    lake.retire(lake.files("transactions")[:1])
    done = CliRunner().invoke(monitoring_app, ["parity", "--all"])
    assert done.exit_code == 3
    assert f"transactions/0: offsets 0 .. {PER_DAY - 1} were retired" in done.output
    gap = lose(lake, "transactions", 2)
    done = CliRunner().invoke(monitoring_app, ["parity", "--all"])
    assert done.exit_code == 1
    assert gap in done.output


def test_compact_merges_each_partition_and_every_row_stays(lake: Lake, run: Run) -> None:
    before = lake.scan("features").collect()
    done = run("lake", "compact")
    assert done.exit_code == 0
    assert "features/0: 4 files merged into 1, 0 covered ones deleted" in done.stdout
    assert lake.scan("features").collect().equals(before)
    assert "4 covered" in run("lake", "stats").stdout
    assert run("lake", "files", "features").stdout.split() == [str(lake.files("features")[0].path)]


def test_bad_options_are_refused_with_what_is_possible(lake: Lake, run: Run) -> None:
    wrong_topic = run("lake", "compact", "--topic", "payments")
    assert wrong_topic.exit_code == 2 and "the lake has alerts, features" in wrong_topic.output
    assert run("lake", "compact", "--sweep-after-s", "1").exit_code == 2
    assert run("lake", "files", "payments").exit_code == 2
    assert run("features", "backfill", "--output", "x").exit_code == 2
    assert run("features", "backfill", "--output", "x", "--from", "kafka").exit_code == 2


def test_without_a_lake_a_person_is_told_how_to_get_one(run: Run) -> None:
    done = run("lake", "stats")
    assert done.exit_code == 3
    assert "FRAUD_LAKE_DIR" in done.output


def test_retire_without_limits_says_that_all_is_kept(lake: Lake, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "all is kept" in run("lake", "retire", "--dry-run").stdout
    monkeypatch.setenv("FRAUD_LAKE_KEEP_DAYS", "10")
    refused = run("lake", "retire")
    assert refused.exit_code == 2
    assert "119 or more" in refused.output
    assert DAYS > 4 and lake.files("transactions")[0].gone is None
