"""Bad input to a training: a clear refusal, or a stated degraded result, and never a champion.

Rule 1. Each case is the lake of labelled_lake.py with one thing wrong; without it that lake makes a champion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adapters.lake import LakeGapError
from adapters.model_store import ModelStore
from fraud.features import FEATURE_HASH, NAMES
from fraud.windows import DAY_MS
from tests.unit.labelled_lake import AS_OF_MS, BEGIN_MS, PLAN, lake_of, silent, table
from trainer.dataset import TrainRefusedError
from trainer.soundness import missing_days, silent_features
from trainer.train import Trained, train

TIME = pl.col("occurred_at_ms")
BROKEN = "card_speed_kmh_since_last"
TINY = replace(PLAN, rows_min=2, fraud_min=1)


def trained_on(root: Path, rows: pl.DataFrame, labels: pl.DataFrame | None = None) -> tuple[ModelStore, Trained]:
    store = ModelStore(root / "models")
    return store, train(lake_of(root, rows, labels=labels), store, PLAN, silent)


def shuffled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("is_fraud").shuffle(seed=11))


@pytest.mark.parametrize("before", ["no champion", "a champion"])
def test_a_model_of_shuffled_labels_never_becomes_champion(tmp_path: Path, before: str) -> None:
    store = ModelStore(tmp_path / "models")
    if before == "a champion":
        early = replace(PLAN, as_of_ms=AS_OF_MS - 8 * DAY_MS)
        train(lake_of(tmp_path / "honest", table()), store, early, silent)
    champion = store.champion()
    trained = train(lake_of(tmp_path / "lie", shuffled(table())), store, PLAN, silent)
    assert trained.gate.outcome == "rejected"
    assert store.champion() == champion
    assert trained.version in store.versions()


def ten_rows(rows: pl.DataFrame) -> pl.DataFrame:
    return rows[:: len(rows) // 10][:10].with_columns(is_fraud=pl.int_range(pl.len()) % 2 == 0)


def all_constant(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit(1.0, pl.Float32).alias(name) for name in NAMES)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (ten_rows, "training period: 5 labelled rows"),
        (lambda rows: rows.with_columns(is_fraud=pl.lit(False)), "0 fraud"),
        (lambda rows: rows.with_columns(is_fraud=pl.lit(True)), "some genuine ones"),
        (all_constant, "none of the {count} features varies"),
    ],
    ids=["ten rows", "genuine only", "fraud only", "every feature constant"],
)
def test_what_nothing_can_be_learned_from_is_refused(
    tmp_path: Path, spoil: Callable[[pl.DataFrame], pl.DataFrame], words: str
) -> None:
    with pytest.raises(TrainRefusedError, match=words.format(count=len(NAMES))):
        trained_on(tmp_path, spoil(table()))
    assert ModelStore(tmp_path / "models").versions() == []


def test_ten_rows_make_no_champion_even_where_the_settings_let_them_train(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    try:
        trained = train(lake_of(tmp_path, ten_rows(table())), store, TINY, silent)
        assert trained.gate.outcome == "rejected"
    except TrainRefusedError as error:
        assert "needed are 2 rows" in str(error)
    assert store.champion() is None


def test_labels_that_are_all_later_than_the_moment_of_training_leave_nothing_to_learn(tmp_path: Path) -> None:
    late = table().with_columns(known_at_ms=pl.lit(AS_OF_MS + 1))
    with pytest.raises(TrainRefusedError, match="0 fraud"):
        trained_on(tmp_path, table(), labels=late)


def test_a_constant_feature_is_named_and_harms_nothing(tmp_path: Path) -> None:
    rows = table().with_columns(pl.lit(float("nan"), pl.Float32).alias(BROKEN))
    store, trained = trained_on(tmp_path, rows)
    card = (store.read(trained.version).folder / "card.md").read_text()
    assert f"never varied and that it therefore ignores: {BROKEN}" in card
    assert trained.gate.outcome == "promoted"


def test_a_feature_that_falls_silent_before_the_measured_days_makes_no_champion(tmp_path: Path) -> None:
    gone = pl.when(TIME < AS_OF_MS - 14 * DAY_MS).then(pl.col(BROKEN)).otherwise(float("nan")).cast(pl.Float32)
    store, trained = trained_on(tmp_path, table().with_columns(gone.alias(BROKEN)))
    assert trained.gate.outcome == "rejected"
    assert f"stand still in validation: {BROKEN}" in trained.gate.reason
    assert "DEGRADED" in (store.read(trained.version).folder / "card.md").read_text()
    assert store.champion() is None


def test_a_feature_that_the_champion_knew_and_training_does_not_makes_no_champion(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    early = replace(PLAN, as_of_ms=AS_OF_MS - 8 * DAY_MS)
    champion = train(lake_of(tmp_path / "whole", table()), store, early, silent)
    spoiled = table().with_columns(pl.lit(0.0, pl.Float32).alias(BROKEN))
    trained = train(lake_of(tmp_path / "spoiled", spoiled), store, PLAN, silent)
    assert trained.gate.outcome == "rejected"
    assert f"varied for the champion stand still in training: {BROKEN}" in trained.gate.reason
    assert store.champion() == champion.version


@pytest.mark.parametrize("day", [22, 28], ids=["in training", "in validation"])
def test_a_lake_with_a_missing_day_makes_no_champion_and_names_the_day(tmp_path: Path, day: int) -> None:
    begin_ms = BEGIN_MS + day * DAY_MS
    store, trained = trained_on(tmp_path, table().filter((begin_ms > TIME) | (begin_ms + DAY_MS <= TIME)))
    assert trained.gate.outcome == "rejected"
    assert {22: "2018-04-23 00:00 UTC", 28: "2018-04-29 00:00 UTC"}[day] in trained.gate.reason
    assert "a usual day has 144" in trained.gate.reason
    assert store.champion() is None


def test_a_lake_with_a_missing_file_is_refused_with_the_offsets(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, table())
    vectors = table().select("transaction_id", "card_id", "occurred_at_ms", *NAMES)[:5]
    lake.write_chunk("features", 0, (7, 8), vectors, {}, FEATURE_HASH)
    with pytest.raises(LakeGapError, match=r"offsets 1 \.\. 6"):
        train(lake, ModelStore(tmp_path / "models"), PLAN, silent)
    assert ModelStore(tmp_path / "models").versions() == []


def test_the_oldest_day_may_be_cut_and_a_quiet_stream_may_have_empty_days() -> None:
    half_a_day_first = np.arange(BEGIN_MS + DAY_MS // 2, BEGIN_MS + 10 * DAY_MS, 600_000)
    assert missing_days(half_a_day_first, BEGIN_MS + 10 * DAY_MS) == []
    quiet = np.arange(BEGIN_MS, BEGIN_MS + 10 * DAY_MS, 2 * DAY_MS)
    assert missing_days(quiet, BEGIN_MS + 10 * DAY_MS) == []
    assert missing_days(np.array([], np.int64), BEGIN_MS) == []


def test_a_feature_that_was_rare_before_is_not_called_silent() -> None:
    before = np.zeros((1000, len(NAMES)), np.float32)
    now = np.zeros((500, len(NAMES)), np.float32)
    before[:40, 5] = 1
    assert silent_features(before, now) == []
    before[:60, 5] = 1
    assert silent_features(before, now) == [NAMES[5]]
