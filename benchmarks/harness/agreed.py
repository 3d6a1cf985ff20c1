"""What every subject computes and scores alike: the agreed features, and one forest over them.

Rule 1. The agreed features are columns of fraud/features.py: their definition is that of the product, nobody's copy.
Rule 2. One forest: the peers load it over the agreed columns, ours is the same trees with the columns renumbered to all
        features. Equal features give equal scores, bit for bit; a check compares them before anything is timed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xgboost as xgb

from adapters.model_store import Aliases, ModelStore
from benchmarks.harness.rows import RowCursor
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import Floats, Gate, Manifest, Promise, TrainedOn, canaries_of, file_hashes
from trainer.backfill import backfill
from trainer.fit import FIT

WINDOWS: Final = ("1h", "24h", "7d", "30d")
AGREED: Final = (
    "request_amount_minor",
    *(
        f"card_{of}_{w}"
        for w in WINDOWS
        for of in ("count", "sum_amount_minor", "mean_amount_minor", "max_amount_minor")
    ),
    *(f"terminal_count_{w}" for w in ("1h", "24h", "7d")),
)
PLACES: Final = [NAMES.index(name) for name in AGREED]
TRAINING_ROWS: Final = 100_000
TRAINING_SEED: Final = 2  # another world than the load's
ALERT_SHARE: Final = 0.01  # of the training rows score at or above the threshold, about a real alert budget
CREATED_AT: Final = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class AgreedModel:
    """The forest: trees over the agreed columns, the same over all features, and the threshold of an alert."""

    agreed: bytes
    whole: bytes
    threshold: float
    canaries: Floats


def fitted(rows: int = TRAINING_ROWS, rounds: int = FIT.rounds) -> AgreedModel:
    """Fit on a world of 5,000 cards with the trainer's settings, on one thread; vectors by the product's fold."""
    params = {**FIT.of_booster(), "nthread": 1}
    table = RowCursor(5_000, TRAINING_SEED).take(rows)
    done = backfill(table.drop("is_fraud", "scenario"))
    vectors = np.ascontiguousarray(done.vectors.drop("transaction_id").to_numpy(), np.float32)
    labels = table.filter(table["transaction_id"].is_in(done.vectors["transaction_id"].implode()))[
        "is_fraud"
    ].to_numpy()
    matrix = xgb.QuantileDMatrix(vectors[:, PLACES], label=labels, max_bin=FIT.max_bin, nthread=1)
    small = xgb.train(params, matrix, num_boost_round=rounds)
    scores = np.asarray(small.inplace_predict(vectors[:, PLACES]), np.float32)
    whole = renumbered(bytes(small.save_raw("json")))
    return AgreedModel(bytes(small.save_raw("ubj")), whole, float(np.quantile(scores, 1 - ALERT_SHARE)), vectors[-64:])


def renumbered(trees: bytes) -> bytes:
    """XGBoost JSON over the agreed columns as UBJSON over all features: the same trees, split on the same features."""
    model: dict[str, Any] = json.loads(trees)
    learner = model["learner"]
    learner["learner_model_param"]["num_feature"] = str(len(NAMES))
    learner["feature_names"], learner["feature_types"] = [], []
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["tree_param"]["num_feature"] = str(len(NAMES))
        leaves = [child == -1 for child in tree["left_children"]]
        tree["split_indices"] = [
            0 if leaf else PLACES[place] for leaf, place in zip(leaves, tree["split_indices"], strict=True)
        ]
    booster = xgb.Booster({"nthread": 1}, model_file=bytearray(json.dumps(model).encode()))
    return bytes(booster.save_raw("ubj"))


def publish(model: AgreedModel, models: Path) -> str:
    """Make it the champion of a registry; return its version."""
    booster = xgb.Booster({"nthread": 1}, model_file=bytearray(model.whole))
    scores = np.asarray(booster.inplace_predict(model.canaries, validate_features=False), np.float32)
    files = {"model.ubj": model.whole, "metrics.json": b"{}", "card.md": b"# The benchmark's forest\n"}
    manifest = Manifest(
        as_of_ms=0,
        created_at=CREATED_AT,
        feature_hash=FEATURE_HASH,
        feature_names=NAMES,
        xgboost_version=xgb.__version__,
        files=file_hashes(files),
        trained_on=TrainedOn(0, 0, TRAINING_ROWS, 0),
        labels_known_by_ms=0,
        params=FIT.as_dict(),
        promise=Promise(None, None, None, 0, 0, 0, 0),
        thresholds={"review": model.threshold},
        canaries=canaries_of(model.canaries, scores),
        gate=Gate("promoted", "the benchmark's forest"),
    )
    store = ModelStore(models)
    version = store.publish(manifest, files)
    store.set_aliases(store.aliases(), Aliases(champion=version))
    return version
