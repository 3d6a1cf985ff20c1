"""Why a model gave a score: exact SHAP values of one vector.

Rule 1. The version that decided explains its own score; the newest VERSIONS_KEPT versions stay in memory.
Rule 2. Only a verified version is loaded, in XGBoost's own format.

SHAP values of trees: Lundberg et al., "From local explanations to global understanding with explainable AI for trees",
Nature Machine Intelligence 2020.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from adapters.model_store import ModelStore
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import ModelRefusedError

VERSIONS_KEPT: Final = 2


@dataclass(frozen=True, slots=True)
class Explanation:
    """Log-odds of a vector: what no feature says (bias), and what each feature adds, by name."""

    bias: float
    contributions: dict[str, float]


class Explainer:
    """Explains vectors by the versions of a registry, from any thread."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._boosters: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def explain(self, version: str, vector: npt.NDArray[np.float32]) -> Explanation:
        """vector: float32 [features in NAMES order]. Raises ModelRefusedError when the version cannot be used."""
        import xgboost as xgb  # 100 MB that a console without an opened alert never needs

        with self._lock:
            booster = self._booster(version)
            row = xgb.DMatrix(vector.reshape(1, -1), missing=np.nan, nthread=1)
            values = booster.predict(row, pred_contribs=True, validate_features=False)[0].tolist()
        return Explanation(values[-1], dict(zip(NAMES, values[:-1], strict=True)))

    def _booster(self, version: str) -> Any:
        import xgboost as xgb

        if version not in self._boosters:
            if not self._models.exists():
                raise ModelRefusedError(f"there is no registry at {self._models}")
            stored = ModelStore(self._models).read(version)
            if stored.manifest.feature_hash != FEATURE_HASH:
                raise ModelRefusedError(f"{version} was trained on other features than this code computes")
            self._boosters[version] = xgb.Booster({"nthread": 1}, model_file=bytearray(stored.model))
            if len(self._boosters) > VERSIONS_KEPT:
                self._boosters.popitem(last=False)
        self._boosters.move_to_end(version)
        return self._boosters[version]
