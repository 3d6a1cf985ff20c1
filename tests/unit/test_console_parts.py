"""The console's parts without a browser: who may change something, what metrics say, curves, scenarios, words."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.datastructures import Headers

from fraud import rules
from fraud.control import SetClock, StartScenario, StopScenario
from fraud.features import NAMES
from fraud.measures import Matured, average_precision
from fraud.truth import Truth
from monitoring.console.alert_book import AlertBook
from monitoring.console.dead_letters import DeadLetter, ReplayRefusedError, check_replay
from monitoring.console.guard import TOKEN_HEADER, Guard
from monitoring.console.matured_pages import cost_curve, curve
from monitoring.console.readings import Reading
from monitoring.console.scenarios import ScenarioRefusedError, check_scenario
from monitoring.console.targets import TargetsError, parse_targets
from monitoring.console.timeline import Timeline
from monitoring.console.vitals import quantile, rise, vitals
from monitoring.console.words import dictionary
from tests.unit.test_console_stream import alert

HERE = {"host": "127.0.0.1:8400", "origin": "http://127.0.0.1:8400", TOKEN_HEADER: "secret", "content-length": "2"}


def refusal(method: str, **changed: str | None) -> int | None:
    guard = Guard(lambda *_: None, ["127.0.0.1", "localhost", "[::1]"], "secret")  # type: ignore[arg-type,return-value]
    given = {**HERE, **{name.replace("_", "-"): value for name, value in changed.items()}}
    found = guard.refused_because(method, Headers({name: value for name, value in given.items() if value is not None}))
    return None if found is None else found[0]


def test_a_change_from_the_consoles_own_page_passes() -> None:
    assert refusal("POST") is None
    assert refusal("POST", host="[::1]:8400", origin="http://[::1]:8400") is None


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": None}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),  # another program of this machine
        ({"x_console_token": "guessed"}, 403),
        ({"x_console_token": None}, 403),
        ({"host": "evil.example", "origin": "http://evil.example"}, 421),  # a name that points here
        ({"content_length": "70000"}, 413),
        ({"content_length": "much"}, 413),
        ({"transfer_encoding": "chunked"}, 413),
    ],
)
def test_a_change_from_elsewhere_is_refused(changed: dict[str, str | None], status: int) -> None:
    assert refusal("POST", **changed) == status


def test_reading_needs_no_token_but_the_consoles_name() -> None:
    assert refusal("GET", origin=None, x_console_token=None) is None
    assert refusal("GET", host="evil.example") == 421
    assert refusal("DELETE") == 405


def test_a_quantile_lies_within_its_bucket() -> None:
    buckets = {0.1: 10.0, 0.2: 30.0, 0.4: 40.0, float("inf"): 40.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.15)
    assert quantile(buckets, 0.99) == pytest.approx(0.392)
    assert quantile({0.1: 0.0, float("inf"): 5.0}, 0.5) == 0.1  # beyond the last bound it is that bound
    assert quantile({0.1: 0.0, float("inf"): 0.0}, 0.5) is None
    assert quantile({}, 0.5) is None


def test_a_counter_that_went_back_was_started_again() -> None:
    assert rise(7, 5) == 2
    assert rise(3, 5) == 3
    assert rise(3, None) == 3
    assert rise(None, 5) is None


def reading(at_s: float, accepted: float, buckets: tuple[float, float]) -> Reading:
    labels = {"stage": "card", "outcome": "accepted"}
    of = [("s", {"stage": "card", "le": le}, n) for le, n in zip(("0.1", "+Inf"), buckets, strict=True)]
    return Reading(
        at_s,
        {"fraud_transactions_total": [("s", labels, accepted)], "fraud_stage_latency_seconds_bucket": of},
        ["stream_features"],
        ["scorer"],
    )


def test_rates_and_latencies_are_of_the_time_between_two_readings() -> None:
    found = vitals(reading(110, 600, (30, 30)), reading(100, 100, (10, 10)))
    assert found["stages"]["card"]["rate"] == 50
    assert found["stages"]["card"]["latency_s"]["p50"] == pytest.approx(0.05)
    assert found["stages"]["scorer"]["rate"] is None  # not told is not zero
    assert (found["up"], found["down"]) == (["stream_features"], ["scorer"])


def matured(fraud: list[bool], score: list[float], amount: int = 10_000) -> Matured:
    rows = len(fraud)
    return Matured(
        np.arange(rows), np.zeros(rows, np.int64), np.full(rows, amount), np.array(score, np.float32),
        np.zeros(rows, np.uint8), np.zeros(rows, np.bool_), np.array(fraud, np.bool_),
    )  # fmt: skip


def test_the_area_under_the_drawn_curve_is_the_average_precision() -> None:
    rng = np.random.default_rng(3)
    fraud = rng.random(400) < 0.2
    rows = matured(fraud.tolist(), np.where(fraud, rng.beta(3, 2, 400), rng.beta(1, 3, 400)).tolist())
    drawn = curve(rows, np.ones(400))
    area = np.sum(np.diff(np.r_[0, drawn["recall"]]) * np.array(drawn["precision"]))
    assert area == pytest.approx(average_precision(rows.is_fraud, rows.score), abs=0.02)
    assert curve(matured([False], [0.5]), np.ones(1)) == {"recall": [], "precision": []}


def test_a_threshold_above_every_score_costs_the_frauds_and_raises_no_alert() -> None:
    rows = matured([True, False, True, False], [0.9, 0.1, 0.6, 0.3])
    found = cost_curve(rows, np.ones(4), days=2)
    assert found["alerts_per_day"][-1] == 0
    assert found["cost_minor"][-1] == 2 * (10_000 + 1_500)
    assert found["recall"][0] == 1.0
    assert found["alerts_per_day"] == sorted(found["alerts_per_day"], reverse=True)


def test_what_the_producer_would_refuse_is_refused_with_the_parameter_and_its_range() -> None:
    check_scenario("card-testing", {"small_count": 8}, 20, 5000)
    with pytest.raises(ScenarioRefusedError, match=r"small_count is 1, 2 \.\. 100"):
        check_scenario("card-testing", {"small_count": 1}, 20, None)
    with pytest.raises(ScenarioRefusedError, match="has no parameter 'nothing'"):
        check_scenario("card-testing", {"nothing": 1}, 20, None)
    with pytest.raises(ScenarioRefusedError, match="there is no scenario"):
        check_scenario("nothing", {}, 20, None)
    with pytest.raises(ScenarioRefusedError, match="the running world has 10"):
        check_scenario("card-testing", {}, 20, 10)


def test_a_target_that_is_no_address_is_named() -> None:
    with pytest.raises(TargetsError, match="'scorer' is not name=host:port"):
        parse_targets("watch=watch:9107,scorer")


def test_a_run_is_caught_whether_its_truth_comes_before_or_after_the_alert() -> None:
    timeline = Timeline()
    timeline.control(SetClock("a", 0, speed=60, paused=False, event_time_ms=0), 1_000)
    timeline.control(StartScenario("run-1", 0, "card-testing", 2, 10), 1_000)
    timeline.alert(alert(1))
    for i, card in ((1, "c1"), (2, "c1"), (3, "c2")):
        timeline.truth(Truth(f"t{i}", card, 40_000 + i, "card-testing", "run-1"))
    timeline.truth(Truth("t4", "c3", 50_000, "leaked-card"))  # of the background
    (run,) = timeline.values(2_000)["runs"]
    assert (run["transactions"], run["alerted"], run["cards_hit"], run["cards_caught"]) == (3, 1, 2, 1)
    assert (run["state"], run["first_alert_ms"]) == ("running", 40_001)
    timeline.control(StopScenario("s", 0, "run-1"), 3_000)
    assert timeline.values(4_000)["runs"][0]["state"] == "ended"


def test_only_public_messages_are_replayed() -> None:
    def letter(topic: str, partition: int = 0) -> DeadLetter:
        return DeadLetter("x", "NOT_JSON", "", topic, partition, 0, None, b"", 0)

    check_replay(letter("transactions"))
    for refused in (letter("features"), letter(""), letter("transactions", -1)):
        with pytest.raises(ReplayRefusedError):
            check_replay(refused)


def test_every_reason_code_has_words() -> None:
    words = dictionary()
    assert words.keys() == {name.upper() for name in NAMES} | {f"RULE_{rule.code}" for rule in rules.RULES}
    assert words["CARD_COUNT_1H"]["title"] == "Card: payments, 1 hour"
    assert all(each["title"] and each["meaning"] for each in words.values())


def test_an_empty_book_greets_with_nothing() -> None:
    assert AlertBook(10).since(None).entries == []
