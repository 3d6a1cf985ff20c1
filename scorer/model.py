"""A model in memory: verified, checked against its canaries, ready to score.

Rule 1. Only bytes whose SHA-256 was verified come here, and even then a child process loads them first (verify.py).
Rule 2. What does not reproduce its canaries is refused: to float32's last digits (1e-6), which all machines keep.
Rule 3. XGBoost's own format, never a pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from adapters.model_store import StoredModel
from fraud.batch_features import BATCH_HASH, BATCH_KIND, BATCH_NAMES
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import REVIEW, Floats, ModelRefusedError, check_served_by

CANARY_TOLERANCE: Final = 1e-6
THREADS: Final = (
    1  # the live path shares the machine: 2.0-2.5 us per row on one core, two cost more CPU for small batches
)


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model. review_threshold: the lowest score that may alert, from its manifest."""

    version: str
    review_threshold: float
    booster: xgb.Booster

    def score(self, vectors: Floats) -> Floats:
        """Probability of fraud, float32 [rows]; vectors: float32 [rows, features in the order of its path]."""
        return _score(self.booster, vectors)

    def contributions(self, vectors: Floats) -> Floats:
        """Exact SHAP values in log-odds, float32 [rows, features + bias]; about 300 times the cost of a score."""
        rows = xgb.DMatrix(vectors, missing=np.nan, nthread=THREADS)
        values: npt.NDArray[Any] = self.booster.predict(rows, pred_contribs=True, validate_features=False)
        return np.asarray(values, np.float32)


def _score(booster: xgb.Booster, vectors: Floats) -> Floats:
    scores: npt.NDArray[Any] = booster.inplace_predict(vectors, validate_features=False)
    return np.asarray(scores, np.float32)


def load(stored: StoredModel, kind: str | None = None) -> Model:
    """Load a verified version and run its canaries; kind: what the role takes, None: any. Raises ModelRefusedError with the remedy."""
    manifest = stored.manifest
    if kind not in (None, manifest.kind):
        raise ModelRefusedError(f"{stored.version} is of kind {manifest.kind}, the role takes {kind}: promote another")
    feature_hash, names = (BATCH_HASH, BATCH_NAMES) if manifest.kind == BATCH_KIND else (FEATURE_HASH, NAMES)
    check_served_by(manifest, feature_hash, names, xgb.__version__)
    threshold = manifest.thresholds.get(REVIEW)
    if threshold is None or not 0 <= threshold <= 1:
        raise ModelRefusedError(f"{stored.version}: thresholds.{REVIEW} is {threshold}, not in [0, 1]: train again")
    try:
        booster = xgb.Booster({"nthread": THREADS}, model_file=bytearray(stored.model))
        columns = booster.num_features()
        if columns != len(names):
            raise ModelRefusedError(f"{stored.version} takes {columns} features, there are {len(names)}: train again")
        scores = _score(booster, manifest.canary_vectors())
    except xgb.core.XGBoostError as error:
        first_line = str(error).strip().splitlines()[0]
        raise ModelRefusedError(f"{stored.version}: XGBoost cannot load it ({first_line}): train again") from error
    _refuse_other_scores(stored.version, scores, manifest.canary_scores())
    return Model(stored.version, threshold, booster)


def _refuse_other_scores(version: str, scores: Floats, promised: Floats) -> None:
    same = np.abs(scores - promised) <= CANARY_TOLERANCE
    if not same.all():
        worst = int(np.flatnonzero(~same)[0])
        raise ModelRefusedError(
            f"{version} scores canary {worst} as {scores[worst]}, it was published with {promised[worst]}: train again"
        )
