"""A whole training run on a small lake: what is published, what is refused, and that nothing from the future is used.

Rule 1. The lake is that of labelled_lake.py.
Rule 2. A refusal leaves the registry empty and ends with exit code 3.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from adapters.lake import Lake
from adapters.model_store import ModelStore
from fraud.features import NAMES
from fraud.windows import DAY_MS
from tests.scoring.published_models import publish
from tests.unit.labelled_lake import AS_OF_MS, BEGIN_MS, PLAN, ROWS, STEP_MS, lake_of, silent, table
from trainer.__main__ import app
from trainer.dataset import TrainRefusedError
from trainer.fit import from_bytes, score
from trainer.ladder import RUNGS, SERVED
from trainer.train import latest_event_time_ms, train


def test_the_first_model_is_published_whole_promoted_and_scores_its_canaries_bit_for_bit(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    stages: list[tuple[str, int]] = []
    trained = train(lake_of(tmp_path, table()), store, PLAN, lambda stage, percent, _: stages.append((stage, percent)))
    assert store.champion() == trained.version
    stored = store.read(trained.version)
    manifest = stored.manifest
    again = score(from_bytes(stored.model), manifest.canary_vectors())
    assert again.tobytes() == manifest.canary_scores().tobytes()
    assert len(manifest.canaries) >= 16
    assert manifest.promise.ap is not None
    assert manifest.promise.ap > 0.3
    assert manifest.trained_on.to_ms == AS_OF_MS - 7 * DAY_MS
    assert sorted(p.name for p in stored.folder.iterdir()) == sorted([*manifest.files, "manifest.json"])
    assert pl.read_parquet(stored.folder / "reference.parquet").columns == [*NAMES, "score", "is_fraud"]
    percents = [percent for _, percent in stages]
    assert percents == sorted(percents)
    assert stages[-1] == ("promoted", 100)


def test_a_version_tells_what_every_rung_of_the_ladder_achieved_on_the_same_rows(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    trained = train(lake_of(tmp_path, table()), store, PLAN, silent)
    assert 0 < trained.manifest.thresholds["review"] < 1
    folder = store.read(trained.version).folder
    told = json.loads((folder / "metrics.json").read_bytes())
    models = told["ladder"]["models"]
    assert list(models) == list(RUNGS)
    served = models[SERVED]["ap"]
    assert served["value"] == pytest.approx(trained.manifest.promise.ap, abs=1e-6)
    assert served["low"] < served["value"] < served["high"]
    assert models["rules"]["ap"]["value"] < served["low"]  # the rules know nothing of this lake
    assert models["logistic"]["auc"]["value"] > 0.7
    assert models["rules"]["served_has_more"]["ap"]["low"] > 0
    assert models[SERVED]["served_has_more"]["ap"] == {"value": 0, "low": 0, "high": 0}
    card = (folder / "card.md").read_text()
    assert "earn their place above rules" in card
    assert "request_amount_minor" in card
    for picture in ("precision_recall", "calibration", "cost", "importance"):
        assert f"{picture}.png" in card
        assert (folder / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{picture}.png" in trained.manifest.files


def test_the_same_lake_and_moment_give_the_same_version(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, table())
    one = train(lake, ModelStore(tmp_path / "one"), PLAN, silent)
    other = train(lake, ModelStore(tmp_path / "other"), replace(PLAN, created_at="2027-01-01T00:00:00Z"), silent)
    assert one.version == other.version


def test_what_became_known_at_or_after_the_moment_of_training_changes_nothing(tmp_path: Path) -> None:
    rows = table()
    lied = rows.with_columns(is_fraud=~pl.col("is_fraud"), known_at_ms=pl.lit(AS_OF_MS))
    honest = train(lake_of(tmp_path / "a", rows), ModelStore(tmp_path / "one"), PLAN, silent)
    told = train(
        lake_of(tmp_path / "b", rows, labels=pl.concat([rows, lied])), ModelStore(tmp_path / "other"), PLAN, silent
    )
    assert honest.version == told.version


def test_the_promise_does_not_know_the_labels_of_its_own_period(tmp_path: Path) -> None:
    #  labels of the validation week are turned round: the judged fit must not have learned from them
    rows = table()
    in_validation = pl.col("occurred_at_ms").is_between(AS_OF_MS - 14 * DAY_MS, AS_OF_MS - 7 * DAY_MS, closed="left")
    turned = rows.with_columns(is_fraud=pl.col("is_fraud") ^ in_validation)
    trained = train(lake_of(tmp_path, turned), ModelStore(tmp_path / "models"), PLAN, silent)
    assert trained.manifest.promise.auc is not None
    assert trained.manifest.promise.auc < 0.5


def test_a_worse_challenger_is_kept_as_rejected_with_its_numbers(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    early = replace(PLAN, as_of_ms=AS_OF_MS - 8 * DAY_MS)
    champion = train(lake_of(tmp_path / "good", table()), store, early, silent)
    noise = table().with_columns(pl.col("is_fraud").shuffle(seed=1))
    learned_until = AS_OF_MS - 21 * DAY_MS
    confused = pl.concat(
        [
            noise.filter(pl.col("occurred_at_ms") < learned_until),
            table().filter(pl.col("occurred_at_ms") >= learned_until),
        ]
    )
    challenger = train(lake_of(tmp_path / "bad", confused), store, PLAN, silent)
    assert challenger.gate.outcome == "rejected"
    assert "no better than chance" in challenger.gate.reason
    assert store.champion() == champion.version
    assert challenger.version in store.versions()


@pytest.mark.parametrize(
    ("lake", "words"),
    [
        ("nothing", "let transactions stream first"),
        ("no labels", "no label has arrived yet"),
        ("other features", "this code computes"),
        ("one class", "0 fraud"),
        ("too young", "as-of must be more than 21 days later"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_the_remedy_and_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lake: str, words: str
) -> None:
    rows = table()
    if lake == "no labels":
        lake_of(tmp_path, rows, labels=rows[:0])
    elif lake == "other features":
        lake_of(tmp_path, rows, feature_hash="0123456789ab")
    elif lake == "one class":
        lake_of(tmp_path, rows.with_columns(is_fraud=pl.lit(False)))
    elif lake == "too young":
        lake_of(tmp_path, rows.filter(pl.col("occurred_at_ms") < BEGIN_MS + 15 * DAY_MS))
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    result = CliRunner().invoke(app, ["train", "--as-of", "latest"])
    assert result.exit_code == 3
    assert words in result.output
    assert ModelStore(tmp_path / "models").versions() == []


def test_the_command_prints_one_json_object_and_takes_a_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake_of(tmp_path, table())
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("trainer.fit.FIT", PLAN.params)
    result = CliRunner().invoke(app, ["train", "--as-of", "2018-05-10", "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["version"].startswith("20180510T000000-")
    assert told["outcome"] == "promoted"
    assert ModelStore(tmp_path / "models").champion() == told["version"]


def test_a_moment_that_is_none_is_refused_by_its_text() -> None:
    result = CliRunner().invoke(app, ["train", "--as-of", "yesterday"])
    assert result.exit_code == 2
    assert "yesterday" in result.output


def test_the_latest_moment_is_just_after_the_newest_vector(tmp_path: Path) -> None:
    assert latest_event_time_ms(lake_of(tmp_path, table())) == BEGIN_MS + (ROWS - 1) * STEP_MS + 1
    with pytest.raises(TrainRefusedError):
        latest_event_time_ms(Lake(tmp_path / "none"))


def test_roles_that_change_during_a_run_are_not_overwritten_by_what_the_gate_saw_before(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    other = publish(tmp_path / "models")

    def somebody_promotes(stage: str, percent: int, detail: str) -> None:
        if stage == "publish":
            store.promote(other, reason="by hand, meanwhile")

    trained = train(lake_of(tmp_path, table()), store, PLAN, somebody_promotes)
    assert trained.gate.outcome == "promoted"
    assert trained.outcome == "rejected"
    assert "the roles changed during the run" in trained.reason
    assert store.champion() == other
    assert trained.version in store.versions()


def test_a_second_training_for_the_same_registry_is_refused_with_who_is_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake_of(tmp_path, table())
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    with ModelStore(tmp_path / "models").training():
        result = CliRunner().invoke(app, ["train", "--as-of", "latest"])
    assert result.exit_code == 3
    assert "another training runs" in result.output
    assert ModelStore(tmp_path / "models").versions() == []
