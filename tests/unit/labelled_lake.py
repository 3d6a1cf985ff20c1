"""A small lake made by hand, for the tests of training: forty days, one payment every ten minutes.

Rule 1. Fraud shows in the amount alone: it is mostly larger. All other features are noise.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from adapters.lake import Lake
from fraud.features import FEATURE_HASH, NAMES
from fraud.windows import DAY_MS
from trainer.dataset import Maturity
from trainer.fit import FIT
from trainer.train import TrainPlan

BEGIN_MS = 17_622 * DAY_MS  # 2018-04-01
STEP_MS = 600_000
ROWS = 40 * DAY_MS // STEP_MS
AS_OF_MS = BEGIN_MS + 40 * DAY_MS
PLAN = TrainPlan(
    as_of_ms=AS_OF_MS,
    created_at="2026-01-01T00:00:00Z",
    train_days=56,
    validation_days=7,
    maturity=Maturity(7 * DAY_MS),
    rows_min=1000,
    fraud_min=10,
    alerts_per_day_max=3,
    params=replace(FIT, rounds=20, max_bin=256, nthread=1),  # one thread: a busy machine makes two wait for each other
)


def table(seed: int = 3) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    is_fraud = random.random(ROWS) < 0.03
    vectors = random.normal(size=(ROWS, len(NAMES))).astype(np.float32)
    vectors[:, 0] = random.random(ROWS) * 100 + is_fraud * random.random(ROWS) * 200
    times = BEGIN_MS + np.arange(ROWS) * STEP_MS
    return pl.DataFrame(
        {
            "transaction_id": [f"t{i}" for i in range(ROWS)],
            "card_id": [f"c{i}" for i in range(ROWS)],
            "occurred_at_ms": times,
            "is_fraud": is_fraud,
            "known_at_ms": times + 7 * DAY_MS,
            **{name: vectors[:, i] for i, name in enumerate(NAMES)},
        }
    )


def lake_of(
    root: Path, rows: pl.DataFrame, feature_hash: str = FEATURE_HASH, labels: pl.DataFrame | None = None
) -> Lake:
    lake = Lake(root / "lake")
    vectors = rows.select("transaction_id", "card_id", "occurred_at_ms", *NAMES)
    lake.write_chunk("features", 0, (0, 1), vectors, {}, feature_hash)
    known = (rows if labels is None else labels).select(
        "transaction_id", "card_id", "occurred_at_ms", "is_fraud", "known_at_ms"
    )
    if known.height:
        lake.write_chunk("labels", 0, (0, 1), known.with_columns(refused=pl.lit(None, pl.String)), {})
    return lake


def silent(stage: str, percent: int, detail: str) -> None:
    """No progress."""
