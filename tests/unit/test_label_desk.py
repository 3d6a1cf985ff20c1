"""The label desk: what is decided, what is said, and what is due when.

Rule 1. Times are minutes or days after T; the desk is asked, it never waits.
"""

from __future__ import annotations

import numpy as np
import pytest

from fraud.alert import Alert
from fraud.disposition import Disposition
from fraud.windows import DAY_MS, MINUTE_MS
from producer.label_desk import Analysts, LabelDesk, Memory, WaitingLabel

T = 1_735_689_600_000
SURE = Analysts(error_share=0.0)


def alert(number: int, decision: str = "review", at_ms: int = T) -> Alert:
    return Alert(
        alert_id=f"0-{number}", transaction_id=f"w0-0-{number}", card_id="c1", terminal_id="t1", amount_minor=100,
        currency="EUR", occurred_at_ms=at_ms, score=0.5, decision=decision, reason_codes=(), model_version="rules",
        scored_at_ms=at_ms, origin_partition=0, origin_offset=number,
    )  # fmt: skip


def report(number: int, days: float = 5, is_fraud: bool = True, source: str = "customer_report") -> WaitingLabel:
    due_ms = T + int(days * DAY_MS)
    return WaitingLabel(due_ms, f"w0-0-{number}", source, "c1", "t1", T, is_fraud, due_ms)


def verdict(number: int, what: str) -> Disposition:
    return Disposition(f"w0-0-{number}", "c1", "t1", T, what, T)


def told(labels: list[WaitingLabel]) -> list[tuple[str, str, bool]]:
    return [(label.transaction_id, label.source, label.is_fraud) for label in labels]


def fraud(desk: LabelDesk, *numbers: int, known_later: tuple[WaitingLabel, ...] = ()) -> None:
    desk.happened([(f"w0-0-{n}", T) for n in numbers], known_later)


def test_a_report_is_due_at_its_moment_once() -> None:
    desk = LabelDesk()
    fraud(desk, 1, known_later=(report(1, days=5),))
    assert desk.next_due_ms() == T + 5 * DAY_MS
    assert desk.due(T + 5 * DAY_MS - 1) == []
    assert told(desk.due(T + 5 * DAY_MS)) == [("w0-0-1", "customer_report", True)]
    assert desk.due(T + 99 * DAY_MS) == [] and desk.next_due_ms() is None


def test_a_declined_transaction_yields_no_label_whichever_is_told_first() -> None:
    for declined_first in (True, False):
        desk = LabelDesk()
        if declined_first:
            desk.decided(alert(1, "decline"))
        fraud(desk, 1, known_later=(report(1),))
        if not declined_first:
            desk.decided(alert(1, "decline"))
        assert desk.next_due_ms() is None


def test_an_analyst_tells_fraud_from_genuine_within_hours() -> None:
    desk = LabelDesk(SURE)
    fraud(desk, 1)
    desk.decided(alert(1))
    desk.decided(alert(2))
    labels = desk.due(T + DAY_MS)
    assert sorted(told(labels)) == [("w0-0-1", "analyst", True), ("w0-0-2", "analyst", False)]
    assert all(T < label.known_at_ms <= T + 720 * MINUTE_MS for label in labels)


def test_a_report_that_says_the_same_is_not_sent_and_one_that_says_otherwise_corrects() -> None:
    right, wrong = LabelDesk(SURE), LabelDesk(Analysts(error_share=1.0))
    for desk in (right, wrong):
        fraud(desk, 1, known_later=(report(1, days=5),))
        desk.decided(alert(1))
    assert told(right.due(T + 9 * DAY_MS)) == [("w0-0-1", "analyst", True)]
    assert told(wrong.due(T + 9 * DAY_MS)) == [("w0-0-1", "analyst", False), ("w0-0-1", "customer_report", True)]


def test_analysts_review_no_more_than_they_can_on_each_day() -> None:
    desk = LabelDesk(Analysts(per_day_max=3))
    for number in range(10):
        desk.decided(alert(number))
        desk.decided(alert(100 + number, at_ms=T + DAY_MS))
    assert len(desk.due(T + 9 * DAY_MS)) == 6


def test_analysts_err_in_the_stated_share_and_take_the_stated_time() -> None:
    desk = LabelDesk(Analysts(per_day_max=10_000, error_share=0.1))
    for number in range(5_000):
        desk.decided(alert(number))
    labels = desk.due(T + DAY_MS)
    assert abs(np.mean([label.is_fraud for label in labels]) - 0.1) < 0.02
    minutes = [(label.known_at_ms - T) / MINUTE_MS for label in labels]
    assert 42 < np.median(minutes) < 48 and max(minutes) <= 720


def test_a_person_counts_at_once_and_instead_of_the_analyst() -> None:
    desk = LabelDesk(SURE)
    desk.decided(alert(1))
    desk.disposed(verdict(1, "confirmed"), T + MINUTE_MS)
    assert told(desk.due(T + MINUTE_MS)) == [("w0-0-1", "analyst", True)]
    assert desk.due(T + DAY_MS) == []
    desk.decided(alert(1))
    assert desk.next_due_ms() is None, "an alert that is read again brings no second verdict"


def test_a_person_may_correct_what_was_said_but_repeating_it_sends_nothing() -> None:
    desk = LabelDesk(SURE)
    desk.decided(alert(1))
    desk.due(T + DAY_MS)
    desk.disposed(verdict(1, "dismissed"), T + 2 * DAY_MS)
    assert desk.next_due_ms() is None
    desk.disposed(verdict(1, "confirmed"), T + 2 * DAY_MS)
    assert told(desk.due(T + 2 * DAY_MS)) == [("w0-0-1", "analyst", True)]


def test_a_desk_that_begins_again_from_its_memory_goes_on_alike() -> None:
    def day(desk: LabelDesk, number: int) -> list[WaitingLabel]:
        fraud(desk, number, known_later=(report(number, days=number),))
        desk.decided(alert(number, "review" if number % 2 else "decline", T + number * DAY_MS))
        return desk.due(T + number * DAY_MS)

    through, again = LabelDesk(), LabelDesk()
    expected = [day(through, number) for number in range(1, 9)]
    found = []
    for number in range(1, 9):
        found.append(day(again, number))
        again = LabelDesk(memory=again.memory)
    assert found == expected and any(expected)


def test_what_is_too_old_is_forgotten() -> None:
    desk = LabelDesk()
    fraud(desk, 1, known_later=(report(1, days=1),))
    desk.decided(alert(2, "decline"))
    desk.decided(alert(3))
    desk.due(T + 2 * DAY_MS)
    desk.forget(T + 3 * DAY_MS)
    assert desk.memory == Memory()


@pytest.mark.parametrize("wrong", [{"per_day_max": -1}, {"error_share": 1.5}, {"minutes_median": 0}])
def test_impossible_analysts_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Analysts(**wrong)
