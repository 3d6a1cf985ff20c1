"""The ladder of models: rules, logistic regression, boosted trees, boosted trees calibrated. Each rung must earn its place.

Rule 1. Every rung learns from the same rows and is measured on the same later ones; only the last is ever served.
Rule 2. Boosted trees stop growing when the latest part of the training period stops gaining; what calibrates them is that
        part too, and neither has anything to do with the rows that measure.
Rule 3. Logistic regression gets a fair start: each feature as sign(x) * log(1 + |x|), standardised by the training rows and
        cut at 10 deviations; no value (NaN) counts as the mean and has a column of its own. Of more than 200,000 rows it
        learns from every second, third, ...: two hundred numbers need no more, and the run keeps its memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from fraud import rules
from fraud.features import NAMES
from fraud.model import Floats
from fraud.windows import DAY_MS
from trainer.calibration import Calibration, folded, platt
from trainer.dataset import Rows
from trainer.fit import FitParams, fit, fit_stopped, score

if TYPE_CHECKING:  # loads for seconds on a busy machine: a run that is refused need not wait for it
    from sklearn.linear_model import LogisticRegression

RULES: Final = "rules"
LOGISTIC: Final = "logistic"
BOOSTED: Final = "xgboost"
SERVED: Final = "xgboost_calibrated"
RUNGS: Final = (RULES, LOGISTIC, BOOSTED, SERVED)

STOP_DAYS_MAX: Final = 7
STOP_SHARE: Final = 0.2
STOP_FRAUD_MIN: Final = 10
LOGISTIC_ROWS_MAX: Final = 200_000
_CUT: Final = np.float32(10)


@dataclass(frozen=True, slots=True)
class Climbed:
    """The boosted trees of one training period: as they grew, and calibrated; how many rounds, and why that many."""

    raw: xgb.Booster
    served: xgb.Booster
    calibration: Calibration
    rounds: int
    stopping: str


class Fits(Protocol):
    """The fits of one period's rows."""

    def whole(self) -> xgb.Booster:
        """Trees of all rows, as many as the settings say."""

    def stopped(self, later_from_ms: int) -> tuple[xgb.Booster, int]:
        """Trees of the rows before later_from_ms, as many as the others reward; and how many these are."""


@dataclass(frozen=True, slots=True)
class LocalFits:
    """Fits in this process, of rows in order of time: times_ms and is_fraud [rows], vectors [rows, names]."""

    times_ms: npt.NDArray[np.int64]
    vectors: Floats
    is_fraud: Floats
    params: FitParams
    names: Sequence[str] = NAMES

    @classmethod
    def of(cls, rows: Rows, params: FitParams) -> LocalFits:
        """The fits of rows that are here."""
        return cls(rows.frame["occurred_at_ms"].to_numpy(), rows.vectors, rows.is_fraud, params)

    def whole(self) -> xgb.Booster:
        """Trees of all rows."""
        return fit(self.vectors, self.is_fraud, self.params, self.names)

    def stopped(self, later_from_ms: int) -> tuple[xgb.Booster, int]:
        """Trees of the earlier rows, stopped by the later ones."""
        at, vectors, is_fraud = int(np.searchsorted(self.times_ms, later_from_ms)), self.vectors, self.is_fraud
        return fit_stopped(vectors[:at], is_fraud[:at], vectors[at:], is_fraud[at:], self.params, self.names)


def climb(learned: Rows, to_ms: int, params: FitParams, fits: Fits | None = None) -> Climbed:
    """Grow trees on all but the latest part of `learned`, which ends before to_ms; stop and calibrate by that part.

    fits: those of these very rows, where they are not made in this process.
    """
    here = LocalFits.of(learned, params)
    return _climbed(fits or here, here, to_ms)


def grow(
    times_ms: npt.NDArray[np.int64],
    vectors: Floats,
    is_fraud: Floats,
    to_ms: int,
    params: FitParams,
    names: Sequence[str],
) -> Climbed:
    """As `climb`, of rows in order of time: times_ms and is_fraud [rows], vectors [rows, names]."""
    here = LocalFits(times_ms, vectors, is_fraud, params, names)
    return _climbed(here, here, to_ms)


