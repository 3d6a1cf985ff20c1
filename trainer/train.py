"""One training run: read, join, fit and judge, fit again on everything matured, publish, and promote what earned it.

Rule 1. The promise is measured by a fit that knew nothing of the validation period; the published fit then learns from it too.
Rule 2. A run that is refused publishes nothing; a run that is killed leaves nothing that counts.
Rule 3. The moment of training is simulated time and comes from outside; the wall clock is only written down.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np
import polars as pl
import xgboost as xgb

from adapters.lake import Lake
from adapters.model_store import AliasConflictError, Aliases, ModelStore
from fraud import topics
from fraud.decision import COSTS
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import (
    CARD_FILE,
    METRICS_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    REVIEW,
    Floats,
    Gate,
    Manifest,
    Promise,
    TrainedOn,
    file_hashes,
)
from fraud.switches import in_words
from fraud.windows import DAY_MS
from trainer.calibration import folded
from trainer.dataset import (
    Maturity,
    Rows,
    Split,
    TrainRefusedError,
    check_enough,
    labels_and_declined,
    rows_for,
    without_switched,
)
from trainer.engine import Engine, Read
from trainer.evaluate import threshold_for_budget
from trainer.fit import FitParams, score, to_bytes
from trainer.gate import PROMOTED, REJECTED, reference_vectors, usable_champion, verdict
from trainer.judgement import Budget, Judgement, Soundness, judge, ladder_numbers, shap_importances, soundness
from trainer.ladder import RUNGS, SERVED, Climbed, Fits, LocalFits, climb
from trainer.model_card import CardFacts, card_text
from trainer.promise import canaries, promise_of
from trainer.replay import NothingToReplayError, served_or_replayed
from trainer.soundness import times_of
from trainer.wrong_training import gate_under, labels_under, maturity_under, periods_under

Report = Callable[[str, int, str], None]  # stage, percent of the run, detail

REFERENCE_ROWS: Final = 20_000
_SAMPLE_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What a run needs beside the lake."""

    as_of_ms: int
    created_at: str
    train_days: int
    validation_days: int
    maturity: Maturity
    rows_min: int
    fraud_min: int
    alerts_per_day_max: int
    params: FitParams
    replay: bool = False  # compute the vectors again where the lake's are of other features
    switches: tuple[str, ...] = ()  # break-it switches of training that are on

    @property
    def split(self) -> Split:
        """The periods of this run."""
        return Split.at(self.as_of_ms, self.train_days, self.validation_days, self.matures)

    @property
    def matures(self) -> Maturity:
        """When a missing label means genuine, under the switches."""
        return maturity_under(self.switches, self.maturity)


@dataclass(frozen=True, slots=True)
class Trained:
    """A published version and what became of it: promoted or rejected, and why."""

    version: str
    outcome: str
    reason: str
    manifest: Manifest

    @property
    def gate(self) -> Gate:
        """What the gate said, whether or not the roles still let it."""
        return self.manifest.gate


def latest_event_time_ms(lake: Lake, replay: bool = False) -> int:
    """One ms after the newest event time of the lake's vectors, or with `replay` of its transactions.

    Raises TrainRefusedError when there is none.
    """
    try:
        if replay:
            newest = lake.scan(topics.TRANSACTIONS.name).select(pl.col("occurred_at_ms").max()).collect().item()
            return int(newest or 0) + 1
        newest = lake.scan(topics.FEATURES.name, FEATURE_HASH).select(pl.col("occurred_at_ms").max()).collect().item()
    except FileNotFoundError as error:
        raise _without_vectors(lake, error) from error
    if newest is None:
        raise TrainRefusedError(f"the lake {lake.root} has no vectors yet: let transactions stream first")
    return int(newest) + 1


class LocalEngine:
    """Rows and fits of this process."""

    def read(self, lake: Lake, plan: TrainPlan) -> Read:
        """Vectors as they were served (with `replay` also those computed again), with their labels."""
        vectors = _vectors(lake, plan)
        right, wrong = without_switched(vectors)
        switched = 0 if wrong is None else len(times_of(wrong, plan.split.from_ms, plan.split.as_of_ms))
        told = "served, the missing ones replayed" if plan.replay else "served"
        return Read(_labelled_rows(lake, plan, right), vectors, told, switched)

    def fits(self, rows: Rows, params: FitParams) -> Fits | None:
        """None: whoever has the rows fits them."""
        return None


LOCAL: Final = LocalEngine()


