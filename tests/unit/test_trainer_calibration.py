"""Calibration: what Platt's scaling finds, and that the folded booster is the calibrated one, bit for bit servable.

Rule 1. The expected score is computed beside the code under test, from the booster's own unfolded scores.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xgboost as xgb

from fraud.features import NAMES
from fraud.model import Floats
from trainer.calibration import Calibration, brier, calibration_error, folded, margins, platt
from trainer.evaluate import average_precision
from trainer.fit import FIT, fit, fit_stopped, from_bytes, score, to_bytes

PARAMS = replace(FIT, rounds=30, max_bin=64, nthread=1)


@pytest.fixture(scope="module")
def vectors() -> Floats:
    return np.random.default_rng(2).normal(size=(3000, len(NAMES))).astype(np.float32)


@pytest.fixture(scope="module")
def is_fraud(vectors: Floats) -> Floats:
    noise = np.random.default_rng(3).normal(size=len(vectors))
    return (vectors[:, 0] + vectors[:, 1] + noise > 2.5).astype(np.float32)


@pytest.fixture(scope="module")
def booster(vectors: Floats, is_fraud: Floats) -> xgb.Booster:
    return fit(vectors[:2000], is_fraud[:2000], PARAMS)


def test_a_folded_booster_scores_as_the_calibrated_margin_says_and_survives_its_bytes(
    booster: xgb.Booster, vectors: Floats
) -> None:
    calibration = Calibration(1.7, -0.4, applied=True)
    model = folded(booster, calibration)
    expected = 1 / (1 + np.exp(-(1.7 * margins(score(booster, vectors)) - 0.4)))
    assert np.abs(score(model, vectors) - expected).max() < 2e-6
    assert np.abs(score(booster, vectors) - expected).max() > 0.01  # the control: without folding it is another model
    assert score(from_bytes(to_bytes(model)), vectors).tobytes() == score(model, vectors).tobytes()


def test_reasons_of_a_folded_booster_still_add_up_to_its_score(booster: xgb.Booster, vectors: Floats) -> None:
    model = folded(booster, Calibration(0.6, 0.3, applied=True))
    rows = xgb.DMatrix(vectors[:50], feature_names=list(NAMES), nthread=1)
    total = model.predict(rows, pred_contribs=True).sum(axis=1)
    assert np.abs(total - margins(score(model, vectors[:50]))).max() < 1e-4


def test_calibration_does_not_change_the_order_of_the_rows(
    booster: xgb.Booster, vectors: Floats, is_fraud: Floats
) -> None:
    model = folded(booster, Calibration(2.5, -1.0, applied=True))
    one, other = (average_precision(is_fraud, score(each, vectors)) for each in (booster, model))
    assert one == pytest.approx(other, abs=1e-6)


def test_platt_finds_the_distortion_that_was_put_in() -> None:
    random = np.random.default_rng(5)
    margin = random.normal(-3, 2, 60_000)
    is_fraud = (random.random(60_000) < 1 / (1 + np.exp(-margin))).astype(np.float32)
    distorted = (1 / (1 + np.exp(-(margin - 1) / 2))).astype(np.float32)
    found = platt(distorted, is_fraud)
    assert found.applied
    assert found.slope == pytest.approx(2, abs=0.05)
    assert found.intercept == pytest.approx(1, abs=0.08)
    repaired = (1 / (1 + np.exp(-(found.slope * margins(distorted) + found.intercept)))).astype(np.float32)
    assert brier(is_fraud, repaired) < brier(is_fraud, distorted)
    assert calibration_error(is_fraud, repaired) < 0.01 < calibration_error(is_fraud, distorted)


@pytest.mark.parametrize(
    ("case", "words"), [("few frauds", "19 fraud"), ("all fraud", "0 genuine"), ("upside down", "the slope is -")]
)
def test_what_cannot_be_calibrated_safely_is_left_alone_with_the_reason(case: str, words: str) -> None:
    scores = np.linspace(0.01, 0.6, 2000).astype(np.float32)
    is_fraud = np.zeros(2000, np.float32)
    if case == "few frauds":
        is_fraud[-19:] = 1
    elif case == "all fraud":
        is_fraud[:] = 1
    else:
        is_fraud[:200] = 1
    found = platt(scores, is_fraud)
    assert not found.applied
    assert (found.slope, found.intercept) == (1.0, 0.0)
    assert words in found.reason


def test_a_calibration_that_is_not_applied_changes_nothing(booster: xgb.Booster) -> None:
    assert folded(booster, Calibration(3.0, 1.0, applied=False)) is booster


def test_trees_stop_growing_when_the_later_rows_gain_nothing(vectors: Floats, is_fraud: Floats) -> None:
    random = np.random.default_rng(9)
    eager = replace(PARAMS, rounds=120, eta=0.3, patience=5)
    noise = (random.random(len(vectors)) < 0.2).astype(np.float32)
    _, rounds_of_noise = fit_stopped(vectors[:2000], noise[:2000], vectors[2000:], noise[2000:], eager)
    booster, rounds = fit_stopped(vectors[:2000], is_fraud[:2000], vectors[2000:], is_fraud[2000:], eager)
    assert rounds_of_noise < rounds < 120
    assert booster.num_boosted_rounds() == rounds
