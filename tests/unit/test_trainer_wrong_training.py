"""Training under a break-it switch: it promises too much, says so, and decides nothing by itself.

Rule 1. The world here has campaigns: frauds of three days look alike, and unlike those of the days after.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from adapters.model_store import ModelStore
from fraud.control import Retrain
from fraud.features import NAMES
from fraud.switches import LABELS_AT_ONCE, META, RANDOM_SPLIT
from fraud.windows import DAY_MS
from tests.unit.labelled_lake import AS_OF_MS, BEGIN_MS, PLAN, ROWS, lake_of, table
from trainer import run_process
from trainer.__main__ import app
from trainer.train import Trained, TrainPlan, train


def with_campaigns() -> pl.DataFrame:
    rows, random = table(), np.random.default_rng(8)
    days = (rows["occurred_at_ms"].to_numpy() - BEGIN_MS) // DAY_MS
    looks = random.normal(size=20)[days // 3]
    noise = random.normal(size=ROWS)
    look = np.where(rows["is_fraud"].to_numpy(), looks + noise / 100, noise).astype(np.float32)
    return rows.with_columns(pl.Series(NAMES[1], look), pl.Series(NAMES[0], noise.astype(np.float32)))


def trained(folder: Path, plan: TrainPlan, rows: pl.DataFrame) -> tuple[Trained, ModelStore, list[str]]:
    store, said = ModelStore(folder / "models"), list[str]()
    made = train(lake_of(folder, rows), store, plan, lambda stage, percent, detail: said.append(f"{stage}: {detail}"))
    return made, store, said


def test_a_random_split_promises_more_than_the_split_of_time(tmp_path: Path) -> None:
    rows = with_campaigns()
    honest, _, _ = trained(tmp_path / "honest", PLAN, rows)
    wrong, store, said = trained(tmp_path / "wrong", replace(PLAN, switches=(RANDOM_SPLIT.name,)), rows)
    assert (wrong.manifest.promise.ap or 0) > (honest.manifest.promise.ap or 0) + 0.2
    assert (wrong.outcome, wrong.gate.switches) == ("rejected", (RANDOM_SPLIT.name,))
    assert "random-split" in wrong.reason
    assert any("UNDER random-split" in line for line in said)
    # Nobody decides by it; it scores in shadow, so that what it delivers stands beside its promise.
    assert (store.aliases().champion, store.aliases().challenger) == (None, wrong.version)
    assert honest.gate.switches == ()


def test_labels_known_at_once_judge_on_days_whose_labels_nobody_has_yet(tmp_path: Path) -> None:
    plan = replace(PLAN, switches=(LABELS_AT_ONCE.name,))
    made, store, _ = trained(tmp_path, plan, table())
    assert PLAN.split.validation_to_ms == AS_OF_MS - 7 * DAY_MS
    assert made.manifest.promise.to_ms == AS_OF_MS
    assert (
        made.manifest.promise.fraud > 0
    )  # although the newest week's labels become known after the moment of training
    assert (made.outcome, store.aliases().champion) == ("rejected", None)


def test_vectors_served_under_a_switch_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = table().with_columns(pl.when(pl.int_range(ROWS) % 10 == 0).then(pl.lit("float-sums")).alias(META))
    lake = lake_of(tmp_path, rows)
    (file,) = lake.files("features")
    marked = pl.read_parquet(file.path).with_columns(rows[META])
    lake.write_chunk("features", 0, (file.first, file.next), marked, {}, file.feature_hash)
    said: list[str] = []
    store = ModelStore(tmp_path / "models")
    made = train(lake, store, PLAN, lambda stage, percent, detail: said.append(detail))
    told = json.loads((tmp_path / "models" / made.version / "metrics.json").read_bytes())
    assert told["served_under_switches_left_out"] > 0
    assert any("vectors served under a break-it switch left out" in line for line in said)
    control, _, _ = trained(tmp_path / "control", PLAN, table())
    left = control.manifest.trained_on.rows - made.manifest.trained_on.rows
    assert left == pytest.approx(control.manifest.trained_on.rows / 10, abs=2)


@pytest.mark.parametrize("words", [["--under", "float-sums"], ["--under", "random-split", "--path", "batch"]])
def test_only_switches_of_training_can_be_trained_under(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["train", "--as-of", "latest", *words])
    assert result.exit_code == 2
    assert "--under" in result.output


def test_the_service_starts_a_training_under_what_is_on_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def started(command: list[str], **_: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(pid=os.getpid(), stdout=io.StringIO(""))

    monkeypatch.setattr(run_process.subprocess, "Popen", started)
    for on in ((), (LABELS_AT_ONCE.name, RANDOM_SPLIT.name)):
        run_process.start_run(Retrain("r", 0), niceness=os.getpriority(os.PRIO_PROCESS, 0), switches=lambda on=on: on)
    assert "--under" not in commands[0]
    assert commands[1][-4:] == ["--under", "labels-known-at-once", "--under", "random-split"]
