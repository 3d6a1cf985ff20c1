"""The benchmark of the two paths end to end on a small world of another seed, with bounds of its own.

Rule 1. The bounds are loose enough for a few weeks of fifteen hundred cards, and tight enough that a streaming path that knows no more
        than a nightly one does not pass.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.terminal import Terminal

WORLD = (
    "--seed",
    "1",
    "--cards",
    "1500",
    "--days",
    "56",
    "--train-days",
    "24",
    "--test-days",
    "11",
    "--alerts-per-day",
    "30",
)
FAST = ("account-takeover", "card-testing", "impossible-travel")
COMMAND_S_MAX = 600
pytestmark = pytest.mark.timeout(660)


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return Terminal(folder).fraudstream("bench", "paths", *arguments, timeout_s=COMMAND_S_MAX)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = bench(tmp_path_factory.mktemp("paths"), *WORLD, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_streaming_finds_more_in_a_small_world_of_another_seed(measured: dict[str, Any]) -> None:
    by_name = {each["name"]: each for each in measured["recalls"]}
    gain = by_name["all fraud"]["difference"]
    assert gain["value"] > 0.05
    assert gain["low"] > 0
    fast = [by_name[name] for name in FAST if name in by_name]
    frauds = sum(each["frauds"] for each in fast)
    assert sum(each["difference"]["value"] * each["frauds"] for each in fast) / frauds > 0.15
    assert measured["paths"]["streaming"]["ap"] > measured["paths"]["batch"]["ap"]


def test_both_paths_know_something(measured: dict[str, Any]) -> None:
    assert 0.65 < measured["paths"]["batch"]["auc"] < measured["paths"]["streaming"]["auc"] < 0.999
    mean_h, max_h = measured["snapshot_age_hours"]
    assert 8 < mean_h < 18
    assert 20 < max_h < 24


def test_options_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for arguments, words in (
        (("--days", "40"), "--days 40"),
        (("--alerts-per-day", "0"), "--alerts-per-day"),
    ):
        done = bench(tmp_path, *arguments)
        assert done.returncode == 2, arguments
        assert words in done.stderr, arguments
        assert "Traceback" not in done.stderr
