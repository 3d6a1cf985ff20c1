"""The Spark engine of a training run.

Rule 1. Rows are made by tasks and stay with the executors for the fits; the driver gets a copy, on which a run is judged.
Rule 2. Each worker of a fit grows the same trees over its share of the rows (XGBoost's histograms are summed): other sums
        of float32, other subsamples, so other trees than the local fit's, and equally good ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import xgboost as xgb

from adapters.lake import Lake
from fraud import topics
from fraud.features import NAMES
from trainer.dataset import Rows, TrainRefusedError, labels_and_declined, without_censored
from trainer.engine import Read
from trainer.fit import FitParams
from trainer.replay import NothingToReplayError
from trainer.spark.session import told_plainly
from trainer.spark.vectors import labelled_rows, work_for

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from trainer.train import TrainPlan

# XGBoost's own names as its Spark estimator takes them; the objective is the classifier's, threads are spark.task.cpus.
_RENAMED = {"eta": "learning_rate", "seed": "random_state"}
_NOT_TAKEN = ("objective", "nthread")


class SparkRows(Rows):
    """Rows of the driver, and the same rows at the executors."""

    __slots__ = ("table",)
    table: DataFrame

    @classmethod
    def of(cls, rows: Rows, table: DataFrame) -> SparkRows:
        """Both sides."""
        made = cls(rows.frame, rows.censored)
        object.__setattr__(made, "table", table)
        return made

    def between(self, from_ms: int, to_ms: int, known_before_ms: int) -> SparkRows:
        """The rows of an event time period whose label was known before a moment."""
        here = Rows(self.frame, self.censored).between(from_ms, to_ms, known_before_ms)
        time, known = self.table["occurred_at_ms"], self.table["known_at_ms"]
        return SparkRows.of(here, self.table.filter((time >= from_ms) & (time < to_ms) & (known < known_before_ms)))


@dataclass(frozen=True, slots=True)
class SparkFits:
    """Fits by `workers` tasks at once."""

    table: DataFrame
    params: FitParams
    workers: int

    def whole(self) -> xgb.Booster:
        """Trees of all rows."""
        return self._grown(self.table, {})

    def stopped(self, later_from_ms: int) -> tuple[xgb.Booster, int]:
        """Trees of the earlier rows, stopped by the later ones."""
        table = self.table.withColumn("is_later", self.table["occurred_at_ms"] >= later_from_ms)
        stop = {
            "validation_indicator_col": "is_later",
            "early_stopping_rounds": self.params.patience,
            "eval_metric": "logloss",
        }
        booster = self._grown(table, stop)
        rounds = booster.best_iteration + 1
        return booster[:rounds], rounds

    def _grown(self, table: DataFrame, more: dict[str, Any]) -> xgb.Booster:
        from xgboost.spark import SparkXGBClassifier

        own = {_RENAMED.get(k, k): v for k, v in self.params.of_booster().items() if k not in _NOT_TAKEN}
        estimator = SparkXGBClassifier(
            features_col=list(NAMES),
            label_col="is_fraud",
            n_estimators=self.params.rounds,
            num_workers=self.workers,
            verbose=False,
            **own,
            **more,
        )
        with told_plainly():
            fitted = estimator.fit(table.withColumn("is_fraud", table["is_fraud"].cast("float")))
        booster: xgb.Booster = fitted.get_booster()
        booster.set_param({"nthread": self.params.nthread})
        return booster


class SparkEngine:
    """Rows and fits of a Spark session; as many tasks at once as it has slots."""

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark
        self._tasks = spark.sparkContext.defaultParallelism

    def read(self, lake: Lake, plan: TrainPlan) -> Read:
        """All vectors computed again from the lake's logs, with their labels."""
        labels_and_declined(lake)  # refuses a lake without labels before a task starts
        try:
            work = work_for(lake, plan.split, plan.maturity, self._tasks)
        except NothingToReplayError as error:
            raise TrainRefusedError(str(error)) from error
        table = labelled_rows(self.spark, work).persist()
        with told_plainly():
            found = pl.from_arrow(table.toArrow())
        assert isinstance(found, pl.DataFrame)
        rows = without_censored(found.sort("occurred_at_ms", "transaction_id", "card_id"))
        events = work.lake.scan(topics.TRANSACTIONS.name).filter(pl.col("refused").is_null())
        told = f"computed again by Spark {self.spark.version} in {self._tasks} tasks at once"
        return Read(SparkRows.of(rows, table.filter(~table["is_censored"])), events, told)

    def fits(self, rows: Rows, params: FitParams) -> SparkFits:
        """Fits of rows that read() gave, or of a period of them."""
        assert isinstance(rows, SparkRows), "rows of another engine"
        return SparkFits(rows.table, params, self._tasks)