def _climbed(fits: Fits, here: LocalFits, to_ms: int) -> Climbed:
    times_ms, vectors, is_fraud, params = here.times_ms, here.vectors, here.is_fraud, here.params
    later_from_ms = to_ms - int(min(STOP_DAYS_MAX * DAY_MS, STOP_SHARE * (to_ms - int(times_ms[0]))))
    later = slice(int(np.searchsorted(times_ms, later_from_ms)), len(times_ms))
    earlier = slice(0, later.start)
    later_rows, later_fraud = len(times_ms) - later.start, int(is_fraud[later].sum())
    if min(int(is_fraud[earlier].sum()), later_fraud) < STOP_FRAUD_MIN or later_fraud == later_rows:
        booster = fits.whole()
        why = f"not stopped early: {later_fraud} fraud in the latest {later_rows} rows, {STOP_FRAUD_MIN} needed"
        return Climbed(booster, booster, Calibration(reason=f"not calibrated: {why}"), params.rounds, why)
    booster, rounds = fits.stopped(later_from_ms)
    calibration = platt(score(booster, vectors[later]), is_fraud[later])
    why = f"{rounds} of at most {params.rounds} rounds, by the log loss of the latest {later_rows} training rows"
    return Climbed(booster, folded(booster, calibration), calibration, rounds, why)


def rungs(learned: Rows, climbed: Climbed, vectors: Floats) -> dict[str, Floats]:
    """The scores of every rung for vectors [rows, features], float32 [rows], by name in the order of RUNGS."""
    return {
        RULES: rules.score(rules.fired(vectors)),
        LOGISTIC: Logistic.fitted(learned.vectors, learned.is_fraud).score(vectors),
        BOOSTED: score(climbed.raw, vectors),
        SERVED: score(climbed.served, vectors),
    }


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logistic regression over standardised features; `missing`: columns whose absence is an input of its own."""

    mean: Floats
    deviation: Floats
    missing: npt.NDArray[np.intp]
    model: LogisticRegression

    @classmethod
    def fitted(cls, vectors: Floats, is_fraud: Floats) -> Logistic:
        """Learn from vectors [rows, features] and 0/1 [rows]."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        every = -(-len(vectors) // LOGISTIC_ROWS_MAX)
        vectors, is_fraud = vectors[::every], is_fraud[::every]
        absent = np.isnan(vectors)
        shaped = _shaped(vectors)
        counts = np.maximum((~absent).sum(axis=0), 1)
        mean = np.where(absent, 0, shaped).sum(axis=0, dtype=np.float64) / counts
        spread = np.where(absent, 0, shaped - mean.astype(np.float32))
        deviation = np.sqrt(np.square(spread).sum(axis=0, dtype=np.float64) / counts)
        deviation[deviation < 1e-6] = np.inf  # a constant feature says nothing
        made = cls(
            mean.astype(np.float32), deviation.astype(np.float32), _telling(absent), LogisticRegression(
                C=1.0, solver="newton-cholesky", max_iter=50, tol=1e-3
            )
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # its measures stand beside it: they tell
            made.model.fit(made._inputs(vectors), is_fraud)
        return made

    def score(self, vectors: Floats) -> Floats:
        """Probability of fraud, float32 [rows]."""
        return np.asarray(self.model.predict_proba(self._inputs(vectors))[:, 1], np.float32)

    def _inputs(self, vectors: Floats) -> Floats:
        scaled = (_shaped(vectors) - self.mean) / self.deviation
        np.nan_to_num(np.clip(scaled, -_CUT, _CUT, out=scaled), copy=False)
        return np.hstack([scaled, np.isnan(vectors[:, self.missing]).astype(np.float32)])


def _shaped(vectors: Floats) -> Floats:
    """sign(x) * log(1 + |x|): amounts and counts have long tails."""
    return np.asarray(np.copysign(np.log1p(np.abs(vectors)), vectors), np.float32)


def _telling(absent: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Columns that are sometimes without a value; of those that are so in the same rows, the first."""
    some = np.flatnonzero(absent.any(axis=0) & ~absent.all(axis=0))
    _, first = np.unique(np.packbits(absent[:, some], axis=0), axis=1, return_index=True)
    return some[np.sort(first)]
