"""Small real models in a real registry, for the tests of the scorer.

Rule 1. Models are fitted here and now: a canary's score is what this machine's XGBoost gives.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import xgboost as xgb

from adapters.model_store import Aliases, ModelStore
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import Floats, Gate, Manifest, Promise, TrainedOn, canaries_of, file_hashes

DAY_MS = 86_400_000


@cache
def vectors() -> Floats:
    rng = np.random.default_rng(5)
    rows = rng.random((400, len(NAMES))).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


@cache
def trees(rounds: int) -> bytes:
    labels = (np.nan_to_num(vectors()[:, NAMES.index("card_count_1h")]) > 0.5).astype(np.float32)
    params = {"objective": "binary:logistic", "base_score": 0.5, "max_depth": 3, "nthread": 1}
    booster = xgb.train(params, xgb.DMatrix(vectors(), label=labels), num_boost_round=rounds)
    return bytes(booster.save_raw("ubj"))


def scores_of(model: bytes) -> Floats:
    booster = xgb.Booster({"nthread": 1}, model_file=bytearray(model))
    return np.asarray(booster.inplace_predict(vectors()[:16], validate_features=False), np.float32)


def manifest_of(files: dict[str, bytes], rounds: int) -> Manifest:
    return Manifest(
        as_of_ms=17_000 * DAY_MS,
        created_at="2026-01-01T00:00:00Z",
        feature_hash=FEATURE_HASH,
        feature_names=NAMES,
        xgboost_version=xgb.__version__,
        files=file_hashes(files),
        trained_on=TrainedOn(0, DAY_MS, 100, 3),
        labels_known_by_ms=DAY_MS,
        params={"rounds": rounds},
        promise=Promise(0.9, 0.6, 0.3, 0, DAY_MS, 10, 1),
        thresholds={"review": 0.25},
        canaries=canaries_of(vectors()[:16], scores_of(trees(rounds))),
        gate=Gate("promoted", "no champion before it"),
    )


def files_of(rounds: int) -> dict[str, bytes]:
    return {"model.ubj": trees(rounds), "card.md": b"# card", "metrics.json": b"{}"}


def publish(root: Path, rounds: int = 3, files: dict[str, bytes] | None = None, **changes: object) -> str:
    """Publish a whole version, with `changes` to its manifest: a version that no hash can tell from a good one."""
    content = files_of(rounds) if files is None else files
    manifest = msgspec.structs.replace(manifest_of(content, rounds), **changes)
    return ModelStore(root).publish(manifest, content)


def point_to(root: Path, version: str) -> None:
    """Let the alias name a version without the registry's own check."""
    store = ModelStore(root)
    store.set_aliases(store.aliases(), Aliases(champion=version))
