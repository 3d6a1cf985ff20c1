"""The Handbook benchmark end to end on a small world of another seed, with bounds of its own.

Rule 1. The bounds are loose enough for a world of six weeks and tight enough that a broken fold, a leak of labels or a
        model without terminal risk does not pass.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.handbook.__main__ import command
from tests.integration.terminal import Terminal

WEEK = "2018-05-06"
DAYS = 42
COMMAND_S_MAX = 840  # a minute and a half of CPU: a loaded machine takes long
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = bench(
        tmp_path_factory.mktemp("bench"),
        "--data",
        "simulate:1",
        "--days",
        str(DAYS),
        "--test-weeks",
        WEEK,
        "--ablations",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return Terminal(folder).fraudstream("bench", "handbook", *arguments, timeout_s=COMMAND_S_MAX)


def test_a_small_world_of_another_seed_keeps_to_its_bounds(measured: dict[str, Any]) -> None:
    auc, ap, cp = measured["prequential"][0]["mean"]
    assert 0.80 < auc < 0.97
    assert 0.55 < ap < 0.90
    assert 0.15 < cp < 0.50
    assert measured["prequential"][0]["train_days"] == 28


def test_another_world_is_not_taken_for_the_published_one_and_has_no_bars(measured: dict[str, Any]) -> None:
    assert measured["published_rows"] is False
    assert measured["bars"] == {}


def test_each_mistake_costs_or_flatters_as_it_must(measured: dict[str, Any]) -> None:
    honest = measured["prequential"][0]["mean"]
    no_risk, nightly, at_once, random_split = measured["ablations"]
    assert no_risk["delivered"][1] < honest[1] - 0.1
    assert nightly["promised"][1] == honest[1]
    assert nightly["delivered"][1] < honest[1]
    assert at_once["promised"][1] > honest[1] + 0.05
    assert at_once["delivered"][1] < at_once["promised"][1]
    assert random_split["delivered"] == honest


def test_options_that_cannot_be_are_refused_before_anything_is_computed() -> None:
    app = typer.Typer()
    app.command()(command)
    for arguments, words in (
        (("--data", "nowhere.parquet"), "no such file"),
        (("--data", "simulate:x"), "0 .. 100000"),
        (("--data", "simulate", "--test-weeks", "August"), "--test-weeks 'August'"),
        (("--data", "simulate", "--test-weeks", "2018-08-08,2018-08-08"), "given twice"),
        (("--data", "simulate", "--label-delay-days", "99"), "--label-delay-days"),
        (("--data", "simulate", "--train-days", "3"), "--train-days"),
        ((), "--data"),
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2, arguments
        assert words in done.stderr, arguments
