"""Fitting: XGBoost with settings that were measured, each with its reason.

Rule 1. The same rows in the same order, seed and thread count give the same trees.
Rule 2. A model leaves this file as bytes of XGBoost's own UBJSON, never as a pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from fraud.features import NAMES
from fraud.model import Floats


@dataclass(frozen=True, slots=True)
class FitParams:
    """The settings of a fit; they stand in the manifest."""

    # Fraud is below 1 %. XGBoost's automatic base score makes the first hessians ~0.009, which makes min_child_weight a
    # hundred times stronger: AP .563 instead of .639 on the published rows.
    base_score: float = 0.5
    # 256 bins lose the tail of rare risk features: AP .746 (256), .760 (1024), .762 (4096).
    tree_method: str = "hist"
    max_bin: int = 4096
    # Shallow and slow with a strong ridge: few frauds, many rows; other values move AP by at most .002.
    max_depth: int = 3
    eta: float = 0.05
    rounds: int = 200
    reg_lambda: float = 10.0
    subsample: float = 0.8
    colsample_bytree: float = 0.8
    # No class weights: scores stay probabilities, and weights bring nothing here.
    objective: str = "binary:logistic"
    # rounds is the most; the log loss of the latest training rows must improve within that many more, or growing ends.
    patience: int = 20
    seed: int = 7
    # A number, not "all cores": the trees depend on it, and the live path runs on the same machine.
    nthread: int = 2

    def as_dict(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self)

    def of_booster(self) -> dict[str, Any]:
        """Those that are XGBoost's own."""
        return {name: value for name, value in self.as_dict().items() if name not in ("rounds", "patience")}


FIT: Final = FitParams()


def fit(vectors: Floats, is_fraud: Floats, params: FitParams = FIT, names: Sequence[str] = NAMES) -> xgb.Booster:
    """Fit vectors [rows, names] to 0/1 [rows]; NaN is `no value`."""
    return xgb.train(params.of_booster(), _matrix(vectors, is_fraud, params, names), num_boost_round=params.rounds)


def fit_stopped(
    vectors: Floats,
    is_fraud: Floats,
    later_vectors: Floats,
    later_is_fraud: Floats,
    params: FitParams = FIT,
    names: Sequence[str] = NAMES,
) -> tuple[xgb.Booster, int]:
    """As `fit`, with as many rounds as the later rows reward (early stopping by log loss); and how many these are."""
    rows = _matrix(vectors, is_fraud, params, names)
    later = xgb.DMatrix(later_vectors, label=later_is_fraud, feature_names=list(names), nthread=params.nthread)
    booster = xgb.train(
        params.of_booster() | {"eval_metric": "logloss"},
        rows,
        num_boost_round=params.rounds,
        evals=[(later, "later")],
        early_stopping_rounds=params.patience,
        verbose_eval=False,
    )
    rounds = booster.best_iteration + 1
    return booster[:rounds], rounds


def _matrix(vectors: Floats, is_fraud: Floats, params: FitParams, names: Sequence[str]) -> xgb.QuantileDMatrix:
    return xgb.QuantileDMatrix(
        vectors, label=is_fraud, feature_names=list(names), max_bin=params.max_bin, nthread=params.nthread
    )


def score(booster: xgb.Booster, vectors: Floats) -> Floats:
    """Scores in [0, 1], float32 [rows], by the call that the scorer makes."""
    scores: npt.NDArray[Any] = booster.inplace_predict(vectors, validate_features=False)
    return np.asarray(scores, np.float32)


def to_bytes(booster: xgb.Booster) -> bytes:
    """The model as UBJSON."""
    return bytes(booster.save_raw("ubj"))


def from_bytes(model: bytes) -> xgb.Booster:
    """A booster from verified UBJSON bytes; a damaged file can crash XGBoost, so verify its SHA-256 first."""
    return xgb.Booster({"nthread": FIT.nthread}, model_file=bytearray(model))
