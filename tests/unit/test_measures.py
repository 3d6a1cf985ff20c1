"""Measures against scikit-learn, against the trainer's own, and against slow loops.

Rule 1. Whatever the promise is measured by, the delivered is measured by too: both codes must agree on any rows.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud import measures
from fraud.decision import COSTS
from fraud.measures import Matured
from fraud.windows import DAY_MS
from trainer import evaluate

APPROVE, REVIEW, DECLINE = 0, 1, 2


def some(count: int = 600, seed: int = 1, days: int = 5) -> Matured:
    random = np.random.default_rng(seed)
    is_fraud = random.random(count) < 0.15
    score = np.round(random.random(count) * 0.7 + is_fraud * 0.25, 3).astype(np.float32)
    decision = np.where(score > 0.8, DECLINE, np.where(score > 0.6, REVIEW, APPROVE)).astype(np.uint8)
    explored = (decision == DECLINE) & (random.random(count) < 0.25)
    decision[explored] = APPROVE
    return Matured(
        card=random.integers(0, 60, count),
        occurred_at_ms=np.sort(random.integers(17_622 * DAY_MS, (17_622 + days) * DAY_MS, count)),
        amount_minor=random.integers(1, 90_000, count),
        score=score,
        decision=decision,
        explored=explored,
        is_fraud=is_fraud,
    )


def test_auc_and_average_precision_are_those_of_scikit_learn_with_weights_too() -> None:
    rows = some()
    weight = np.random.default_rng(2).random(len(rows)) * 3
    for w in (None, weight):
        assert measures.auc(rows.is_fraud, rows.score, w) == pytest.approx(
            roc_auc_score(rows.is_fraud, rows.score, sample_weight=w)
        )
        assert measures.average_precision(rows.is_fraud, rows.score, w) == pytest.approx(
            average_precision_score(rows.is_fraud, rows.score, sample_weight=w)
        )


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_those_that_the_promise_is_measured_by(seed: int) -> None:
    rows = some(seed=seed)
    distinct = np.random.default_rng(seed).permutation(len(rows)).astype(np.float32)  # ties may fall either way
    rows = Matured(rows.card, rows.occurred_at_ms, rows.amount_minor, distinct, *list(columns(rows))[4:])
    frame = pl.DataFrame(
        {
            "card_id": rows.card.astype(str),
            "occurred_at_ms": rows.occurred_at_ms,
            "is_fraud": rows.is_fraud,
            "score": rows.score,
        }
    )
    known = pl.DataFrame({"card_id": ["3", "4", "3"], "known_at_ms": [17_624 * DAY_MS - 1, 17_625 * DAY_MS, 2**60]})
    theirs, judged = evaluate.measure(frame, known)
    keep = measures.without_known_cards(rows, known["card_id"].cast(int).to_numpy(), known["known_at_ms"].to_numpy())
    mine = rows.take(keep)
    assert 0 < len(mine) == judged.height < len(rows)
    assert measures.auc(mine.is_fraud, mine.score) == pytest.approx(theirs.auc)
    assert measures.average_precision(mine.is_fraud, mine.score) == pytest.approx(theirs.ap)
    assert measures.card_precision(mine, 100) == pytest.approx(theirs.cp_at_100)
    assert measures.card_precision(mine, 7) == pytest.approx(evaluate.card_precision(judged, 7))


def columns(rows: Matured):  # type: ignore[no-untyped-def]
    return (getattr(rows, name) for name in Matured.__slots__)


def test_at_the_budget_the_highest_scores_of_each_day_are_looked_at() -> None:
    rows, budget = some(), 9
    looked_at = []
    for day in sorted(set(rows.day.tolist())):
        today = [i for i in range(len(rows)) if rows.day[i] == day]
        looked_at += sorted(today, key=lambda i: (-rows.score[i], i))[:budget]
    caught = sum(bool(rows.is_fraud[i]) for i in looked_at)
    precision, recall = measures.at_budget(rows, np.ones(len(rows)), budget)
    assert precision == pytest.approx(caught / len(looked_at))
    assert recall == pytest.approx(caught / rows.is_fraud.sum())


def test_a_row_that_counts_for_several_fills_the_budget_like_several() -> None:
    rows = some(200)
    count = np.random.default_rng(3).integers(0, 4, len(rows))
    repeated = Matured(*(np.repeat(column, count) for column in columns(rows)))
    weighted = measures.at_budget(rows, count.astype(float), 7)
    assert weighted == pytest.approx(measures.at_budget(repeated, np.ones(len(repeated)), 7))
    assert measures.money(rows, count.astype(float)) == measures.money(repeated, np.ones(len(repeated)))


def test_detection_is_from_the_first_fraud_to_the_first_that_was_not_approved() -> None:
    rows, from_ms = some(), 17_623 * DAY_MS
    seconds, cards = [], 0
    for card in set(rows.card.tolist()):
        frauds = [i for i in range(len(rows)) if rows.card[i] == card and rows.is_fraud[i]]
        if not frauds or rows.occurred_at_ms[frauds[0]] < from_ms:
            continue
        cards += 1
        caught = [i for i in frauds if rows.decision[i] != APPROVE]
        if caught:
            seconds.append((rows.occurred_at_ms[caught[0]] - rows.occurred_at_ms[frauds[0]]) / 1000)
    found = measures.detection(rows, from_ms)
    assert (found.cards, found.seconds.tolist()) == (cards, sorted(seconds))
    assert 0 < len(seconds) < cards
    assert found.share == len(seconds) / cards
    assert found.quantile(0.5) == pytest.approx(np.median(seconds))


def test_money_is_counted_by_the_costs_of_the_decisions() -> None:
    rows = some()
    saved = lost = spent = 0
    for amount, decision, is_fraud in zip(
        rows.amount_minor.tolist(), rows.decision.tolist(), rows.is_fraud.tolist(), strict=True
    ):
        if is_fraud:
            saved += (amount + COSTS.chargeback_minor) * (decision != APPROVE)
            lost += (amount + COSTS.chargeback_minor) * (decision == APPROVE)
        spent += COSTS.review_minor * (decision == REVIEW)
        spent += COSTS.refusal_minor * (decision == DECLINE and not is_fraud)
    assert measures.money(rows, np.ones(len(rows))) == measures.Money(saved, lost, spent)


def test_where_the_declined_are_hidden_the_explored_count_for_them_and_the_mean_is_right() -> None:
    rows = some(20_000, seed=4)
    weight = measures.weights(rows, hidden=True)
    assert weight.sum() == pytest.approx(len(rows))
    assert (weight[rows.decision == DECLINE] == 0).all()
    assert (measures.weights(rows, hidden=False) == 1).all()
    whole = measures.average_precision(rows.is_fraud, rows.score)
    seen = weight > 0
    weighted = measures.average_precision(rows.is_fraud[seen], rows.score[seen], weight[seen])
    approved_only = measures.average_precision(rows.is_fraud[seen], rows.score[seen])
    assert weighted == pytest.approx(whole, abs=0.03)
    assert approved_only != pytest.approx(whole, abs=0.03), "without the weights it would be wrong"


def test_nothing_to_measure_is_undefined_and_not_zero() -> None:
    nothing = some().take(np.zeros(600, np.bool_))
    honest = some().take(~some().is_fraud)
    for rows in (nothing, honest):
        ones = np.ones(len(rows))
        assert measures.auc(rows.is_fraud, rows.score) is None
        assert measures.average_precision(rows.is_fraud, rows.score) is None
        assert measures.detection(rows, 0).share is None
        assert measures.detection(rows, 0).quantile(0.5) is None
        assert measures.at_budget(rows, ones, 5)[1] is None
        assert measures.money(rows, ones).saved_minor == 0
    assert measures.card_precision(nothing, 5) is None
