"""Decision, alert, control request and the flood guard: the pure functions around a score.

Rule 1. The decision is checked against one written by comparing three numbers, row by row.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fraud.alert import Alert, alert_id_of, feature_reasons, parse_alert
from fraud.control import Retrain, SetClock, StartScenario, StopScenario, parse_control_request
from fraud.dead_letters import BadMessageError, Reason
from fraud.decision import APPROVE, COSTS, DECISIONS, DECLINE, REVIEW, Costs, decide, explored
from fraud.flood import DeadLetterFloodError, FloodGuard


def decided_slowly(p: float, amount_minor: int, threshold: float, costs: Costs) -> str:
    if np.float32(p) < np.float32(threshold):
        return "approve"
    expected = {
        "approve": p * (amount_minor + costs.chargeback_minor),
        "review": float(costs.review_minor),
        "decline": (1 - p) * costs.refusal_minor,
    }
    return min(expected, key=lambda decision: expected[decision])


def test_the_decision_equals_a_comparison_of_three_costs_row_by_row() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(2000).astype(np.float32)
    amounts = rng.choice([0, 1, 99, 5_000, 10**6, 10**12], 2000).astype(np.int64)
    for costs in (COSTS, Costs(1, 0, 1), Costs(10_000, 0, 100)):
        slowly = [
            decided_slowly(float(p), a, 0.25, costs) for p, a in zip(scores.tolist(), amounts.tolist(), strict=True)
        ]
        assert [DECISIONS[d] for d in decide(scores, amounts, 0.25, costs)] == slowly


def test_below_the_review_threshold_nothing_alerts_however_large_the_amount() -> None:
    below = np.nextafter(np.float32(0.7), np.float32(0))
    scores, amounts = np.array([below, 0.7], np.float32), np.array([10**12, 10**12])
    assert decide(scores, amounts, 0.7).tolist() == [0, 1]


def test_an_alert_of_any_amount_is_worth_a_review_from_a_fifth_and_a_refusal_from_seventeen_twentieths() -> None:
    scores = np.array([0.19, 0.21, 0.84, 0.86], np.float32)
    assert decide(scores, np.zeros(4, np.int64), 0.0).tolist() == [0, 1, 1, 2]


def test_a_stated_share_of_the_declined_is_let_through_and_always_the_same_ones() -> None:
    ids = [f"t{i}" for i in range(20_000)]
    decision = np.tile(np.array([APPROVE, REVIEW, DECLINE, DECLINE], np.uint8), 5_000)
    let_through = explored(decision, ids, 0.01)
    assert not let_through[decision != DECLINE].any()
    assert 60 <= let_through.sum() <= 140, "10,000 declined, 1 %: 100 expected, 10 the standard deviation"
    assert np.array_equal(let_through[::-1], explored(decision[::-1], ids[::-1], 0.01))
    assert explored(decision, ids, 1.0).sum() == 10_000 and not explored(decision, ids, 0.0).any()


def test_a_score_that_is_no_number_is_approved() -> None:
    assert decide(np.array([np.nan], np.float32), np.array([100]), 0.0).tolist() == [0]


def alert() -> Alert:
    return Alert(
        alert_id=alert_id_of(2, 77),
        transaction_id="t-1",
        card_id="c-1",
        terminal_id="m-1",
        amount_minor=22_100,
        currency="EUR",
        occurred_at_ms=1_530_000_000_000,
        score=float(np.float32(0.9)),
        decision="review",
        reason_codes=("CARD_COUNT_1H", "RULE_CARD_VELOCITY_1H"),
        model_version="rules",
        scored_at_ms=1_790_000_000_000,
        origin_partition=2,
        origin_offset=77,
    )


def test_an_alert_survives_its_json_and_keeps_the_float32_score() -> None:
    back = parse_alert(alert().to_json())
    assert back == alert()
    assert back.alert_id == "2-77"
    assert np.float32(back.score) == np.float32(0.9)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"decision": "approve"}, Reason.FIELD_TYPE),
        ({"amount_minor": 1.5}, Reason.FIELD_TYPE),
        ({"card_id": "a b"}, Reason.ID_INVALID),
        ({"occurred_at_ms": 0}, Reason.TIME_OUT_OF_RANGE),
    ],
)
def test_what_is_no_alert_is_refused_with_a_reason(change: dict[str, object], reason: Reason) -> None:
    message = {**msgspec.json.decode(alert().to_json()), **change}
    with pytest.raises(BadMessageError) as caught:
        parse_alert(msgspec.json.encode(message))
    assert caught.value.reason is reason


def test_feature_reasons_are_positive_contributions_by_size_without_the_bias() -> None:
    names = ("a", "b", "c", "d", "e", "f")
    contributions = np.array([0.1, -3, 0.5, 0, 0.4, 0.2, 9.0], np.float32)
    assert feature_reasons(contributions, names) == ("C", "E", "F", "A")
    assert feature_reasons(-contributions, names) == ("B",)


def test_a_control_request_survives_its_json() -> None:
    for request in (
        Retrain("r-1", 1_790_000_000_000),
        Retrain("r-2", 10**12, 10**12),
        SetClock("r-3", 10**12, speed=60.0),
        SetClock("r-4", 10**12, paused=True, event_time_ms=10**12),
        StartScenario("r-5", 10**12, "card-testing", 20, 10.0, {"amount_minor_max": 500.0}),
        StopScenario("r-6", 10**12),
        StopScenario("r-7", 10**12, "r-5"),
    ):
        assert parse_control_request(request.to_json()) == request


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"retrain", Reason.NOT_JSON),
        (b'{"kind":"explode","request_id":"r","sent_at_ms":1790000000000}', Reason.FIELD_TYPE),
        (b'{"kind":"retrain","request_id":"","sent_at_ms":1790000000000}', Reason.ID_INVALID),
        (b'{"kind":"retrain","request_id":"r","sent_at_ms":1790000000}', Reason.TIME_OUT_OF_RANGE),
        (b'{"kind":"retrain","request_id":"r","sent_at_ms":1790000000000,"as_of_ms":-1}', Reason.TIME_OUT_OF_RANGE),
        (b'{"kind":"clock","request_id":"r","sent_at_ms":1790000000000,"speed":0}', Reason.FIELD_TYPE),
        (b'{"kind":"clock","request_id":"r","sent_at_ms":1790000000000,"speed":14401}', Reason.FIELD_TYPE),
        (b'{"kind":"clock","request_id":"r","sent_at_ms":1790000000000,"event_time_ms":5}', Reason.TIME_OUT_OF_RANGE),
        (b'{"kind":"scenario-start","request_id":"r","sent_at_ms":1790000000000}', Reason.FIELD_MISSING),
        (
            b'{"kind":"scenario-start","request_id":"r","sent_at_ms":1790000000000,"scenario":"a","cards":0,"minutes":1}',
            Reason.FIELD_TYPE,
        ),
        (
            b'{"kind":"scenario-start","request_id":"r","sent_at_ms":1790000000000,"scenario":"a","cards":1,"minutes":0}',
            Reason.FIELD_TYPE,
        ),
        (b'{"kind":"retrain","request_id":"r","request_id":"s","sent_at_ms":1790000000000}', Reason.DUPLICATE_KEY),
    ],
)
def test_what_is_no_control_request_is_refused_with_a_reason(raw: bytes, reason: Reason) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse_control_request(raw)
    assert caught.value.reason is reason


def test_a_flood_stops_before_it_is_written_and_a_few_bad_records_do_not() -> None:
    guard = FloodGuard("features", 0.5, 1000)
    for _ in range(100):
        guard.admit(50, 25)
    with pytest.raises(DeadLetterFloodError, match="features"):
        guard.admit(50, 26)


def test_too_few_records_are_never_a_flood_and_old_ones_are_forgotten() -> None:
    guard = FloodGuard("features", 0.5, 1000)
    guard.admit(999, 999)
    guard.admit(1000, 0)
    guard.admit(1000, 500)
    with pytest.raises(DeadLetterFloodError):
        guard.admit(1, 1)
