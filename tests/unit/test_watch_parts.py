"""The parts of the watch: parity rounds, what the state store says, and samples that come and go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from adapters.model_store import ModelStore
from fraud import metrics
from fraud.metrics import Metric
from monitoring.__main__ import app
from monitoring.parity_rounds import ParityRounds
from monitoring.probes import is_persisted
from monitoring.reference import Registry
from monitoring.series import Series
from tests.scoring.published_models import point_to, publish


def value(metric: Metric, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric.name, labels)


def test_samples_that_are_not_said_again_are_removed() -> None:
    series = Series(metrics.CARDS_DETECTED_SHARE)
    series.show({("streaming", "v1"): 0.5, ("streaming", "v2"): 0.7, ("streaming", "v3"): None})
    assert value(metrics.CARDS_DETECTED_SHARE, path="streaming", version="v1") == 0.5
    assert value(metrics.CARDS_DETECTED_SHARE, path="streaming", version="v3") is None
    series.show({("streaming", "v2"): 0.8})
    assert value(metrics.CARDS_DETECTED_SHARE, path="streaming", version="v1") is None
    assert value(metrics.CARDS_DETECTED_SHARE, path="streaming", version="v2") == 0.8


def found(**changes: int) -> str:
    rows = {"compared": 100, "mismatched_rows": 0, "missing": 0, "extra": 0, "repeated": 0, "mismatches": {"hour": 0}}
    return json.dumps({**rows, **changes})


def test_a_round_shows_what_the_meter_found_and_a_failed_one_changes_nothing() -> None:
    answers = [
        (1, found(mismatched_rows=7, missing=2)),
        (70, "Traceback"),
        (0, "no JSON"),
        (0, found()),
        (3, "nothing"),
    ]
    rounds = ParityRounds(100, lambda sample: answers.pop(0))
    seen = []
    while answers:
        rounds.round()
        seen.append([value(metrics.PARITY_WRONG_ROWS, fault=fault) for fault in ("mismatched", "missing", "extra")])
    assert seen == [[7, 2, 0], [7, 2, 0], [7, 2, 0], [0, 0, 0], [0, 0, 0]]
    outcomes = {o: value(metrics.PARITY_ROUNDS_TOTAL, outcome=o) for o in ("broken", "failed", "holds", "nothing")}
    assert outcomes == {"broken": 1, "failed": 2, "holds": 1, "nothing": 1}


def test_a_round_that_hangs_is_counted_as_failed() -> None:
    def hangs(sample: int) -> tuple[int, str]:
        raise subprocess.TimeoutExpired("parity", 1)

    before = value(metrics.PARITY_ROUNDS_TOTAL, outcome="failed") or 0
    ParityRounds(100, hangs).round()
    assert value(metrics.PARITY_ROUNDS_TOTAL, outcome="failed") == before + 1


@pytest.mark.parametrize(("info", "persisted"), [
    ({"aof_enabled": 1, "aof_last_write_status": "ok", "aof_last_bgrewrite_status": "ok"}, True),
    ({"aof_enabled": 0, "aof_last_write_status": "ok"}, False),
    ({"aof_enabled": 1, "aof_last_write_status": "err"}, False),
    ({"aof_enabled": 1, "aof_last_write_status": "ok", "aof_last_bgrewrite_status": "err"}, False),
])  # fmt: skip
def test_the_store_is_persisted_when_its_file_is_on_and_was_written_well(
    info: dict[str, object], persisted: bool
) -> None:
    assert is_persisted(info) is persisted


def test_the_registry_gives_roles_promises_and_no_reference_without_a_sample(tmp_path: Path) -> None:
    root = tmp_path / "models"
    registry = Registry(root)
    assert (registry.roles(), registry.champion(), registry.promise("rules")) == ({}, None, None)
    assert not root.exists(), "a watcher makes no registry"
    version = publish(root, 3)
    point_to(root, version)
    assert registry.roles() == {"champion": version}
    promise = registry.promise(version)
    assert promise is not None
    assert promise.ap == 0.6
    assert registry.champion() is None, "the published files hold no reference.parquet"
    ModelStore(root).set_aliases(ModelStore(root).aliases(), type(ModelStore(root).aliases())(champion=None))
    assert registry.roles() == {}


@pytest.mark.parametrize("command", ["drift", "paths"])
def test_a_command_without_anything_to_show_ends_with_3_and_what_to_do(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    ran = CliRunner().invoke(app, [command])
    assert ran.exit_code == 3
    assert "fraudstream up" in ran.output


def test_an_impossible_setting_ends_with_2_and_names_the_variable(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "monitoring", "drift"],
        check=False, capture_output=True, text=True, timeout=60,
        env={"PATH": "/usr/bin:/bin", "FRAUD_STATE_DIR": str(tmp_path), "FRAUD_DRIFT_WINDOW_HOURS": "0"},
    )  # fmt: skip
    assert ran.returncode == 2
    assert "FRAUD_DRIFT_WINDOW_HOURS" in ran.stderr
