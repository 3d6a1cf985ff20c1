"""What `--engine spark` says where Spark cannot run, and which slices of a log its tasks take."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from adapters.backends.java import find_java
from adapters.lake import Lake
from tests.unit.labelled_lake import lake_of, table
from trainer.__main__ import app
from trainer.dataset import Maturity, Split
from trainer.replay import NothingToReplayError, Slice, slice_numbers
from trainer.spark import session
from trainer.spark.vectors import work_for


def run_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[int, str]:
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    found = CliRunner().invoke(app, ["train", "--as-of", "2018-05-01", *options])
    return found.exit_code, found.output


def test_without_pyspark_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        session.importlib.util, "find_spec", lambda name: None if name == "pyspark" else find_spec(name)
    )
    code, output = run_train(tmp_path, monkeypatch, "--engine", "spark")
    assert code == 2
    assert "uv pip install --group spark" in output
    assert "--engine local" in output


def test_without_java_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_java", lambda *_: None)
    monkeypatch.setattr(session.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("FRAUD_TRAIN_ENGINE", "spark")
    code, output = run_train(tmp_path, monkeypatch)
    assert code == 2
    assert "Java 17 or later" in output
    assert "JAVA_HOME" in output


def test_a_java_without_the_module_that_spark_asks_for_is_passed_over(tmp_path: Path) -> None:
    def java(name: str, modules: str) -> Path:
        path = tmp_path / name / "bin" / "java"
        path.parent.mkdir(parents=True)
        path.write_text(
            f"#!/bin/sh\n[ $1 = -version ] && echo 'openjdk version \"17.0.1\"' >&2 || printf '{modules}'\n"
        )
        path.chmod(0o755)
        return path

    small = java("small", "java.base@17\\nx.jdk.incubator.vector@17\\n")
    whole = java("whole", "java.base@17\\njdk.incubator.vector@17\\n")
    environment = {"JAVA_HOME": str(small.parents[1]), "PATH": f"{whole.parent}:/usr/bin:/bin"}
    assert session.check(environment) == tmp_path / "whole"
    found = find_java(environment)
    assert found is not None
    assert found.path == small


def test_spark_is_refused_for_the_batch_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run_train(tmp_path, monkeypatch, "--engine", "spark", "--path", "batch")
    assert code == 2
    assert "leave it out for --path batch" in output


@pytest.mark.parametrize("master", ["local[two]", "mesos://there", "spark://"])
def test_a_master_that_is_none_is_refused_by_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, master: str
) -> None:
    monkeypatch.setenv("FRAUD_SPARK_MASTER", master)
    code, output = run_train(tmp_path, monkeypatch, "--engine", "spark")
    assert code == 2
    assert "FRAUD_SPARK_MASTER" in output


def test_slices_take_every_row_once_and_an_entity_whole() -> None:
    frame = pl.DataFrame({"card_id": [f"c{i % 50}" for i in range(1_000)], "row": range(1_000)})
    parts = [Slice(number, 3).rows(frame, "card_id") for number in range(3)]
    assert sorted(row for part in parts for row in part["row"]) == list(range(1_000))
    assert sum(part["card_id"].n_unique() for part in parts) == 50
    assert all(part["row"].is_sorted() and part.height for part in parts)
    assert slice_numbers(pl.Series(["c1", None, "c1"]), 3).to_list()[1] is None


def test_there_are_tasks_for_every_slot_and_never_fewer_than_partitions(tmp_path: Path) -> None:
    split, maturity = Split.at(0, 1, 1, Maturity()), Maturity()
    with pytest.raises(NothingToReplayError, match="no transactions"):
        work_for(Lake(tmp_path / "none"), split, maturity, 4)
    lake = lake_of(tmp_path, table())
    for partition in range(3):
        lake.write_chunk("transactions", partition, (0, 1), pl.DataFrame({"log_offset": [0]}), {})
    few, many = work_for(lake, split, maturity, 2), work_for(lake, split, maturity, 8)
    assert [(partition, keys.of) for partition, keys in few.cards] == [(0, 1), (1, 1), (2, 1)]
    assert len(many.cards) == 9
    assert (few.terminal_slices, many.terminal_slices) == (2, 8)
