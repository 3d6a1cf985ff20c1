"""The measurement: one world, two paths that learn from the same rows and are judged on the same later ones.

Rule 1. Both models are fitted by the same code with the same settings; only what they know of a transaction differs.
Rule 2. The truth judges; it teaches nobody: both learn from labels that were known when the test begins.

      history        train_days               labels mature        test_days, a new snapshot each midnight
    |----------)|----------------------)|--------------------)|---------------------------)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import polars as pl

from benchmarks.paths.contrast import BATCH, STREAMING, recalls
from benchmarks.paths.result import CpuCost, PathResult, Result, Settings
from benchmarks.paths.rows import Told, backfill_table, learning_labels, told
from fraud.batch_features import BATCH_HASH, BATCH_NAMES
from fraud.features import FEATURE_HASH, NAMES, REQUEST_NAMES
from fraud.model import Floats
from fraud.windows import DAY_MS
from trainer.backfill import backfill
from trainer.batch_path.snapshot import History, Snapshot, snapshot
from trainer.batch_path.vectors import vectors_for
from trainer.evaluate import measure
from trainer.fit import FIT, FitParams, score
from trainer.ladder import grow

_T = TypeVar("_T")
HORIZON_MS: Final = 7 * DAY_MS
HISTORY_DAYS_MIN: Final = 14
FAST: Final = ("card-testing", "account-takeover", "impossible-travel")


class TooShortError(ValueError):
    """The world has too few days or frauds for this measurement; the message names the option."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Vectors of the same rows (`rows`: of the world) by path, and what making them has cost."""

    rows: pl.DataFrame
    vectors: dict[str, Floats]
    cpu: dict[str, float]


