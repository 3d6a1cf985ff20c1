"""`fraudstream models ...` and `runs` on a real registry and a real history.

Rule 1. Commands run in this process, through the command line's own application.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from adapters.delivered import DeliveredQuality, keep_delivered, read_delivered
from adapters.model_store import ModelStore
from adapters.run_history import RunHistory, TrainingRun
from cli.__main__ import app
from cli.failure import CommandError
from fraud.batch_features import BATCH_HASH, BATCH_KIND
from fraud.model import Gate
from tests.scoring.published_models import publish
from trainer.__main__ import app as trainer_app

Run = Callable[..., Result]
DAY_MS = 86_400_000


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("FRAUD_MODELS_DIR", raising=False)
    return tmp_path / "models"


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def promoted_over(rival: str) -> Gate:
    return Gate("promoted", f"AP 0.7000 against 0.6000 of {rival} (difference ...)", rival, 0.1, 0.05, 0.15, 900, 40)


REJECTED = Gate(
    "rejected", "AP 0.6000 against 0.6010 of somebody (difference ...)", "somebody", -0.001, -0.1, 0.1, 900, 40, True
)


def test_promote_asks_what_the_gate_said_and_against_whom(models: Path) -> None:
    first = publish(models, 3, gate=promoted_over("rules"))
    second = publish(models, 4, gate=promoted_over(first))
    third = publish(models, 5, gate=promoted_over(first))
    said("models", "promote", first)
    assert f"champion: {first} -> {second}" in said("models", "promote", second)
    with pytest.raises(CommandError, match=f"measured {third} against {first}, and {second} is the champion now"):
        said("models", "promote", third)
    assert ModelStore(models).champion() == second


def test_a_rejected_version_is_promoted_by_force_with_a_reason_only_and_the_reason_is_kept(models: Path) -> None:
    version = publish(models, 3, gate=REJECTED)
    with pytest.raises(CommandError, match="the gate has rejected") as refused:
        said("models", "promote", version)
    assert "--force --reason" in str(refused.value)
    with pytest.raises(CommandError, match="say why") as refused:
        said("models", "promote", version, "--force", "--reason", "  ")
    assert refused.value.code == 2
    assert ModelStore(models).champion() is None
    said("models", "promote", version, "--force", "--reason", "the week of the holiday")
    change = ModelStore(models).changes()[-1]
    assert (change.by, change.reason, change.after.champion) == ("a person", "the week of the holiday", version)
    assert "the week of the holiday" in said("models", "show", version)


def test_a_version_of_other_features_is_promoted_by_nobody(models: Path) -> None:
    version = publish(models, 3, feature_hash="0123456789ab", gate=promoted_over("rules"))
    for arguments in (["promote", version], ["promote", version, "--force", "--reason", "x"], ["shadow", version]):
        with pytest.raises(CommandError, match="nobody can score with it"):
            said("models", *arguments)
    assert ModelStore(models).aliases() == ModelStore(models).aliases().__class__()


def test_rollback_says_what_changed_and_without_a_previous_one_what_to_do(models: Path) -> None:
    first = publish(models, 3, gate=promoted_over("rules"))
    said("models", "promote", first)
    with pytest.raises(CommandError, match="promote one by name"):
        said("models", "rollback")
    second = publish(models, 4, gate=promoted_over(first))
    said("models", "promote", second)
    told = said("models", "rollback", "--reason", "alerts doubled")
    assert f"champion: {second} -> {first}" in told
    assert f"previous: {first} -> {second}" in told
    assert json.loads(said("models", "rollback", "--json"))["after"]["champion"] == second


def test_shadow_gives_and_takes_the_challengers_role(models: Path) -> None:
    first, second = publish(models, 3, gate=promoted_over("rules")), publish(models, 4, gate=REJECTED)
    said("models", "promote", first)
    assert f"challenger: nobody -> {second}" in said("models", "shadow", second)
    assert "challenger" in said("models", "list")
    assert f"challenger: {second} -> nobody" in said("models", "shadow", "--off")
    with pytest.raises(CommandError, match="is the champion"):
        said("models", "shadow", first)
    with pytest.raises(CommandError, match="--off"):
        said("models", "shadow")


def delivered(version: str, fraud: int, ap: float, path: str = "streaming") -> DeliveredQuality:
    return DeliveredQuality(path, version, 0, DAY_MS, fraud, 900, 0.91, ap, 0.2, 0.5)


def test_the_list_puts_the_delivered_beside_the_promised_in_80_columns_and_never_cuts_a_name(models: Path) -> None:
    versions = [publish(models, rounds, gate=promoted_over("rules")) for rounds in (3, 4)]
    keep_delivered(models.parent / "monitoring" / "delivered.json", [delivered(versions[0], 12, 0.4567)])
    told = said("models", "list")
    assert all(version in told for version in versions)
    assert max(map(len, told.splitlines())) <= 80
    (line,) = [line for line in told.splitlines() if line.startswith(versions[0])]
    assert line.split()[2:] == ["0.600", "0.457", "0.900", "0.910"]
    listed: list[dict[str, Any]] = json.loads(said("models", "list", "--json"))
    by_version = {row["version"]: row["delivered"] for row in listed}
    assert by_version[versions[0]]["ap"] == 0.4567
    assert by_version[versions[1]] is None
    assert "delivered    AP 0.457" in said("models", "show", versions[0])
    assert "difference" in said("models", "show", versions[0])
    assert "+0.1000, 90 % of draws +0.0500 .. +0.1500" in said("models", "show", versions[0])


def test_a_challengers_deliveries_stand_apart_beside_whoever_decided_and_a_batch_models_are_of_its_path(
    models: Path,
) -> None:
    rejected, batch = publish(models, 3, gate=REJECTED), publish(models, 4, kind=BATCH_KIND, feature_hash=BATCH_HASH)
    shadow = msgspec.structs.replace(delivered(rejected, 12, 0.45, "challenger"), champion_auc=0.9, champion_ap=0.4)
    keep_delivered(models.parent / "monitoring" / "delivered.json", [shadow, delivered(batch, 7, 0.3, "batch")])
    told = said("models", "list")
    assert "  in shadow: AP 0.450, AUC 0.910; who decided on the same 0.400, 0.900" in told
    assert max(map(len, told.splitlines())) <= 80
    by_version = {row["version"]: row for row in json.loads(said("models", "list", "--json"))}
    assert by_version[rejected]["delivered"] is None, "it has decided nothing"
    assert by_version[rejected]["in_shadow"]["champion_ap"] == 0.4
    assert (by_version[batch]["delivered"]["ap"], by_version[batch]["in_shadow"]) == (0.3, None)
    assert "in shadow; who decided on the same: AP 0.400, AUC 0.900" in said("models", "show", rejected)


def test_a_damaged_version_is_listed_with_what_is_wrong(models: Path) -> None:
    version = publish(models, 3)
    (models / version / "manifest.json").write_bytes(b"{")
    assert "manifest.json cannot be read" in said("models", "list")
    with pytest.raises(CommandError, match="manifest.json"):  # noqa: RUF043
        said("models", "show", version)


@pytest.mark.parametrize("name", ["", "2", "19990101", "../.."])
def test_a_name_that_is_none_or_many_is_an_impossible_request(models: Path, name: str) -> None:
    for rounds in (3, 4):
        publish(models, rounds)
    with pytest.raises(CommandError, match="models list") as refused:
        said("models", "show", name)
    assert refused.value.code == 2


def test_the_evaluation_with_the_most_frauds_of_a_version_stays(tmp_path: Path) -> None:
    path = tmp_path / "delivered.json"
    keep_delivered(path, [delivered("a", 10, 0.5), delivered("b", 1, 0.1)])
    keep_delivered(path, [delivered("a", 3, 0.9), delivered("b", 2, 0.2)])
    assert [(each.version, each.ap) for each in read_delivered(path)] == [("a", 0.5), ("b", 0.2)]
    path.write_bytes(b"{")
    assert read_delivered(path) == []


def diff(*arguments: str) -> Result:
    return CliRunner().invoke(trainer_app, ["diff-models", *arguments])


def test_diff_compares_promises_params_and_scores_on_the_canaries_of_both(models: Path) -> None:
    one, other = publish(models, 3), publish(models, 30, as_of_ms=17_001 * DAY_MS)
    found = json.loads(diff(one, other, "--json").stdout)
    assert found["params"]["rounds"] == [3, 30]
    assert found["promised"]["ap"] == [0.6, 0.6]
    assert found["files"] == ["model.ubj"]
    assert found["canaries"]["equal"] < found["canaries"]["rows"] == 16
    assert found["canaries"]["largest"]["a"] != found["canaries"]["largest"]["b"]
    same = json.loads(diff(one, one, "--json").stdout)
    assert (same["params"], same["files"], same["canaries"]["mean_absolute"]) == ({}, [], 0)
    assert "mean absolute difference" in diff(one, other).stdout
    strange = publish(models, 4, feature_hash="0123456789ab", as_of_ms=17_002 * DAY_MS)
    assert "not comparable, the features differ" in diff(one, strange).stdout
    assert diff(one, "nobody").exit_code == 3


def test_runs_are_shown_newest_first_with_reasons_also_while_nothing_runs(models: Path, tmp_path: Path) -> None:
    assert "no training was asked for yet" in said("runs")
    history = RunHistory(tmp_path / "trainer" / "runs.sqlite")
    for number, state in enumerate(("promoted", "failed", "running")):
        history.add(
            TrainingRun(
                request_id=f"r{number}", trigger="nightly", why="", as_of_ms=DAY_MS, asked_at_ms=0, started_at_ms=0,
                ended_at_ms=12_000, state=state, stage="fit", percent=30, detail=f"because of {number}",
            )
        )  # fmt: skip
    told = said("runs")
    assert told.index("r2  running") < told.index("r1  failed, 12 s") < told.index("r0  promoted")
    assert "because of 1" in told
    assert [run["request_id"] for run in json.loads(said("runs", "--json", "--limit", "2"))] == ["r2", "r1"]