def train(lake: Lake, store: ModelStore, plan: TrainPlan, report: Report, engine: Engine = LOCAL) -> Trained:
    """Run the plan. Raises TrainRefusedError when there is too little to learn from."""
    report("read", 2, f"lake {lake.root}")
    split = plan.split
    read = engine.read(lake, plan)
    rows = read.rows
    hidden = f", {rows.censored} declined ones without a label left out" if rows.censored else ""
    hidden += f", {read.switched} vectors served under a break-it switch left out" if read.switched else ""
    known = f"labels known before {moment(plan.as_of_ms)}{hidden}"
    if plan.switches:
        known = f"UNDER {in_words(plan.switches)}; {known}"
    report("join", 20, f"{len(rows)} labelled vectors, {rows.fraud} fraud, {known}")
    learned, validation, final = _periods(rows, plan)
    before = store.aliases()
    champion = usable_champion(store)
    sound = soundness(
        learned,
        validation,
        times_of(read.events, split.judged_from_ms, split.validation_to_ms),
        split.validation_to_ms,
        None if champion[0] is None else reference_vectors(champion[0]),
    )
    report("fit", 30, f"{len(learned)} rows to be judged on {len(validation)} that follow")
    climbed = climb(learned, split.judged_to_ms, plan.params, engine.fits(learned, plan.params))
    report("evaluate", 50, f"validation {moment(split.validation_from_ms)} .. {moment(split.validation_to_ms)}")
    budget = Budget(plan.alerts_per_day_max, COSTS, _SAMPLE_SEED)
    judgement = judge(climbed, learned, rows, validation, split, budget)
    scores = judgement.scores
    gate = verdict(champion, judgement.judged, judgement.ladder, sound.faults, plan.alerts_per_day_max, _SAMPLE_SEED)
    gate = gate_under(plan.switches, gate)
    report("fit-final", 65, f"{len(final)} rows, {final.fraud} fraud")
    params = replace(plan.params, rounds=climbed.rounds)
    grown = (engine.fits(final, params) or LocalFits.of(final, params)).whole()
    booster = folded(grown, climbed.calibration)
    report("publish", 90, f"AP {_shown(scores.ap)}, AUC {_shown(scores.auc)}, CP@100 {_shown(scores.cp_at_100)}")
    told = _Run(climbed, judgement, sound, gate, before, rows.censored, read.switched, read.vectors)
    trained = _publish(store, plan, final, booster, told)
    report(trained.outcome, 100, f"{trained.version}: {trained.reason}")
    return trained


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run has found out."""

    climbed: Climbed
    judgement: Judgement
    sound: Soundness
    gate: Gate
    before: Aliases
    censored: int
    switched: int
    vectors: str


def _vectors(lake: Lake, plan: TrainPlan) -> pl.LazyFrame:
    """Vectors as they were served; with `replay` those of other features computed again from the logs."""
    try:
        if plan.replay:
            split = plan.split
            return served_or_replayed(lake, split.from_ms, split.as_of_ms)
        return lake.scan(topics.FEATURES.name, FEATURE_HASH)
    except NothingToReplayError as error:
        raise TrainRefusedError(str(error)) from error
    except FileNotFoundError as error:
        raise _without_vectors(lake, error) from error


def _labelled_rows(lake: Lake, plan: TrainPlan, features: pl.LazyFrame) -> Rows:
    labels, declined = labels_and_declined(lake)
    return rows_for(features, labels_under(plan.switches, labels), plan.split, plan.matures, declined)


def _without_vectors(lake: Lake, error: FileNotFoundError) -> TrainRefusedError:
    others = sorted({each for file in lake.files(topics.FEATURES.name) if (each := file.feature_hash)})
    if others:
        return TrainRefusedError(
            f"the lake holds vectors of features {', '.join(others)}, this code computes {FEATURE_HASH}: "
            "train with --replay, which computes them again from the lake's transactions, or stream these again with this code"
        )
    return TrainRefusedError(f"{error}: let transactions stream first (is the archiver running?)")


def _periods(rows: Rows, plan: TrainPlan) -> tuple[Rows, Rows, Rows]:
    split = plan.split
    learned = rows.between(split.judged_from_ms, split.judged_to_ms, split.validation_from_ms)
    validation = rows.between(split.validation_from_ms, split.validation_to_ms, split.as_of_ms)
    final = rows.between(split.final_from_ms, split.validation_to_ms, split.as_of_ms)
    whole = rows.between(split.judged_from_ms, split.validation_to_ms, split.as_of_ms)
    learned, validation = periods_under(plan.switches, learned, validation, whole)
    first = rows.frame["occurred_at_ms"].min()
    begins = f"the lake's vectors begin {moment(int(first)) if isinstance(first, int) else 'nowhere'}"
    days = plan.validation_days + 2 * plan.matures.horizon_ms / DAY_MS
    remedy = f"{begins}, and as-of must be more than {days:g} days later: wait, or set FRAUD_VALIDATION_DAYS lower"
    check_enough(learned, "training period", plan.rows_min, plan.fraud_min, remedy)
    check_enough(validation, "validation period", plan.fraud_min, plan.fraud_min, remedy)
    return learned, validation, final


def _publish(store: ModelStore, plan: TrainPlan, final: Rows, booster: xgb.Booster, run: _Run) -> Trained:
    split, judgement = plan.split, run.judgement
    vectors = final.vectors
    final_scores = score(booster, vectors)
    promise = promise_of(judgement.scores, judgement.judged, split)
    thresholds = {REVIEW: threshold_for_budget(judgement.scored, plan.alerts_per_day_max)}
    trained_on = TrainedOn(split.final_from_ms, split.validation_to_ms, len(final), final.fraud)
    files = {
        MODEL_FILE: to_bytes(booster),
        REFERENCE_FILE: _reference(final, final_scores),
        **_told(run, booster, trained_on, promise, thresholds, plan.params),
    }
    manifest = Manifest(
        as_of_ms=plan.as_of_ms,
        created_at=plan.created_at,
        feature_hash=FEATURE_HASH,
        feature_names=NAMES,
        xgboost_version=xgb.__version__,
        files=file_hashes(files),
        trained_on=trained_on,
        labels_known_by_ms=plan.as_of_ms,
        params=plan.params.as_dict() | {"rounds": run.climbed.rounds, "rounds_max": plan.params.rounds},
        promise=promise,
        thresholds=thresholds,
        canaries=canaries(booster, vectors, final_scores),
        gate=run.gate,
    ).sealed()
    store.publish(manifest, files)
    return Trained(manifest.version, *_take_place(store, manifest.version, run), manifest)


def _take_place(store: ModelStore, version: str, run: _Run) -> tuple[str, str]:
    """Give the version the role that the gate grants, if the roles are still those that the gate has seen."""
    gate = run.gate
    try:
        if gate.outcome == PROMOTED:
            store.promote(version, run.before, by="gate", reason=gate.reason)
        elif gate.shadow:
            store.shadow(version, run.before, by="gate", reason=gate.reason)
            return gate.outcome, f"{gate.reason}; it scores in shadow"
    except AliasConflictError:
        now = store.champion()
        return (
            REJECTED,
            f"the roles changed during the run (champion {now}): what was measured no longer tells, train again",
        )
    return gate.outcome, gate.reason


def _told(
    run: _Run,
    booster: xgb.Booster,
    trained_on: TrainedOn,
    promise: Promise,
    thresholds: dict[str, float],
    params: FitParams,
) -> dict[str, bytes]:
    """metrics.json, the card and its pictures."""
    from trainer.plots import (
        pictures,  # loads for seconds on a busy machine: a run that is refused need not wait for it
    )

    climbed, judgement, sound, gate = run.climbed, run.judgement, run.sound, run.gate
    importances = shap_importances(booster, np.ascontiguousarray(judgement.judged.select(NAMES).to_numpy(), np.float32))
    facts = CardFacts(
        trained_on, promise, gate, thresholds, params, judgement.ladder, judgement.rows,
        climbed.calibration, climbed.stopping, sound, importances,
    )  # fmt: skip
    numbers = {
        "promise": promise,
        "gate": gate,
        "thresholds": thresholds,
        "ladder": ladder_numbers(judgement),
        "calibration": climbed.calibration,
        "stopping": climbed.stopping,
        "faults": sound.faults,
        "vectors": run.vectors,
        "declined_left_out": run.censored,
        "served_under_switches_left_out": run.switched,
        "constant_features": sound.constant,
        "importances": {name: round(value, 6) for name, value in importances},
    }
    by_rung = {name: judgement.score_of(name) for name in RUNGS}
    return {
        METRICS_FILE: msgspec.json.format(msgspec.json.encode(numbers)),
        CARD_FILE: card_text(facts).encode(),
        **pictures(judgement.rows, by_rung, SERVED, importances),
    }


def _reference(rows: Rows, scores: Floats) -> bytes:
    """A sample of the training vectors and their scores: what drift is measured against."""
    random = np.random.default_rng(_SAMPLE_SEED)
    chosen = np.sort(random.choice(len(rows), min(len(rows), REFERENCE_ROWS), replace=False))
    sample = rows.frame.with_columns(pl.Series("score", scores))[chosen].select(*NAMES, "score", "is_fraud")
    buffer = io.BytesIO()
    sample.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def moment(time_ms: int) -> str:
    """An event time for people: 2018-08-08 00:00 UTC."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
