"""The rows that both paths are measured on: a generated world, as it would be streamed, with the labels that become known.

Rule 1. One plan of the world gives transactions, labels and truth: neither path has a row or a label that the other lacks.
Rule 2. Nobody decides here: no transaction is declined, and labels are those that become known by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from fraud.windows import DAY_MS
from producer.streamed_world import GeneratedWorld
from producer.world.label_delays import NEVER
from producer.world.world import World
from producer.world_plan import WorldPlan


@dataclass(frozen=True, slots=True)
class Told:
    """transactions: in arrival order, with sent_at_ms, scenario (null: genuine) and is_fraud, the truth.

    labels: transaction_id, card_id, is_fraud, known_at_ms, in the order in which they become known.
    """

    transactions: pl.DataFrame
    labels: pl.DataFrame
    begin_ms: int


def told(seed: int, cards: int, days: int) -> Told:
    """A world's first days."""
    plan = WorldPlan(GeneratedWorld(World(seed, cards)))
    begin_ms = plan.world.begin_ms
    pieces = list(plan.pieces(begin_ms - 1, begin_ms + days * DAY_MS))
    rows = pl.concat(pieces).with_columns(
        sent_at_ms=pl.col("clock_ms"),
        scenario=pl.when(pl.col("scenario") != "").then(pl.col("scenario")),
    )
    rows = rows.with_columns(is_fraud=pl.col("scenario").is_not_null())
    labels = rows.filter(pl.col("source") != NEVER).select(
        "transaction_id", "card_id", pl.col("label_is_fraud").alias("is_fraud"), "known_at_ms"
    )
    return Told(rows, labels.sort("known_at_ms", maintain_order=True), begin_ms)


def backfill_table(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows as the backfill takes them: a label is there where one ever becomes known."""
    known = rows["source"].to_numpy() != NEVER
    return rows.with_columns(
        label_is_fraud=pl.when(pl.Series(known)).then(pl.col("label_is_fraud")),
        label_known_at_ms=pl.when(pl.Series(known)).then(pl.col("known_at_ms")),
    )


def learning_labels(told: Told, rows: pl.DataFrame, as_of_ms: int, horizon_ms: int) -> pl.DataFrame:
    """The rows whose label may be used as of a moment, with is_fraud as it was known then (trainer/dataset.py's rules)."""
    from trainer.dataset import Maturity, point_in_time_join

    identity = rows.select("transaction_id", "card_id", "occurred_at_ms", row=np.arange(rows.height))
    joined = point_in_time_join(identity.lazy(), told.labels.lazy(), as_of_ms, Maturity(horizon_ms))
    return joined.select("row", "is_fraud").collect()
