"""How well fraud can be told from honest payment in the generated world: by one column, by a request, by its history.

`python -m tests.world_realism [SEED]` prints it.

Rule 1. History is what the stack serves: the vectors of the backfill, with labels that become known exactly seven days later.
Rule 2. Trained on a past of which all labels are known when the judged period begins; every row of that period is judged.
Rule 3. A recall is that at a threshold that gives as many alerts as there are frauds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import xgboost as xgb
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud.features import NAMES
from fraud.windows import DAY_MS, HOUR_MS
from producer.world.world import World
from trainer.backfill import COLUMNS, backfill

CARDS = 6000
DAYS = 77
LEARN_FROM, JUDGE_DAYS, KNOWN_AFTER_DAYS = 14, 14, 7
HONEST_KEPT = 8  # one of so many honest rows is learned from; all frauds are
TREES = {
    "objective": "binary:logistic", "base_score": 0.5, "max_depth": 4, "eta": 0.1, "reg_lambda": 5.0, "subsample": 0.8,
    "colsample_bytree": 0.5, "max_bin": 256, "tree_method": "hist", "nthread": 2, "seed": 7,
}  # fmt: skip
ROUNDS = 120
SMOOTHING = 20
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Scores of the rows of the judged period."""

    score: Array
    is_fraud: npt.NDArray[np.bool_]
    scenario: npt.NDArray[np.object_]

    @property
    def average_precision(self) -> float:
        return float(average_precision_score(self.is_fraud, self.score))

    @property
    def recall(self) -> dict[str, float]:
        """By scenario."""
        threshold = np.sort(self.score)[-int(self.is_fraud.sum())]
        names = sorted(set(self.scenario[self.is_fraud]))
        return {name: float((self.score[self.scenario == name] >= threshold).mean()) for name in names}


@dataclass(frozen=True)
class Lived:
    """Transactions of a world in order of time, with day, is_fraud and scenario."""

    frame: pl.DataFrame

    @staticmethod
    def of(world: World, days: int = DAYS) -> Lived:
        return Lived(pl.concat([world.frame(world.day(day)).with_columns(day=pl.lit(day)) for day in range(days)]))

    @cached_property
    def is_fraud(self) -> npt.NDArray[np.bool_]:
        return self.frame["is_fraud"].to_numpy()

    @cached_property
    def learned(self) -> npt.NDArray[np.bool_]:
        day = self.frame["day"].to_numpy()
        return (day >= LEARN_FROM) & (day < day.max() + 1 - JUDGE_DAYS - KNOWN_AFTER_DAYS)

    @cached_property
    def judged(self) -> npt.NDArray[np.bool_]:
        day = self.frame["day"].to_numpy()
        return np.asarray(day > day.max() - JUDGE_DAYS)

    @cached_property
    def request(self) -> pl.DataFrame:
        """Each column of a request as a number, -1 where there is none; ids by their number."""

        def number(name: str) -> pl.Expr:
            return pl.col(name).str.slice(1).cast(pl.Int64)

        code = pl.col("mcc", "country", "channel").rank("dense").cast(pl.Int64)
        return self.frame.select(
            code,
            "amount_minor",
            "latitude_cdeg",
            "longitude_cdeg",
            cents=pl.col("amount_minor") % 100,
            hour=pl.col("occurred_at_ms") // HOUR_MS % 24,
            weekday=(pl.col("occurred_at_ms") // DAY_MS + 3) % 7,
            has_device=pl.col("device_id").is_not_null().cast(pl.Int64),
            card=number("card_id"),
            terminal=number("terminal_id"),
            merchant=number("merchant_id"),
            device=number("device_id"),
        ).fill_null(-1)

    @cached_property
    def history(self) -> Array:
        """The vectors of the backfill, shape [rows, features]."""
        known_at = pl.col("occurred_at_ms") + KNOWN_AFTER_DAYS * DAY_MS
        table = self.frame.with_columns(label_is_fraud=pl.col("is_fraud"), label_known_at_ms=known_at).select(COLUMNS)
        return np.asarray(backfill(table).vectors.select(NAMES).to_numpy())

    def auc(self, column: str) -> float:
        """The better of two: of the column as it stands, in either direction, and of the fraud rate of its value so far."""
        values, fraud = self.request[column], self.is_fraud[self.judged]
        plain = roc_auc_score(fraud, values.to_numpy()[self.judged])
        rows = pl.DataFrame({"value": values, "is_fraud": self.is_fraud, "learned": self.learned})
        overall = float(self.is_fraud.mean())
        rate = (pl.col("is_fraud").sum() + SMOOTHING * overall) / (pl.len() + SMOOTHING)
        rates = rows.filter("learned").group_by("value").agg(rate.alias("rate"))
        told = rows.join(rates, on="value", how="left", maintain_order="left")["rate"].fill_null(overall).to_numpy()
        return float(max(plain, 1 - plain, roc_auc_score(fraud, told[self.judged])))

    def told_by(self, *columns: Array) -> Judged:
        """What small trees learn from the columns."""
        vectors = np.column_stack(columns).astype(np.float32)
        kept = np.random.default_rng(0).random(len(vectors)) < 1 / HONEST_KEPT
        rows = self.learned & (self.is_fraud | kept)
        matrix = xgb.QuantileDMatrix(vectors[rows], label=self.is_fraud[rows], max_bin=256, nthread=2)
        trees = xgb.train(TREES, matrix, num_boost_round=ROUNDS)
        score = np.asarray(trees.inplace_predict(vectors[self.judged]), np.float64)
        return Judged(score, self.is_fraud[self.judged], self.frame["scenario"].to_numpy()[self.judged])

    @cached_property
    def by_request(self) -> Judged:
        return self.told_by(self.request.to_numpy())

    @cached_property
    def by_history(self) -> Judged:
        return self.told_by(self.request.to_numpy(), self.history)


def table(rows: Mapping[str, float]) -> str:
    return "\n".join(f"  {name:20} {value:.3f}" for name, value in rows.items())


def main() -> None:
    """Print what is measured of the world of a seed."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    lived = Lived.of(World(seed, CARDS))
    frauds = dict(pl.Series(lived.frame.filter(pl.lit(lived.judged))["scenario"]).value_counts().iter_rows())
    print(
        f"seed {seed}, {CARDS:,} cards, {DAYS} days: {lived.frame.height:,} transactions, {lived.is_fraud.mean():.2%} fraud"
    )
    print("AUC of one column\n" + table({name: lived.auc(name) for name in lived.request.columns}))
    for name, judged in (("the request", lived.by_request), ("request and history", lived.by_history)):
        print(f"{name}: AP {judged.average_precision:.3f}, recall by scenario (frauds judged)")
        print("\n".join(f"  {s:20} {recall:.2f} ({frauds[s]})" for s, recall in judged.recall.items()))


if __name__ == "__main__":
    main()
