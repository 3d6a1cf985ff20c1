"""The generated world is as hard as it says: no column gives fraud away, history tells much, and nothing is told by construction.

Rule 1. One fixed seed; the bounds are the stated ones, those of docs/world.md.
Rule 2. Each check has a control: a world that gives fraud away, or a history that says nothing, is refused by it.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from producer.world.rows import SCENARIO_NAMES
from producer.world.world import World
from tests.world_realism import CARDS, Judged, Lived

AUC_MAX = 0.95
AP_GAIN_MIN = 0.25
OBVIOUS = "obvious-amount"


@pytest.fixture(scope="module")
def lived() -> Lived:
    return Lived.of(World(0, CARDS))


def with_column(lived: Lived, name: str, value: pl.Expr) -> Lived:
    return Lived(lived.frame.with_columns(value.alias(name)))


def not_by_construction(judged: Judged) -> bool:
    """Whether of every scenario but the obvious one some is caught and some is missed."""
    recall = judged.recall
    return set(recall) == set(SCENARIO_NAMES) and all(0.02 < recall[name] < 0.98 for name in recall if name != OBVIOUS)


def test_between_a_fifth_of_a_percent_and_one_percent_is_fraud(lived: Lived) -> None:
    assert 0.002 < lived.is_fraud.mean() < 0.01


def test_no_single_column_gives_fraud_away(lived: Lived) -> None:
    aucs = {name: lived.auc(name) for name in lived.request.columns}
    assert len(aucs) == 14
    assert max(aucs.values()) < AUC_MAX, aucs


def test_a_column_that_gives_fraud_away_is_noticed(lived: Lived) -> None:
    given_away = pl.when("is_fraud").then(pl.col("amount_minor") + 100_000).otherwise("amount_minor")
    assert with_column(lived, "amount_minor", given_away).auc("amount_minor") > AUC_MAX
    own_code = pl.when("is_fraud").then(pl.lit("9999")).otherwise("mcc")
    assert with_column(lived, "mcc", own_code).auc("mcc") > AUC_MAX


def test_history_tells_much_that_the_request_does_not(lived: Lived) -> None:
    request, history = lived.by_request.average_precision, lived.by_history.average_precision
    assert history - request >= AP_GAIN_MIN, (request, history)
    assert 0.5 < history < 0.9, "neither hopeless nor solved"


def test_every_scenario_has_its_own_recall_and_only_the_obvious_one_is_certain(lived: Lived) -> None:
    judged = lived.by_history
    assert not_by_construction(judged), judged.recall
    assert judged.recall[OBVIOUS] > 0.8
    assert len({round(recall, 2) for recall in judged.recall.values()}) >= 6
    assert judged.recall["terminal-compromise"] > lived.by_request.recall.get("terminal-compromise", 0) + 0.2


def test_a_history_that_says_nothing_is_noticed(lived: Lived) -> None:
    strangers = np.random.default_rng(0).permutation(lived.history)
    judged = lived.told_by(lived.request.to_numpy(), strangers)
    assert judged.average_precision - lived.by_request.average_precision < AP_GAIN_MIN / 2
    assert not not_by_construction(judged)


def test_a_history_that_knows_the_truth_is_noticed(lived: Lived) -> None:
    judged = lived.told_by(lived.request.to_numpy(), lived.is_fraud.astype(np.float64)[:, None])
    assert judged.average_precision > 0.9
    assert not not_by_construction(judged)
