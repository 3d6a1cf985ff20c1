"""The Handbook's single split with this project's features: AUC, average precision, card precision at 100.

Rule 1. The protocol is the Handbook's: test week 2018-08-08 .. 08-14, labels known exactly 7 days later, cards whose fraud
        was known before a test day began left out. Row counts are checked against the published ones.
Rule 2. Nothing here is tuned on the test week: the fit is trainer.fit.FIT as it stands.

    python -m benchmarks.handbook_single_split handbook.parquet --features features.parquet [--train-days 56]
    --features is made from the Handbook file when it does not exist (the backfill of `fraudstream features backfill`).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from typing import Final

import polars as pl

from fraud.features import FEATURE_HASH
from fraud.windows import DAY_MS
from trainer.dataset import Rows
from trainer.evaluate import measure
from trainer.fit import FIT, fit, score

DELAY_MS: Final = 7 * DAY_MS
TEST_FROM_MS: Final = int(datetime(2018, 8, 8, tzinfo=UTC).timestamp() * 1000)
TEST_TO_MS: Final = TEST_FROM_MS + 7 * DAY_MS
TRAIN_TO_MS: Final = TEST_FROM_MS - DELAY_MS
WEEK_FROM_MS: Final = TRAIN_TO_MS - 7 * DAY_MS
# (rows, fraud) as published: of the training week, and of the test week without known cards.
PUBLISHED_TRAIN: Final = (67_240, 598)
PUBLISHED_TEST: Final = (58_264, 385)
PUBLISHED_XGBOOST: Final = {"auc": 0.862, "ap": 0.639, "cp_at_100": 0.273}


def handbook_rows(path: Path) -> pl.DataFrame:
    """The Handbook file in arrival order, with the columns that the backfill takes."""
    return pl.read_parquet(path).select(
        pl.col("TRANSACTION_ID").cast(pl.String).alias("transaction_id"),
        pl.format("c{}", pl.col("CUSTOMER_ID")).alias("card_id"),
        pl.format("m{}", pl.col("TERMINAL_ID")).alias("terminal_id"),
        (pl.col("TX_AMOUNT") * 100).round().cast(pl.Int64).alias("amount_minor"),
        pl.col("TX_DATETIME").dt.epoch("ms").alias("occurred_at_ms"),
        (pl.col("TX_FRAUD") == 1).alias("label_is_fraud"),
        (pl.col("TX_DATETIME").dt.epoch("ms") + DELAY_MS).alias("label_known_at_ms"),
    )


def made_features(rows: pl.DataFrame, path: Path) -> None:
    """Backfill the rows into `path`."""
    from trainer.backfill import backfill

    started_s = time.perf_counter()
    backfill(rows).vectors.write_parquet(path)
    print(f"backfill of {rows.height} rows: {time.perf_counter() - started_s:.1f} s", file=sys.stderr)


def labelled(rows: pl.DataFrame, features: Path) -> pl.DataFrame:
    """Vectors with card, time and label; is_fraud and known_at_ms as point_in_time_join names them."""
    labels = rows.select(
        "transaction_id",
        "card_id",
        "occurred_at_ms",
        pl.col("label_is_fraud").alias("is_fraud"),
        pl.col("label_known_at_ms").alias("known_at_ms"),
    )
    return labels.join(pl.read_parquet(features), on="transaction_id", how="inner", maintain_order="left")


def check_counts(what: str, frame: pl.DataFrame, published: tuple[int, int]) -> None:
    """End with exit code 1 when the rows are not those that were published."""
    counts = (frame.height, int(frame["is_fraud"].sum()))
    if counts != published:
        raise SystemExit(
            f"{what}: {counts[0]} rows with {counts[1]} fraud, published are {published[0]} with {published[1]}"
        )


def run(frame: pl.DataFrame, train_days: int) -> dict[str, object]:
    """Fit on the last `train_days` before the delay, measure on the test week."""
    rows = Rows(frame)
    learned = rows.between(TRAIN_TO_MS - train_days * DAY_MS, TRAIN_TO_MS, TEST_FROM_MS)
    test = rows.between(TEST_FROM_MS, TEST_TO_MS, TEST_TO_MS + DELAY_MS)
    scored = test.frame.with_columns(pl.Series("score", score(fit(learned.vectors, learned.is_fraud), test.vectors)))
    time = pl.col("occurred_at_ms")
    known = frame.filter(pl.col("is_fraud") & (time >= WEEK_FROM_MS) & (time < TEST_FROM_MS))
    scores, judged = measure(scored, known.select("card_id", "known_at_ms"))
    check_counts("test week", judged, PUBLISHED_TEST)
    return {
        "train_days": train_days,
        "train_rows": len(learned),
        "train_fraud": learned.fraud,
        "auc": scores.auc,
        "ap": scores.ap,
        "cp_at_100": scores.cp_at_100,
    }


def main() -> None:
    """Run the benchmark; exit code 1 when the published XGBoost is not reached with the first number of days."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("handbook", type=Path, help="the Handbook's transactions, Parquet")
    parser.add_argument("--features", type=Path, required=True, help="its backfilled vectors; made when missing")
    parser.add_argument("--train-days", type=int, nargs="+", default=[56, 7], help="days to learn from")
    arguments = parser.parse_args()
    rows = handbook_rows(arguments.handbook)
    if not arguments.features.exists():
        made_features(rows, arguments.features)
    frame = labelled(rows, arguments.features)
    week = frame.filter((pl.col("occurred_at_ms") >= WEEK_FROM_MS) & (pl.col("occurred_at_ms") < TRAIN_TO_MS))
    check_counts("training week", week, PUBLISHED_TRAIN)
    results = [run(frame, days) for days in arguments.train_days]
    for result in results:
        print(json.dumps(result))
    print(json.dumps({"published XGBoost, 7 days": PUBLISHED_XGBOOST}))
    print(
        f"features {FEATURE_HASH}, {FIT}; {platform.machine()}, {cpu_count()} CPUs, Python {platform.python_version()}"
    )
    if results[0]["ap"] is None or any(
        float(str(results[0][name])) < PUBLISHED_XGBOOST[name] for name in ("ap", "cp_at_100")
    ):
        raise SystemExit("below the published XGBoost")


if __name__ == "__main__":
    main()
