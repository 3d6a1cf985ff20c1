"""Calibration: what turns a booster's scores into shares of fraud, folded into the booster's own numbers.

Rule 1. It is learned on rows that the booster has not learned from, and never on those that measure it.
Rule 2. The scorer knows nothing of it: the leaves are scaled and the base score is moved, so there is one file and one
        call, SHAP values stay exact, and no row changes its rank.
Rule 3. What cannot be learned safely is not applied, and the reason is kept.

With m the booster's margin (log-odds), Platt's scaling is sigmoid(slope * m + intercept): two numbers by maximum likelihood
with the smoothed targets (n1 + 1) / (n1 + 2) and 1 / (n0 + 2).

Source: Platt, "Probabilistic outputs for support vector machines", Advances in Large Margin Classifiers, 1999; its
numerics: Lin, Lin, Weng, "A note on Platt's probabilistic outputs", Machine Learning 68, 2007.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from fraud.model import Floats

Array = npt.NDArray[np.float64]

FRAUD_MIN: Final = 20
SLOPE_RANGE: Final = (0.2, 5.0)
_STEPS_MAX: Final = 100
_CLOSE: Final = 1e-10


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is done to a margin: slope * margin + intercept. reason: what it was learned from, or why it is none."""

    slope: float = 1.0
    intercept: float = 0.0
    applied: bool = False
    reason: str = "not calibrated"


def margins(scores: Floats) -> Array:
    """Log-odds, float64 [rows], of scores in [0, 1]; 0 and 1 are taken as the nearest float32 inside."""
    inside = np.clip(scores.astype(np.float64), 1e-9, 1 - 2.0**-24)
    return np.asarray(np.log(inside) - np.log1p(-inside), np.float64)


def platt(scores: Floats, is_fraud: Floats) -> Calibration:
    """The calibration that suits the scores of rows that the booster has not learned from; both [rows]."""
    fraud, genuine = int(is_fraud.sum()), int(len(is_fraud) - is_fraud.sum())
    if fraud < FRAUD_MIN or genuine < FRAUD_MIN:
        return Calibration(
            reason=f"not calibrated: {fraud} fraud and {genuine} genuine rows, {FRAUD_MIN} of each needed"
        )
    found = _most_likely(margins(scores), is_fraud.astype(np.float64), fraud, genuine)
    if found is None or not SLOPE_RANGE[0] <= found[0] <= SLOPE_RANGE[1]:
        slope = "none" if found is None else f"{found[0]:.3f}"
        return Calibration(reason=f"not calibrated: the slope is {slope}, outside {SLOPE_RANGE[0]} .. {SLOPE_RANGE[1]}")
    return Calibration(*found, applied=True, reason=f"learned from {fraud + genuine} rows with {fraud} fraud")


def _most_likely(margin: Array, is_fraud: Array, fraud: int, genuine: int) -> tuple[float, float] | None:
    """Slope and intercept by Newton's method with halved steps; None when it does not come to rest."""
    target = np.where(is_fraud > 0, (fraud + 1) / (fraud + 2), 1 / (genuine + 2))
    inputs = np.column_stack([margin, np.ones_like(margin)])
    at = np.array([1.0, 0.0])
    loss = _loss(inputs @ at, target)
    for _ in range(_STEPS_MAX):
        p = 1 / (1 + np.exp(-(inputs @ at)))
        gradient = inputs.T @ (p - target)
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step, share = np.linalg.solve(hessian, gradient), 1.0
        while (next_loss := _loss(inputs @ (at - share * step), target)) > loss and share > 1e-6:
            share /= 2
        if loss - next_loss <= _CLOSE * max(1.0, abs(loss)):
            return (float(at[0]), float(at[1])) if np.isfinite(at).all() else None
        at, loss = at - share * step, next_loss
    return None


def _loss(margin: Array, target: Array) -> float:
    return float(np.sum(np.logaddexp(0.0, margin) - target * margin))


def folded(booster: xgb.Booster, calibration: Calibration) -> xgb.Booster:
    """The booster whose margin is slope * margin + intercept. Raises ValueError when its format is not the known one."""
    if not calibration.applied:
        return booster
    model = json.loads(bytes(booster.save_raw("json")))
    parameters = model["learner"]["learner_model_param"]
    base = json.loads(parameters["base_score"])
    base = base[0] if isinstance(base, list) and len(base) == 1 else base
    if model["learner"]["objective"]["name"] != "binary:logistic" or not isinstance(base, float) or not 0 < base < 1:
        raise ValueError(f"base_score {parameters['base_score']!r} of this booster is not one probability")
    margin = calibration.slope * float(np.log(base / (1 - base))) + calibration.intercept
    parameters["base_score"] = f"[{float(1 / (1 + np.exp(-margin)))!r}]"
    for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
        _scale_leaves(tree, calibration.slope)
    return xgb.Booster({"nthread": 1}, model_file=bytearray(json.dumps(model).encode()))


def _scale_leaves(tree: dict[str, Any], slope: float) -> None:
    """Leaves keep their value in `split_conditions`, and all nodes theirs in `base_weights`."""
    for node, left in enumerate(tree["left_children"]):
        if left == -1:
            tree["split_conditions"][node] *= slope
    tree["base_weights"] = [weight * slope for weight in tree["base_weights"]]


def brier(is_fraud: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Mean squared difference of score and truth, 0 .. 1, lower is better. Source: Brier, Monthly Weather Review 78, 1950."""
    return float(np.mean((np.asarray(score, np.float64) - np.asarray(is_fraud, np.float64)) ** 2))


def calibration_error(is_fraud: npt.ArrayLike, score: npt.ArrayLike, bins: int = 15) -> float:
    """Expected calibration error, 0 .. 1: mean difference of mean score and share of fraud over bins of equally many rows.

    Source: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
    """
    score, truth = np.asarray(score, np.float64), np.asarray(is_fraud, np.float64)
    order = np.argsort(score, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(abs(score[part].mean() - truth[part].mean()) * len(part) for part in parts) / max(len(score), 1))
