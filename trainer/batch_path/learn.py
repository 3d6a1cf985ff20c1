"""The model of the batch path: learned from snapshots of earlier nights, judged and published like the other one.

Rule 1. A row's vector is the snapshot of the midnight before it; a label counts when it was known at the cutoff: of the judged fit the
        beginning of the judged period, of the published fit the moment of training.
Rule 2. It takes the place of this path's champion when it is better by more than noise on rows neither has learned from; the first
        one must beat the rules of this path.
Rule 3. It never becomes the champion that decides: its kind is another.
Rule 4. A transaction that was served under a break-it switch is left out, and counted, as in the other path's training: both learn
        from the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
import polars as pl
import xgboost as xgb

from adapters.lake import Lake
from adapters.model_store import ModelStore, StoredModel
from fraud import batch_rules, topics
from fraud.batch_features import BATCH_HASH, BATCH_KIND, BATCH_NAMES
from fraud.features import FEATURE_HASH, REQUEST_NAMES
from fraud.model import (
    CARD_FILE,
    METRICS_FILE,
    MODEL_FILE,
    REVIEW,
    Floats,
    Gate,
    Manifest,
    ModelRefusedError,
    Promise,
    TrainedOn,
    file_hashes,
)
from fraud.windows import DAY_MS
from trainer.batch_path.nights import Nights, SnapshotFiles
from trainer.batch_path.vectors import vectors_for
from trainer.calibration import folded
from trainer.dataset import Rows, TrainRefusedError, check_enough, declined_of, point_in_time_join, without_switched
from trainer.evaluate import measure, threshold_for_budget
from trainer.fit import fit, from_bytes, score, to_bytes
from trainer.gate import FRAUD_MIN, PROMOTED, REJECTED, comparison
from trainer.ladder import Climbed, grow
from trainer.measures import JudgedRows, measured
from trainer.promise import canaries, known_frauds, promise_of
from trainer.soundness import times_of
from trainer.train import Report, Trained, TrainPlan, moment

_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class _Period:
    """Rows of a period in order of time, and their vectors float32 [rows, BATCH_NAMES]."""

    rows: Rows
    vectors: Floats

    @property
    def times_ms(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Event times, [rows]."""
        return np.asarray(self.rows.frame["occurred_at_ms"].to_numpy(), np.int64)


def train_batch_path(lake: Lake, store: ModelStore, files: SnapshotFiles, plan: TrainPlan, report: Report) -> Trained:
    """Run the plan. Raises TrainRefusedError when there is too little to learn from."""
    split = plan.split
    rows, switched = _labelled_rows(lake, plan)
    hidden = f", {switched} served under a break-it switch left out" if switched else ""
    report(
        "join",
        10,
        f"{len(rows)} labelled transactions, {rows.fraud} fraud, labels known before {moment(plan.as_of_ms)}{hidden}",
    )
    nights = Nights(lake, files, split.from_ms, split.as_of_ms)
    everything = _Period(rows, vectors_for(rows.frame, nights))
    learned = _between(everything, split.judged_from_ms, split.judged_to_ms, split.validation_from_ms)
    validation = _between(everything, split.validation_from_ms, split.validation_to_ms, split.as_of_ms)
    final = _between(everything, split.final_from_ms, split.validation_to_ms, split.as_of_ms)
    remedy = "more days must mature: ask again later, or set FRAUD_VALIDATION_DAYS lower"
    check_enough(learned.rows, "batch path, training period", plan.rows_min, plan.fraud_min, remedy)
    check_enough(validation.rows, "batch path, validation period", plan.fraud_min, plan.fraud_min, remedy)
    report("fit", 40, f"{len(learned.rows)} rows to be judged on {len(validation.rows)} that follow")
    climbed = grow(
        learned.times_ms, learned.vectors, learned.rows.is_fraud, split.judged_to_ms, plan.params, BATCH_NAMES
    )
    judged = validation.rows.frame.with_columns(pl.Series("score", score(climbed.served, validation.vectors)))
    gate = _verdict(store, judged, validation, plan)
    report("fit-final", 70, f"{len(final.rows)} rows, {final.rows.fraud} fraud")
    grown = fit(final.vectors, final.rows.is_fraud, replace(plan.params, rounds=climbed.rounds), BATCH_NAMES)
    booster = folded(grown, climbed.calibration)
    trained = _publish(store, plan, final, judged, known_frauds(rows, split), booster, climbed, gate, switched)
    report(gate.outcome, 100, f"{trained.version} (batch path): {gate.reason}")
    return trained


def _labelled_rows(lake: Lake, plan: TrainPlan) -> tuple[Rows, int]:
    """Labelled rows in order of time with the request's own fields: of the served vector nothing else is taken.

    And how many transactions were left out, since they were served under a switch.
    """
    split, at = plan.split, pl.col("occurred_at_ms")
    try:
        served = lake.scan(topics.FEATURES.name, FEATURE_HASH)
        labels = lake.scan(topics.LABELS.name).filter(pl.col("refused").is_null())
    except FileNotFoundError as error:
        raise TrainRefusedError(f"batch path: {error}; let transactions and labels stream first") from error
    right, wrong = without_switched(served)
    wanted = right.filter((at >= split.from_ms) & (at < split.as_of_ms)).select(
        "transaction_id", "card_id", "terminal_id", "occurred_at_ms", *REQUEST_NAMES
    )
    joined = point_in_time_join(wanted, labels, split.as_of_ms, plan.maturity, declined_of(lake, labels))
    seen = joined.filter(~pl.col("is_censored")).drop("is_censored")
    switched = 0 if wrong is None else len(times_of(wrong, split.from_ms, split.as_of_ms))
    return Rows(seen.sort("occurred_at_ms", maintain_order=True).collect()), switched


