"""Measures for many models on the same rows: worked examples, and what an interval promises.

Rule 1. The expected number is worked out in the test or comes from the other implementation in trainer/evaluate.py.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fraud.decision import Costs
from fraud.windows import DAY_MS
from trainer.evaluate import auc, average_precision, card_precision
from trainer.measures import MEASURES, JudgedRows, Ranking, measured, recall_by_scenario

COSTS = Costs(review_minor=300, chargeback_minor=1500, refusal_minor=2000)


def frame(*lines: tuple[int, str, bool, int]) -> pl.DataFrame:
    schema = {
        "occurred_at_ms": pl.Int64,
        "card_id": pl.String,
        "is_fraud": pl.Boolean,
        "request_amount_minor": pl.Float32,
    }
    return pl.DataFrame([(day * DAY_MS, *rest) for day, *rest in lines], schema=schema, orient="row")


def random_frame(seed: int, rows: int = 4000) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return frame(
        *[
            (int(random.integers(5)), f"c{int(random.integers(400)):03d}", bool(random.random() < 0.05), 5000)
            for _ in range(rows)
        ]
    )


def value(rows: pl.DataFrame, score: list[float], measure: str, budget: int) -> float:
    judged = JudgedRows.of(rows, budget, COSTS)
    ranking = Ranking(judged, np.array(score, np.float32))
    return float(ranking.measures(np.ones(judged.cards))[MEASURES.index(measure)])


def test_precision_and_recall_at_the_budget_of_a_worked_example() -> None:
    #  day 0: .9 F  .8 -     day 1: .7 F  .1 F     two alerts a day would be four; one a day is two: .9 and .8
    rows = frame((0, "a", True, 1), (0, "b", False, 1), (1, "c", True, 1), (1, "d", True, 1))
    score = [0.9, 0.8, 0.7, 0.1]
    assert value(rows, score, "precision_at_budget", budget=1) == pytest.approx(1 / 2)
    assert value(rows, score, "recall_at_budget", budget=1) == pytest.approx(1 / 3)


def test_where_the_budget_ends_among_equal_scores_each_has_the_same_share_of_it() -> None:
    rows = frame((0, "a", True, 1), (0, "b", True, 1), (0, "c", False, 1), (0, "d", False, 1), (0, "e", False, 1))
    assert value(rows, [0.9, 0.5, 0.5, 0.5, 0.5], "recall_at_budget", budget=3) == pytest.approx((1 + 2 / 4) / 2)


def test_cost_counts_missed_frauds_reviews_and_refused_customers() -> None:
    rows = frame(
        (0, "a", True, 10_000),   # .99: declined, costs nothing
        (0, "b", False, 10_000),  # .95: declined, an honest customer: 2000
        (0, "c", True, 10_000),   # .50: reviewed: 300
        (0, "d", True, 4_000),    # .40: beyond the budget of three, passes: 4000 + 1500
        (0, "e", False, 4_000),   # .01: passes, costs nothing
    )  # fmt: skip
    score = [0.99, 0.95, 0.5, 0.4, 0.01]
    assert value(rows, score, "cost_minor_a_day", budget=3) == pytest.approx(2000 + 300 + 5500)
    assert value(rows, score, "cost_minor_a_day", budget=5) == pytest.approx(2000 + 300 + 300)


@pytest.mark.parametrize("seed", range(3))
def test_the_weighted_measures_without_weights_are_the_plain_ones(seed: int) -> None:
    rows = random_frame(seed)
    score = np.round(np.random.default_rng(seed + 9).random(rows.height) + 0.3 * rows["is_fraud"].to_numpy(), 2)
    scored = rows.with_columns(score=pl.Series(score, dtype=pl.Float32))
    truth = rows["is_fraud"].to_numpy()
    assert value(rows, score.tolist(), "auc", 9) == pytest.approx(auc(truth, scored["score"]), abs=1e-9)
    assert value(rows, score.tolist(), "ap", 9) == pytest.approx(average_precision(truth, scored["score"]), abs=1e-9)
    assert value(rows, score.tolist(), "cp_at_100", 9) == pytest.approx(card_precision(scored))


def test_a_card_that_counts_twice_counts_as_its_rows_written_twice() -> None:
    rows = frame((0, "a", True, 900), (0, "b", False, 900), (0, "a", False, 900), (0, "c", True, 900))
    score = np.array([0.9, 0.8, 0.3, 0.2], np.float32)
    judged = JudgedRows.of(rows, 2, COSTS)
    weighted = Ranking(judged, score).measures(np.array([2.0, 1.0, 1.0]))  # cards a, b, c
    twice = np.array([0, 0, 1, 2, 2, 3])
    plain = JudgedRows.of(rows[twice], 2, COSTS)
    repeated = Ranking(plain, score[twice]).measures(np.ones(3))
    same = [i for i, name in enumerate(MEASURES) if name != "cp_at_100"]  # there a card is counted, not its rows
    assert weighted[same] == pytest.approx(repeated[same])


def test_differences_are_paired_so_a_model_differs_from_itself_by_nothing() -> None:
    rows = JudgedRows.of(random_frame(1), 20)
    random = np.random.default_rng(4)
    score = random.random(len(rows.is_fraud)).astype(np.float32)
    other = random.random(len(rows.is_fraud)).astype(np.float32)
    found = measured(rows, {"one": score, "same": score.copy(), "other": other}, seed=3, draws=50)
    for measure in MEASURES:
        assert found.difference("one", "same", measure).low == found.difference("one", "same", measure).high == 0
    apart = found.difference("one", "other", "auc")
    assert apart.low < apart.value < apart.high


def test_an_interval_by_cards_is_wider_than_one_by_rows_when_cards_are_attacked_whole() -> None:
    #  ten rows of a card are all fraud and all scored alike, or all genuine: 4000 rows say as much as 400
    cards = [(0, f"c{i // 10:04d}", i // 10 % 20 == 0, 5000) for i in range(4000)]
    rows = frame(*cards)
    by_card = np.random.default_rng(6).random(400)
    score = np.repeat(by_card, 10).astype(np.float32)
    whole = measured(JudgedRows.of(rows, 50), {"m": score}, seed=1).interval("m", "auc")
    lone = rows.with_columns(card_id=pl.int_range(pl.len()).cast(pl.String))
    single = measured(JudgedRows.of(lone, 50), {"m": score}, seed=1).interval("m", "auc")
    assert whole.high - whole.low > 2 * (single.high - single.low)


def test_recall_is_told_for_each_scenario_that_has_frauds() -> None:
    rows = frame(*[(0, f"c{i}", i < 20, 5000) for i in range(100)])
    scenario = pl.Series(["fast"] * 10 + ["slow"] * 10 + [None] * 75 + ["benign"] * 5)
    score = np.array([0.9] * 10 + [0.1] * 10 + [0.2] * 80, np.float32)
    found = recall_by_scenario(JudgedRows.of(rows, 10), scenario, {"m": score}, seed=1, draws=40)
    assert set(found) == {"fast", "slow"}
    assert found["fast"]["m"].value == pytest.approx(1.0)
    assert found["slow"]["m"].value == pytest.approx(0.0)


def test_one_class_only_gives_no_measure_instead_of_a_crash() -> None:
    rows = JudgedRows.of(frame((0, "a", False, 5), (0, "b", False, 5)), 3)
    found = measured(rows, {"m": np.array([0.01, 0.02], np.float32)}, seed=1, draws=5)
    assert np.isnan(found.interval("m", "ap").value)
    assert np.isnan(found.interval("m", "ap").low)
    assert found.interval("m", "cost_minor_a_day").value == 0
