"""The measures on examples small enough to check by hand, and against scikit-learn on random ones.

Rule 1. The expected number is worked out in the test, not copied from a run.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud.windows import DAY_MS
from trainer.evaluate import (
    auc,
    average_precision,
    card_precision,
    threshold_for_budget,
    without_known_cards,
)


def test_average_precision_of_a_worked_example() -> None:
    #  score  .9 F   .8 -   .7 F   .6 -      precision at the frauds: 1/1 and 2/3
    assert average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6]) == pytest.approx((1 + 2 / 3) / 2)


def test_auc_counts_a_tie_as_half() -> None:
    #  pairs (fraud, genuine): (.5,.5) tie, (.5,.1) won
    assert auc([1, 0, 0], [0.5, 0.5, 0.1]) == pytest.approx(0.75)


@pytest.mark.parametrize("truth", [[0, 0, 0], []])
def test_without_fraud_there_is_no_measure(truth: list[int]) -> None:
    assert auc(truth, [0.5] * len(truth)) is None
    assert average_precision(truth, [0.5] * len(truth)) is None


@pytest.mark.parametrize("seed", range(5))
def test_measures_agree_with_scikit_learn_on_random_scores_with_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(500) < 0.1
    score = np.round(random.random(500) + truth * 0.3, 2)
    assert auc(truth, score) == pytest.approx(roc_auc_score(truth, score))
    assert average_precision(truth, score) == pytest.approx(average_precision_score(truth, score))


def test_a_weight_counts_a_row_that_often() -> None:
    truth, score = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6]
    weight = np.array([1.0, 3.0, 2.0, 0.0])
    repeated = np.repeat(np.arange(4), weight.astype(int))
    assert average_precision(truth, score, weight) == pytest.approx(
        average_precision(np.array(truth)[repeated], np.array(score)[repeated])
    )


def rows(*lines: tuple[int, str, float, bool]) -> pl.DataFrame:
    return pl.DataFrame(
        [(day * DAY_MS + 5, card, score, fraud) for day, card, score, fraud in lines],
        schema={"occurred_at_ms": pl.Int64, "card_id": pl.String, "score": pl.Float32, "is_fraud": pl.Boolean},
        orient="row",
    )


def test_card_precision_ranks_cards_by_their_highest_score_and_forgets_found_ones() -> None:
    test = rows(
        (0, "a", 0.9, False), (0, "a", 0.1, True),  # a: highest .9, compromised that day
        (0, "b", 0.8, False), (0, "c", 0.7, True),  # top 2 of day 0: a, b -> 1 of 2
        (1, "a", 0.9, True),                        # found on day 0: not looked for any more
        (1, "b", 0.8, False), (1, "c", 0.7, True), (1, "d", 0.6, True),  # top 2 of day 1: b, c -> 1 of 2
        (2, "c", 0.9, True), (2, "d", 0.8, True),   # c was found: only d -> 1 of 2
    )  # fmt: skip
    assert card_precision(test, k=2) == pytest.approx((1 / 2 + 1 / 2 + 1 / 2) / 3)


def test_card_precision_divides_by_k_even_when_fewer_cards_paid() -> None:
    assert card_precision(rows((0, "a", 0.9, True)), k=100) == pytest.approx(0.01)


def test_a_card_leaves_from_the_day_that_begins_knowing_its_fraud() -> None:
    test = rows((0, "a", 0.5, False), (1, "a", 0.5, False), (2, "a", 0.5, False), (1, "b", 0.5, False))
    known = pl.DataFrame({"card_id": ["a", "a"], "known_at_ms": [DAY_MS + 1, 9 * DAY_MS]})
    kept = without_known_cards(test, known)
    assert [(time // DAY_MS, card) for time, card, *_ in kept.rows()] == [(0, "a"), (1, "a"), (1, "b")]


def test_a_fraud_known_exactly_when_the_day_begins_was_not_known_before_it() -> None:
    known = pl.DataFrame({"card_id": ["a"], "known_at_ms": [DAY_MS]})
    assert without_known_cards(rows((1, "a", 0.5, False)), known).height == 1


def test_the_threshold_gives_the_budget_over_the_days() -> None:
    test = rows(*[(day, "a", (day * 10 + i) / 100, False) for day in range(2) for i in range(10)])
    threshold = threshold_for_budget(test, alerts_per_day_max=3)
    assert (test["score"].cast(pl.Float64) >= threshold).sum() == 6


def test_equal_scores_that_do_not_all_fit_into_the_budget_stay_below_the_threshold() -> None:
    tied = rows((0, "a", 0.9, False), *[(0, "b", 0.5, False)] * 5)
    assert threshold_for_budget(tied, alerts_per_day_max=3) == pytest.approx(0.9)
    assert threshold_for_budget(tied, alerts_per_day_max=6) == pytest.approx(0.5)
    assert threshold_for_budget(rows(*[(0, "b", 0.5, False)] * 5), alerts_per_day_max=3) == 1.0
