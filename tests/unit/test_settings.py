"""Settings: what the environment says, what `stack.env` says, and what happens when it says nonsense.

Rule 1. Every test stands in an empty folder with an environment of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.settings import StackSettings


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("FRAUD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_a_variable_that_is_set_to_nothing_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FRAUD_STATE_DIR", "FRAUD_PARTITIONS", "FRAUD_LAKE_DIR", "FRAUD_KAFKA_BOOTSTRAP"):
        monkeypatch.setenv(name, "")
    assert StackSettings.read() == StackSettings()
    assert StackSettings.read().lake == Path(".fraudstream/lake")


def test_a_running_stack_is_found_by_its_file_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".fraudstream").mkdir()
    (tmp_path / ".fraudstream/stack.env").write_text("FRAUD_KAFKA_BOOTSTRAP=127.0.0.1:1\nFRAUD_PARTITIONS=4\n")
    monkeypatch.setenv("FRAUD_KAFKA_BOOTSTRAP", "127.0.0.1:2")
    settings = StackSettings.read()
    assert (settings.kafka_bootstrap, settings.partitions) == ("127.0.0.1:2", 4)


def test_an_impossible_value_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAUD_PARTITIONS", "0")
    with pytest.raises(SystemExit) as ended:
        StackSettings.read()
    assert ended.value.code == 2
    assert "FRAUD_PARTITIONS" in capsys.readouterr().err
