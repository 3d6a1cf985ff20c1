"""Four ways to be wrong, measured: what each costs, or by how much it flatters.

Rule 1. `promised` is the number that the mistake shows offline, `delivered` what the same fit does under the honest protocol:
        features as of the transaction, labels after the delay, a later week.
Rule 2. Every ablation runs on the same weeks, features and settings as the honest result beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from benchmarks.handbook.columns import is_terminal_risk
from benchmarks.handbook.nightly import nightly_vectors
from benchmarks.handbook.protocol import Outcome, Table, Week, judged, learned, mean, run_week, scored
from benchmarks.handbook.published import Row
from benchmarks.handbook.rows import Say, delay_ms_of, known_after, vectors_of
from fraud.features import REQUEST_NAMES
from fraud.windows import DAY_MS
from trainer.evaluate import auc, average_precision

RANDOM_TEST_SHARE: Final = 0.2
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Ablation:
    """One mistake. promised None: the mistake shows no flattering number, it only costs."""

    name: str
    lesson: str
    promised: tuple[float, float, float | None] | None
    delivered: Row


def all_ablations(table: Table, weeks: Sequence[Week], honest: Row, say: Say) -> list[Ablation]:
    """The four, in the order in which they are told; honest: the mean over the weeks without a mistake."""
    made: list[Callable[[Table, Sequence[Week], Row, Say], Ablation]] = [
        _no_risk,
        _nightly,
        _known_at_once,
        _random_split,
    ]
    return [ablation(table, weeks, honest, say) for ablation in made]


def _no_risk(table: Table, weeks: Sequence[Week], honest: Row, say: Say) -> Ablation:
    say("ablation: no terminal risk")
    kept = [i for i, name in enumerate(table.names) if not is_terminal_risk(name)]
    poorer = replace(table, vectors=table.vectors[:, kept], names=tuple(table.names[i] for i in kept))
    return Ablation(
        "no terminal risk",
        "most frauds of this world happen at a compromised terminal, and only labels that came back tell which those are",
        None,
        mean([run_week(poorer, week) for week in weeks]),
    )


def _nightly(table: Table, weeks: Sequence[Week], honest: Row, say: Say) -> Ablation:
    say("ablation: features of last midnight served to a model that learned from fresh ones")
    outcomes: list[Outcome] = []
    own = [i for i, name in enumerate(table.names) if name in REQUEST_NAMES]
    tests = [table.between(week.test_from_ms, week.test_to_ms) for week in weeks]
    read = slice(min(test.start for test in tests), max(test.stop for test in tests))
    nightly = nightly_vectors(table.rows, read, table.names, delay_ms_of(weeks[0].delay_ms / DAY_MS))
    nightly[:, own] = table.vectors[read][:, own]
    for week, test in zip(weeks, tests, strict=True):
        outcomes.append(run_week(table, week, nightly[test.start - read.start : test.stop - read.start]))
    return Ablation(
        "nightly features served to a model that learned from fresh ones",
        "the model is the honest one; only what it is fed differs: training-serving skew",
        honest,
        mean(outcomes),
    )


def _known_at_once(table: Table, weeks: Sequence[Week], honest: Row, say: Say) -> Ablation:
    say("ablation: labels known at once")
    rows = known_after(table.rows.drop("label_is_fraud", "label_known_at_ms"), 0)
    dream = Table(rows, vectors_of(rows, table.names, delay_ms_of(0), say), table.names)
    promised: list[Row] = []
    delivered: list[Row] = []
    for week in weeks:
        at_once = replace(week, delay_ms=0)
        test = table.between(week.test_from_ms, week.test_to_ms)
        booster = learned(dream, dream.between(at_once.train_from_ms, at_once.train_to_ms))
        promised.append(judged(dream, at_once, scored(booster, dream.vectors[test]))[0])
        delivered.append(judged(table, week, scored(booster, table.vectors[test]))[0])
    return Ablation(
        "labels taken as known at once",
        "training and its test both know yesterday's frauds; in service they are known a week later",
        _mean(promised),
        _mean(delivered),
    )


def _random_split(table: Table, weeks: Sequence[Week], honest: Row, say: Say) -> Ablation:
    say("ablation: random split")
    aucs: list[float] = []
    aps: list[float] = []
    for week in weeks:
        where = table.between(week.train_from_ms, week.test_to_ms)
        drawn = np.random.default_rng(_SEED).random(where.stop - where.start) < RANDOM_TEST_SHARE
        train, test = where.start + np.flatnonzero(~drawn), where.start + np.flatnonzero(drawn)
        scores, truth = scored(learned(table, train), table.vectors[test]), table.rows["is_fraud"][test].to_numpy()
        aucs.append(auc(truth, scores) or 0.0)
        aps.append(average_precision(truth, scores) or 0.0)
    return Ablation(
        "random split",
        "rows of one fraud stand on both sides, cards that are long known count as found, and nothing has to last a week",
        (float(np.mean(aucs)), float(np.mean(aps)), None),  # a fifth of each day's cards: no card precision to compare
        honest,
    )


def _mean(measured: Sequence[Row]) -> Row:
    first, second, third = np.mean(measured, axis=0).tolist()
    return first, second, third
