"""The judgement of a run: every rung of the ladder on the validation rows, and what is wrong with the data.

Rule 1. Nothing is learned here from the rows that measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import xgboost as xgb

from fraud.decision import Costs
from fraud.features import NAMES
from fraud.model import Floats
from trainer.calibration import calibration_error
from trainer.dataset import Rows, Split, TrainRefusedError
from trainer.evaluate import Scores, measure
from trainer.ladder import RUNGS, SERVED, Climbed, rungs
from trainer.measures import CONFIDENCE, DRAWS, MEASURES, Interval, JudgedRows, Measured, measured
from trainer.promise import known_frauds
from trainer.soundness import constant_features, fault_lines, missing_days, silent_features

SHAP_ROWS: Final = 1_000
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Judgement:
    """All scored validation rows, those without known cards, and what was measured on the latter.

    scored, judged: the validation rows with `score` (that of the rung that would be served) and one column per rung.
    """

    scored: pl.DataFrame
    judged: pl.DataFrame
    scores: Scores
    rows: JudgedRows
    ladder: Measured

    def score_of(self, rung: str) -> Floats:
        """A rung's scores of the judged rows."""
        return self.judged[rung].to_numpy()


def judge(climbed: Climbed, learned: Rows, rows: Rows, validation: Rows, split: Split, plan: Budget) -> Judgement:
    """Measure every rung on the validation rows."""
    by_rung = rungs(learned, climbed, validation.vectors)
    scored = validation.frame.with_columns(
        pl.Series("score", by_rung[SERVED]), *[pl.Series(name, score) for name, score in by_rung.items()]
    )
    scores, judged = measure(scored, known_frauds(rows, split))
    measured_rows = JudgedRows.of(judged, plan.alerts_per_day_max, plan.costs)
    ladder = measured(measured_rows, {name: judged[name].to_numpy() for name in RUNGS}, plan.seed)
    return Judgement(scored, judged, scores, measured_rows, ladder)


@dataclass(frozen=True, slots=True)
class Budget:
    """What measuring needs beside the rows."""

    alerts_per_day_max: int
    costs: Costs
    seed: int


@dataclass(frozen=True, slots=True)
class Soundness:
    """faults: sentences, each of which keeps a model from becoming champion; constant: features that never varied."""

    faults: tuple[str, ...]
    constant: tuple[str, ...]


def soundness(
    learned: Rows, validation: Rows, times_ms: np.ndarray[Any, np.dtype[np.int64]], to_ms: int, champion: Floats | None
) -> Soundness:
    """What is wrong with the rows; champion: a sample of the vectors that it learned from.

    Raises TrainRefusedError when no feature varies at all.
    """
    vectors = learned.vectors
    constant = constant_features(vectors)
    if len(constant) == len(NAMES):
        raise TrainRefusedError(
            f"training period: none of the {len(NAMES)} features varies over {len(learned)} rows, so there is nothing "
            "to learn: look at what the stream wrote with `fraudstream topics tail features`"
        )
    fallen = silent_features(vectors, validation.vectors)
    gone = [] if champion is None else silent_features(champion, vectors)
    return Soundness(tuple(fault_lines(missing_days(times_ms, to_ms), fallen, gone)), tuple(constant))


def shap_importances(booster: xgb.Booster, vectors: Floats) -> list[tuple[str, float]]:
    """Mean |SHAP value| of each feature in log-odds, largest first, over at most SHAP_ROWS rows at equal distances.

    Source: Lundberg, Erion, Chen and others, "From local explanations to global understanding with explainable AI for
    trees", Nature Machine Intelligence 2, 2020; exact, by XGBoost's own pred_contribs.
    """
    sample = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), SHAP_ROWS)).astype(int)]
    values = booster.predict(xgb.DMatrix(sample, feature_names=list(NAMES), nthread=2), pred_contribs=True)
    means = np.abs(np.asarray(values)[:, :-1]).mean(axis=0)
    return sorted(((name, float(mean)) for name, mean in zip(NAMES, means, strict=True)), key=lambda p: (-p[1], p[0]))


def ladder_numbers(judgement: Judgement) -> dict[str, Any]:
    """The ladder as it stands in metrics.json: each measure with its interval, and what the served rung has more."""
    ladder = judgement.ladder
    return {
        "served": SERVED,
        "interval": f"{CONFIDENCE:.0%} of {DRAWS} draws of cards with replacement, the same for all models",
        "alerts_per_day_max": judgement.rows.alerts_per_day_max,
        "costs_minor": judgement.rows.costs,
        "models": {
            name: {
                **{each: _numbers(ladder.interval(name, each)) for each in MEASURES},
                "calibration_error": _rounded(
                    calibration_error(judgement.judged["is_fraud"].to_numpy(), judgement.score_of(name))
                ),
                "served_has_more": {each: _numbers(ladder.difference(SERVED, name, each)) for each in MEASURES},
            }
            for name in RUNGS
        },
    }


def earned(ladder: Measured, below: Sequence[str] = RUNGS[:2]) -> list[str]:
    """For each simpler model a sentence: whether the boosted trees earn their place above it."""
    lines = []
    for name in below:
        more = ladder.difference(SERVED, name, "ap")
        numbers = f"AP {more.value:+.3f} ({more.low:+.3f} .. {more.high:+.3f})"
        won = f"The trees earn their place above {name}: {numbers}."
        lines.append(won if more.low > 0 else f"The trees do NOT beat {name} by more than noise: {numbers}.")
    return lines


def _numbers(interval: Interval) -> dict[str, float | None]:
    return {"value": _rounded(interval.value), "low": _rounded(interval.low), "high": _rounded(interval.high)}


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, _DIGITS)
