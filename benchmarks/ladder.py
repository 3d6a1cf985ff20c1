"""`python -m benchmarks.ladder [--cards N] [--days D] [--seed S]`: what each rung of the ladder brings on a generated world.

Rule 1. The world's own label delays, misses and errors decide what training knows; the measured week is told by the truth.
Rule 2. Each week the published recipe (early stopping, calibration, refit) learns as of its beginning and is measured on it.
Rule 3. The truth is read here only to measure, never to learn.

Prints, for weeks that no fit has seen: AP, Brier score, calibration error and expected cost of every rung, of isotonic
regression in place of Platt's scaling (what docs/adr/0009 compares), recall by scenario, and the CPU time of each part.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import replace
from os import cpu_count
from typing import Any

import numpy as np
import polars as pl
from sklearn.isotonic import IsotonicRegression

from fraud.features import FEATURE_HASH
from fraud.model import Floats
from fraud.windows import DAY_MS
from producer.world.label_delays import known_later
from producer.world.world import World
from trainer.backfill import backfill
from trainer.calibration import calibration_error, folded
from trainer.dataset import Maturity, Rows, Split, rows_for
from trainer.fit import FIT, fit, score
from trainer.ladder import BOOSTED, LOGISTIC, RULES, SERVED, Climbed, climb, rungs
from trainer.measures import JudgedRows, measured, recall_by_scenario

MATURITY = Maturity(7 * DAY_MS)
ISOTONIC = "xgboost_isotonic"
SEED = 7


def world_rows(seed: int, cards: int, days: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Vectors with truth and scenario, and the labels as they become known."""
    world, parts = World(seed, cards), []
    for day in range(days):
        frame = world.frame(world.day(day))
        truth, times = frame["is_fraud"].to_numpy(), frame["occurred_at_ms"].to_numpy()
        known = known_later(np.random.default_rng([seed, day]), truth, times)
        told = known.source > 0
        parts.append(
            frame.with_columns(
                label_is_fraud=pl.Series(np.where(told, known.is_fraud, False)),
                label_known_at_ms=pl.Series(known.known_at_ms),
                told=pl.Series(told),
            ).with_columns(pl.when("told").then(pl.col("label_is_fraud", "label_known_at_ms")))
        )
    table = pl.concat(parts)
    identity = table.select("transaction_id", "card_id", "occurred_at_ms", "scenario", truth="is_fraud")
    vectors = identity.join(backfill(table).vectors, on="transaction_id", how="inner", maintain_order="left")
    labels = table.filter("told").select(
        "transaction_id", "card_id", is_fraud="label_is_fraud", known_at_ms="label_known_at_ms"
    )
    return vectors, labels


def published_scores(rows: Rows, split: Split, week: Floats) -> tuple[dict[str, Floats], Climbed, dict[str, float]]:
    """Every rung by the recipe of trainer.train, published at split.as_of_ms, for the vectors of the week after it."""
    seconds, began_s = {}, time.process_time()

    def took(part: str) -> None:
        nonlocal began_s
        seconds[part], began_s = round(time.process_time() - began_s, 1), time.process_time()

    learned = rows.between(split.judged_from_ms, split.judged_to_ms, split.validation_from_ms)
    climbed = climb(learned, split.judged_to_ms, FIT)
    took("climb")
    final = rows.between(split.final_from_ms, split.validation_to_ms, split.as_of_ms)
    raw = fit(final.vectors, final.is_fraud, replace(FIT, rounds=climbed.rounds))
    took("final fit")
    scores = rungs(final, replace(climbed, raw=raw, served=folded(raw, climbed.calibration)), week)
    took("logistic regression and scores")
    later_from_ms = split.judged_to_ms - 7 * DAY_MS
    later = Rows(learned.frame.filter(pl.col("occurred_at_ms") >= later_from_ms))
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(score(climbed.raw, later.vectors), later.is_fraud)
    scores[ISOTONIC] = np.asarray(isotonic.predict(scores[BOOSTED]), np.float32)
    return scores, climbed, seconds


def run(vectors: pl.DataFrame, labels: pl.DataFrame, as_of_ms: int, alerts_per_day_max: int) -> dict[str, Any]:
    """Publish at a moment, measure on the week after it."""
    split = Split.at(as_of_ms, 56, 7, MATURITY)
    rows = rows_for(vectors.lazy().drop("scenario", "truth"), labels.lazy(), split, MATURITY)
    time_ms = pl.col("occurred_at_ms")
    week = vectors.filter((time_ms >= as_of_ms) & (time_ms < as_of_ms + 7 * DAY_MS)).with_columns(is_fraud="truth")
    scores, climbed, seconds = published_scores(rows, split, Rows(week).vectors)
    judged = JudgedRows.of(week, alerts_per_day_max)
    began_s = time.process_time()
    found = measured(judged, scores, SEED)
    seconds["200 draws"] = round(time.process_time() - began_s, 1)
    truth = week["is_fraud"].to_numpy()
    table = {
        name: {
            **{each: _shown(found, name, each) for each in ("ap", "recall_at_budget", "cost_minor_a_day", "brier")},
            "calibration_error": f"{calibration_error(truth, scores[name]):.2e}",
            "mean_score_over_fraud_share": round(float(scores[name].mean() / truth.mean()), 3),
        }
        for name in scores
    }
    scenarios = recall_by_scenario(judged, week["scenario"].replace("", None), {n: scores[n] for n in _SHOWN}, SEED)
    return {
        "rows": len(rows.frame),
        "week_rows": week.height,
        "week_fraud": int(truth.sum()),
        "stopping": climbed.stopping,
        "calibration": str(climbed.calibration),
        "models": table,
        "recall_by_scenario": {
            each: {name: f"{i.value:.2f} ({i.low:.2f} .. {i.high:.2f})" for name, i in by_model.items()}
            for each, by_model in scenarios.items()
        },
        "cpu_seconds": seconds,
    }


_SHOWN = (RULES, LOGISTIC, SERVED)


def _shown(found: Any, name: str, measure: str) -> str:
    interval = found.interval(name, measure)
    return f"{interval.value:.4g} ({interval.low:.4g} .. {interval.high:.4g})"


def main() -> None:
    """Measure the last weeks and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", type=int, default=5000)
    parser.add_argument("--days", type=int, default=75)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alerts-per-day", type=int, default=30)
    parser.add_argument("--weeks", type=int, default=2, help="weeks at the end to measure")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {cpu_count()} CPUs, Python {sys.version.split()[0]}, features {FEATURE_HASH}, {FIT}")
    vectors, labels = world_rows(arguments.seed, arguments.cards, arguments.days)
    begin_ms = int(vectors["occurred_at_ms"].min()) // DAY_MS * DAY_MS  # type: ignore[arg-type]
    for weeks_before_end in range(arguments.weeks, 0, -1):
        as_of_ms = begin_ms + (arguments.days - 7 * weeks_before_end) * DAY_MS
        print(json.dumps(run(vectors, labels, as_of_ms, arguments.alerts_per_day), indent=1), flush=True)


if __name__ == "__main__":
    main()
