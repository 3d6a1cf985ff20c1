"""The harness end to end: the real stack at 100 transactions a second for 15 seconds.

Rule 1. Nothing is said of speeds here; what is checked is that everything that was sent was scored, measured and told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.backends import BackendMissingError
from adapters.backends.ladder import local_description
from benchmarks.harness.hops import HOPS
from cli.services import CODE_FOLDER, SERVICES
from tests.conftest import missing

pytestmark = pytest.mark.timeout(600)
RATE, SECONDS = 100, 15


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", "bench", *arguments],
        check=False,
        cwd=folder,
        env={**clean, "PYTHONPATH": str(CODE_FOLDER)},
        capture_output=True,
        text=True,
        timeout=540,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    for name in ("kafka", "redis"):
        try:
            local_description(name)
        except BackendMissingError as error:
            missing(name, str(error))
    told = bench(
        tmp_path_factory.mktemp("bench"), "latency", "--rates", str(RATE), "--seconds", str(SECONDS), "--rounds", "1",
        "--peers", "none", "--cards", "1000", "--warm-seconds", "1", "--idle-seconds", "0", "--json",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "the served features of 2,000 rows equal the backfill's" in told.stderr
    result: dict[str, Any] = json.loads(told.stdout)
    return result


def test_every_transaction_was_scored_and_measured(measured: dict[str, Any]) -> None:
    (at,) = measured["latency"]
    assert (at["subject"], at["rate"]) == ("fraudstream", RATE)
    ordered = [at[name]["median"] for name in ("p50_ms", "p90_ms", "p99_ms", "p999_ms")]
    assert 0 < ordered[0] <= ordered[1] <= ordered[2] <= ordered[3] <= at["max_ms"]["median"] * 1.001


def test_every_process_is_named_with_its_cpu(measured: dict[str, Any]) -> None:
    (at,) = measured["latency"]
    expected = {"kafka", "redis", "producer", "harness", "runner", *(service.name for service in SERVICES)}
    assert set(at["cores_by_process"]) == expected
    assert all(at["cores_by_process"][name] > 0 for name in ("kafka", "redis", "producer", "stream_features", "scorer"))
    assert at["foreign_cores"] >= 0


def test_the_hops_of_the_topics_add_up_to_the_latency(measured: dict[str, Any]) -> None:
    (at,) = measured["latency"]
    assert tuple(at["hops_ms"]) == HOPS
    medians = sum(median for median, _ in at["hops_ms"].values())
    assert medians == pytest.approx(at["p50_ms"]["median"], rel=0.5, abs=8)


def test_the_run_says_what_is_needed_to_doubt_it(measured: dict[str, Any]) -> None:
    assert "CPUs" in measured["machine"]
    assert "Apache Kafka" in measured["servers"]
    assert measured["settings"]["rates"] == [RATE]
