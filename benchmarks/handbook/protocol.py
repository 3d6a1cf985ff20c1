"""The Handbook's protocol: a training window, a delay in which labels mature, a test week, three measures.

Rule 1. Nothing younger than the delay is used: rows train when their label is known as the test week begins.
Rule 2. A card whose fraud became known before a test day began leaves the test from that day on; only frauds of the 7 days
        before the delay and of the delay itself make a card known.
Rule 3. The same rows, settings and thread count give the same numbers.

      train_days            7 days of them        label delay         test week
    |-----------------[--------------------)|------------------)|------------------)
                            make cards known                     test_from
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import xgboost as xgb

from benchmarks.handbook.published import Row
from benchmarks.handbook.rows import BadDataError, Floats
from fraud.windows import DAY_MS
from trainer.evaluate import measure
from trainer.fit import FIT, FitParams

WEEK_MS: Final = 7 * DAY_MS
TRAIN_DAYS_MIN: Final = 7
_OF_BOOSTER: Final = frozenset(
    [
        "objective",
        "base_score",
        "tree_method",
        "max_bin",
        "max_depth",
        "eta",
        "reg_lambda",
        "subsample",
        "colsample_bytree",
        "seed",
        "nthread",
    ]
)


@dataclass(frozen=True, slots=True)
class Table:
    """Labelled rows in order of time, and their vectors float32 [rows, names]."""

    rows: pl.DataFrame
    vectors: Floats
    names: tuple[str, ...]

    def between(self, from_ms: int, to_ms: int) -> slice:
        """The positions of rows with from_ms <= occurred_at_ms < to_ms."""
        first, after = np.searchsorted(self.rows["occurred_at_ms"].to_numpy(), [from_ms, to_ms]).tolist()
        return slice(first, after)

    def labels(self, where: slice) -> Floats:
        """1.0 for fraud, 0.0 for genuine."""
        return self.rows["is_fraud"][where].to_numpy().astype(np.float32)


@dataclass(frozen=True, slots=True)
class Week:
    """One test week and the periods before it, event times in ms."""

    test_from_ms: int
    delay_ms: int
    train_days: int

    @property
    def test_to_ms(self) -> int:
        """The end of the test week."""
        return self.test_from_ms + WEEK_MS

    @property
    def train_to_ms(self) -> int:
        """Where the training window ends and the delay begins."""
        return self.test_from_ms - self.delay_ms

    @property
    def train_from_ms(self) -> int:
        """Where the training window begins."""
        return self.train_to_ms - self.train_days * DAY_MS


@dataclass(frozen=True, slots=True)
class Outcome:
    """Measures of one test week, and what they were measured on."""

    measures: Row
    train_rows: int
    train_fraud: int
    test_rows: int
    test_fraud: int


def weeks_of(
    rows: pl.DataFrame, dates: Sequence[tuple[str, int]], train_days: int | None, delay_days: float
) -> list[Week]:
    """The weeks that begin at `dates` (text, ms); train_days None: 56, or what the rows have. Raises BadDataError."""
    first = int(rows["occurred_at_ms"][0]) // DAY_MS * DAY_MS
    after = int(rows["occurred_at_ms"][-1]) // DAY_MS * DAY_MS + DAY_MS
    delay_ms = round(delay_days * DAY_MS)
    weeks = []
    for date, test_from_ms in dates:
        available = (test_from_ms - delay_ms - first) // DAY_MS
        wanted = min(56, available) if train_days is None else train_days
        if test_from_ms + WEEK_MS > after or available < max(wanted, TRAIN_DAYS_MIN):
            earliest = first + delay_ms + max(TRAIN_DAYS_MIN, train_days or 0) * DAY_MS
            raise BadDataError(
                f"--test-weeks {date}: with --train-days {train_days or TRAIN_DAYS_MIN} and --label-delay-days {delay_days:g} "
                f"a test week of this data begins {_date(earliest)} .. {_date(after - WEEK_MS)}; choose another week, or "
                "fewer training days"
            )
        weeks.append(Week(test_from_ms, delay_ms, wanted))
    return weeks


def _date(ms: int) -> str:
    return str(np.datetime64(ms, "ms").astype("datetime64[D]"))


def booster_settings(params: FitParams) -> dict[str, Any]:
    """Those of a fit's settings that are XGBoost's own: a fixed number of rounds, no early stopping, as the book fits."""
    return {name: value for name, value in params.as_dict().items() if name in _OF_BOOSTER}


def learned(table: Table, where: slice | np.ndarray[Any, np.dtype[np.intp]], params: FitParams = FIT) -> xgb.Booster:
    """A booster that has learned from these rows. Raises BadDataError when they hold one class only."""
    is_fraud = table.rows["is_fraud"][where].to_numpy().astype(np.float32)
    if len(np.unique(is_fraud)) < 2:
        raise BadDataError(
            f"--data: {len(is_fraud)} training rows with {int(is_fraud.sum())} fraud; both kinds are needed: more --train-days"
        )
    matrix = xgb.QuantileDMatrix(
        table.vectors[where],
        label=is_fraud,
        feature_names=list(table.names),
        max_bin=params.max_bin,
        nthread=params.nthread,
    )
    return xgb.train(booster_settings(params), matrix, num_boost_round=params.rounds)


def judged(table: Table, week: Week, scores: Floats) -> tuple[Row, pl.DataFrame]:
    """The three measures of the test week's scores, and the rows that remained without known cards.

    Raises BadDataError when no fraud remained.
    """
    test = table.between(week.test_from_ms, week.test_to_ms)
    time = pl.col("occurred_at_ms")
    known = table.rows.filter(
        pl.col("is_fraud") & (time >= week.train_to_ms - WEEK_MS) & (time < week.test_from_ms)
    ).select("card_id", pl.col("label_known_at_ms").alias("known_at_ms"))
    found, remained = measure(table.rows[test].with_columns(pl.Series("score", scores)), known)
    if found.auc is None or found.ap is None or found.cp_at_100 is None:
        raise BadDataError(
            f"--test-weeks {_date(week.test_from_ms)}: nothing to measure, {remained.height} rows of one kind"
        )
    return (found.auc, found.ap, found.cp_at_100), remained


def run_week(table: Table, week: Week, served: Floats | None = None) -> Outcome:
    """Fit on the training window, measure on the test week; served: vectors [test rows, names] in place of the table's."""
    train = table.between(week.train_from_ms, week.train_to_ms)
    test = table.between(week.test_from_ms, week.test_to_ms)
    vectors = table.vectors[test] if served is None else served
    measures, remained = judged(table, week, scored(learned(table, train), vectors))
    return Outcome(
        measures,
        train.stop - train.start,
        int(table.labels(train).sum()),
        remained.height,
        int(remained["is_fraud"].sum()),
    )


def scored(booster: xgb.Booster, vectors: Floats) -> Floats:
    """Scores in [0, 1], float32 [rows], by the call that the scorer makes."""
    return np.asarray(booster.inplace_predict(vectors, validate_features=False), np.float32)


def mean(outcomes: Sequence[Outcome]) -> Row:
    """The mean of each measure over the weeks."""
    auc, ap, cp = np.mean([outcome.measures for outcome in outcomes], axis=0).tolist()
    return auc, ap, cp


def standard_error(outcomes: Sequence[Outcome]) -> Row | None:
    """Standard error of that mean over the weeks; None for one week."""
    if len(outcomes) < 2:
        return None
    spread = np.std([outcome.measures for outcome in outcomes], axis=0, ddof=1) / np.sqrt(len(outcomes))
    auc, ap, cp = spread.tolist()
    return auc, ap, cp
