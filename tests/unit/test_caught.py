"""What was caught of a scenario, counted by hand."""

from __future__ import annotations

from fraud.alert import Alert
from fraud.truth import Truth
from monitoring.caught import Caught, caught

T = 1_735_689_600_000


def truth(number: int, card: str, minute: int, scenario: str = "card-testing", run_id: str | None = "run-a") -> Truth:
    return Truth(f"t{number}", card, T + minute * 60_000, scenario, run_id)


def alert(number: int, decision: str = "review") -> Alert:
    return Alert(
        alert_id=f"0-{number}", transaction_id=f"t{number}", card_id="c", terminal_id="t", amount_minor=1, currency="EUR",
        occurred_at_ms=T, score=0.9, decision=decision, reason_codes=(), model_version="rules", scored_at_ms=T,
        origin_partition=0, origin_offset=number,
    )  # fmt: skip


def test_transactions_cards_and_time_to_the_first_alert_are_counted() -> None:
    truths = [truth(1, "c1", 0), truth(2, "c1", 3), truth(3, "c1", 4), truth(4, "c2", 0), truth(5, "c3", 9)]
    (found,) = caught(truths, [alert(2, "decline"), alert(3), alert(5)], {"t1", "t5"})
    assert found == Caught("card-testing", "run-a", 5, 3, 1, 3, 2, 180.0, 2)


def test_each_run_and_each_scenario_of_the_background_has_its_own_line() -> None:
    truths = [
        truth(1, "c1", 5),
        truth(2, "c1", 0, run_id=None),
        truth(3, "c1", 1, "bust-out", None),
        truth(4, "c1", 2, run_id="run-b"),
    ]
    lines = [(one.run_id, one.scenario, one.transactions) for one in caught(truths, [], set())]
    assert lines == [
        (None, "card-testing", 1),
        (None, "bust-out", 1),
        ("run-b", "card-testing", 1),
        ("run-a", "card-testing", 1),
    ]


def test_what_was_never_alerted_has_no_time_and_what_was_told_twice_counts_once() -> None:
    (found,) = caught([truth(1, "c1", 0), truth(1, "c1", 0)], [alert(9)], set())
    assert (found.transactions, found.alerted, found.seconds_to_alert) == (1, 0, None)