class _Stopwatch:
    """CPU seconds of this process, by name."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], _T]) -> _T:
        started = time.process_time()
        made = work()
        self.spent[name] = self.spent.get(name, 0.0) + time.process_time() - started
        return made


def run(settings: Settings, say: Callable[[str], None], params: FitParams = FIT) -> Result:
    """Measure. Raises TooShortError."""
    history_days = settings.days - settings.train_days - settings.test_days - HORIZON_MS // DAY_MS
    if history_days < HISTORY_DAYS_MIN:
        raise TooShortError(
            f"--days {settings.days}: {settings.train_days} to learn from, 7 until labels mature and {settings.test_days} "
            f"to test leave {history_days} days of history, {HISTORY_DAYS_MIN} are needed: give "
            f"{settings.days + HISTORY_DAYS_MIN - history_days} or more"
        )
    world = told(settings.seed, settings.cards, settings.days)
    test_from_ms = world.begin_ms + (settings.days - settings.test_days) * DAY_MS
    train_to_ms = test_from_ms - HORIZON_MS
    train_from_ms = train_to_ms - settings.train_days * DAY_MS
    say(f"{world.transactions.height:,} transactions, {int(world.transactions['is_fraud'].sum()):,} fraud")
    watch = _Stopwatch()
    at = pl.col("occurred_at_ms")
    rows, vectors = _vectors(world, ((at >= train_from_ms) & (at < train_to_ms)) | (at >= test_from_ms), watch, say)
    times = rows["occurred_at_ms"].to_numpy()
    train, test = (
        slice(0, int(np.searchsorted(times, train_to_ms))),
        slice(int(np.searchsorted(times, test_from_ms)), None),
    )
    usable = learning_labels(world, rows[train], test_from_ms, HORIZON_MS)
    learned, is_fraud = usable["row"].to_numpy(), usable["is_fraud"].to_numpy().astype(np.float32)
    if is_fraud.sum() < 10:
        raise TooShortError(
            f"--cards {settings.cards}: {int(is_fraud.sum())} known frauds to learn from, 10 are needed"
        )
    tested = rows[test]
    scores = {}
    for path, names in ((STREAMING, NAMES), (BATCH, BATCH_NAMES)):
        say(f"{path}: {len(learned):,} rows to learn from, {int(is_fraud.sum())} known fraud")
        climbed = grow(times[learned], vectors[path][learned], is_fraud, train_to_ms, params, names)
        scores[path] = watch(f"{path} model", lambda b=climbed.raw, v=vectors[path][test]: score(b, v))  # type: ignore[misc]
    return _result(settings, world, tested, scores, watch.spent, history_days)


def _vectors(
    world: Told, wanted: pl.Expr, watch: _Stopwatch, say: Callable[[str], None]
) -> tuple[pl.DataFrame, dict[str, Floats]]:
    """The wanted rows in arrival order, and their vectors by path."""
    folded = watch("fold", lambda: backfill(backfill_table(world.transactions))).vectors
    rows = world.transactions.with_columns(position=np.arange(world.transactions.height)).join(
        folded.select("transaction_id", *REQUEST_NAMES), on="transaction_id", how="inner", maintain_order="left"
    )
    rows = rows.filter(wanted)
    # Every transaction of a world without disorder is served, so a row's place is its vector's.
    if folded.height != world.transactions.height:
        raise TooShortError("the fold has left transactions out; the world of this benchmark has no duplicates")
    streaming = np.ascontiguousarray(folded.select(NAMES)[rows["position"].to_numpy()].to_numpy(), np.float32)
    say("nightly snapshots")
    history = History.of(world.transactions, world.labels)

    def of_night(midnight_ms: int) -> Snapshot:
        return watch("nightly job", lambda: snapshot(history, midnight_ms))

    batch = watch("job and join", lambda: vectors_for(rows, of_night))
    return rows, {STREAMING: streaming, BATCH: batch}


def _result(
    settings: Settings,
    world: Told,
    tested: pl.DataFrame,
    scores: dict[str, Floats],
    cpu: dict[str, float],
    history_days: int,
) -> Result:
    names = sorted(tested["scenario"].drop_nulls().unique().to_list())
    number = {name: i for i, name in enumerate(names)}
    scenario = np.array([-1 if name is None else number[name] for name in tested["scenario"].to_list()], np.int64)
    card = tested["card_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    budget = settings.alerts_per_day * settings.test_days
    nobody = pl.DataFrame(schema={"card_id": pl.String, "known_at_ms": pl.Int64})
    paths = {}
    for path, found in scores.items():
        measured, _ = measure(tested.with_columns(pl.Series("score", found)), nobody)
        paths[path] = PathResult(measured.auc or 0.0, measured.ap or 0.0, measured.cp_at_100 or 0.0)
    age = (tested["occurred_at_ms"] % DAY_MS).to_numpy() / 3_600_000
    return Result(
        settings=settings,
        transactions=world.transactions.height,
        tested=tested.height,
        history_days=history_days,
        paths=paths,
        recalls=tuple(recalls(scores, card, scenario, names, budget)),
        snapshot_age_hours=(float(age.mean()), float(age.max())),
        cpu=_cpu(cpu, world.transactions.height, tested.height, settings),
        feature_hash=FEATURE_HASH,
        batch_hash=BATCH_HASH,
        features=(len(NAMES), len(BATCH_NAMES)),
    )


def _cpu(spent: dict[str, float], transactions: int, tested: int, settings: Settings) -> CpuCost:
    nights = settings.train_days + settings.test_days
    a_night = transactions / settings.days
    rows = a_night * nights
    return CpuCost(
        fold_us=1e6 * spent["fold"] / transactions,
        streaming_model_us=1e6 * spent[f"{STREAMING} model"] / tested,
        nightly_job_us=1e6 * spent["nightly job"] / nights / a_night,
        join_us=1e6 * (spent["job and join"] - spent["nightly job"]) / rows,
        batch_model_us=1e6 * spent[f"{BATCH} model"] / tested,
        night_s=spent["nightly job"] / nights,
    )
