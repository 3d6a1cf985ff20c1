"""A training run over a lake with declined transactions, and over one whose vectors are of other features.

Rule 1. The lake is that of labelled_lake.py; labels tell of frauds alone, as in the generated world.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from adapters.lake import Lake
from adapters.model_store import ModelStore
from fraud.decision import APPROVE, DECLINE
from fraud.features import FEATURE_HASH
from tests.unit.labelled_lake import PLAN, lake_of, silent, table
from trainer.dataset import TrainRefusedError
from trainer.train import train


def decide(lake: Lake, rows: pl.DataFrame, declined: pl.Expr) -> None:
    decision = pl.when(declined).then(DECLINE).otherwise(APPROVE).cast(pl.UInt8)
    scores = rows.select("transaction_id", "card_id", decision=decision)
    lake.write_chunk("scores", 0, (0, 1), scores, {})


def test_declined_rows_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = table()
    told = rows.filter("is_fraud")
    lake = lake_of(tmp_path, rows, labels=told)
    number = pl.col("transaction_id").str.slice(1).cast(pl.Int64)
    decide(lake, rows, number % 20 == 0)
    store, said = ModelStore(tmp_path / "models"), list[str]()
    trained = train(lake, store, PLAN, lambda stage, percent, detail: said.append(detail))
    hidden = rows.filter((number % 20 == 0) & ~pl.col("is_fraud"))
    split = PLAN.split
    times = pl.col("occurred_at_ms")
    matured = hidden.filter((times >= split.judged_from_ms) & (times < split.as_of_ms - PLAN.maturity.horizon_ms))
    numbers = json.loads((store.read(trained.version).folder / "metrics.json").read_text())
    assert matured.height > 100
    assert numbers["declined_left_out"] == matured.height
    assert any(f"{matured.height} declined ones without a label left out" in line for line in said)
    assert numbers["vectors"] == "served"


@pytest.mark.parametrize("replay", [False, True], ids=["as served", "replayed"])
def test_vectors_of_other_features_are_refused_with_both_hashes_and_the_way_out(tmp_path: Path, replay: bool) -> None:
    lake = lake_of(tmp_path, table(), feature_hash="0ldfeatures")
    words = "has no transactions" if replay else f"0ldfeatures, this code computes {FEATURE_HASH}: train with --replay"
    with pytest.raises(TrainRefusedError, match=words):
        train(lake, ModelStore(tmp_path / "models"), replace(PLAN, replay=replay), silent)