def _between(everything: _Period, from_ms: int, to_ms: int, known_before_ms: int) -> _Period:
    at, known = (everything.rows.frame[name].to_numpy() for name in ("occurred_at_ms", "known_at_ms"))
    chosen = np.flatnonzero((at >= from_ms) & (at < to_ms) & (known < known_before_ms))
    return _Period(Rows(everything.rows.frame[chosen]), everything.vectors[chosen])


def usable_batch_champion(store: ModelStore) -> StoredModel | None:
    """The version that has the role, when this code can use it."""
    version = store.aliases().batch_champion
    if version is None:
        return None
    try:
        stored = store.read(version)
    except ModelRefusedError:
        return None
    return stored if stored.manifest.feature_hash == BATCH_HASH else None


def _verdict(store: ModelStore, judged: pl.DataFrame, validation: _Period, plan: TrainPlan) -> Gate:
    """Whether it takes the role; judged: the validation rows with `score`."""
    stored = usable_batch_champion(store)
    rival = batch_rules.VERSION if stored is None else stored.version
    unseen_from_ms = 0 if stored is None else stored.manifest.trained_on.to_ms
    unseen = np.flatnonzero(validation.times_ms >= unseen_from_ms)
    rows = judged[unseen]
    fraud = int(rows["is_fraud"].sum())
    if min(fraud, rows.height - fraud) < FRAUD_MIN:
        reason = f"{fraud} fraud among the {rows.height} rows that {rival} has not learned from, {FRAUD_MIN} needed of either kind"
        return Gate(REJECTED, reason, rival=rival, rows=rows.height, fraud=fraud)
    vectors = validation.vectors[unseen]
    other = (
        batch_rules.BOOK.score(batch_rules.BOOK.fired(vectors))
        if stored is None
        else score(from_bytes(stored.model), vectors)
    )
    both = measured(
        JudgedRows.of(rows, plan.alerts_per_day_max), {"batch": rows["score"].to_numpy(), "rival": other}, _SEED
    )
    return comparison(both, ("batch", "rival"), rival, rows)


def _publish(
    store: ModelStore,
    plan: TrainPlan,
    final: _Period,
    judged: pl.DataFrame,
    known: pl.DataFrame,
    booster: xgb.Booster,
    climbed: Climbed,
    gate: Gate,
    switched: int,
) -> Trained:
    split = plan.split
    found, remained = measure(judged, known)
    promise = promise_of(found, remained, split)
    trained_on = TrainedOn(split.final_from_ms, split.validation_to_ms, len(final.rows), final.rows.fraud)
    thresholds = {REVIEW: threshold_for_budget(judged, plan.alerts_per_day_max)}
    files = {MODEL_FILE: to_bytes(booster)}
    numbers = {
        "promise": promise, "gate": gate, "thresholds": thresholds, "calibration": climbed.calibration, "stopping": climbed.stopping,
        "served_under_switches_left_out": switched,
    }  # fmt: skip
    files[METRICS_FILE] = msgspec.json.format(msgspec.json.encode(numbers))
    files[CARD_FILE] = _card(trained_on, promise, gate).encode()
    manifest = Manifest(
        as_of_ms=plan.as_of_ms,
        created_at=plan.created_at,
        feature_hash=BATCH_HASH,
        feature_names=BATCH_NAMES,
        xgboost_version=xgb.__version__,
        files=file_hashes(files),
        trained_on=trained_on,
        labels_known_by_ms=plan.as_of_ms,
        params=plan.params.as_dict() | {"rounds": climbed.rounds, "rounds_max": plan.params.rounds},
        promise=promise,
        thresholds=thresholds,
        canaries=canaries(booster, final.vectors, score(booster, final.vectors)),
        gate=gate,
        kind=BATCH_KIND,
    ).sealed()
    store.publish(manifest, files)
    if gate.outcome == PROMOTED:
        store.promote(manifest.version, by="gate", reason=gate.reason)
    return Trained(manifest.version, gate.outcome, gate.reason, manifest)


def _card(trained_on: TrainedOn, promise: Promise, gate: Gate) -> str:
    days = (trained_on.to_ms - trained_on.from_ms) / DAY_MS
    told = "undefined" if promise.ap is None else f"{promise.ap:.3f}"
    return (
        "# Batch path\n\n"
        f"XGBoost over {len(BATCH_NAMES)} features of the batch path (version `{BATCH_HASH}`): the request's own fields and the "
        "snapshot of the midnight before it. It scores beside the streaming path and decides nothing.\n\n"
        f"- learned from {trained_on.rows} transactions of {days:g} days up to {moment(trained_on.to_ms)}, {trained_on.fraud} fraud\n"
        f"- promised average precision: {told}, on {promise.rows} transactions that it had not seen\n"
        f"- gate: {gate.outcome}: {gate.reason}\n"
    )
