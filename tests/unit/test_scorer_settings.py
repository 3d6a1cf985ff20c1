"""The scorer's settings: impossible ones are named before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorer.settings import ScorerSettings


@pytest.mark.parametrize(
    ("variable", "value"), [("FRAUD_SCORER_ID", "a b"), ("FRAUD_POLL_RECORDS_MAX", "0"), ("FRAUD_PARTITIONS", "x")]
)
def test_an_impossible_setting_is_named_and_no_restart_is_asked_for(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        ScorerSettings.read()
    assert ended.value.code == 2
    assert variable in capsys.readouterr().err
