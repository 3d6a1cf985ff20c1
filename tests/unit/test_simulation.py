"""The simulated clock and the scenario runs are a fold over `control`.

Rule 1. Times are written as minutes of event time and seconds of wall time; the fold sees milliseconds.
"""

from __future__ import annotations

from fraud.control import Retrain, SetClock, StartScenario, StopScenario
from fraud.simulation import LEAD_REAL_MS, Simulation
from fraud.windows import MINUTE_MS

T = 1_735_700_000_000


def started(speed: float = 60.0) -> Simulation:
    simulation = Simulation()
    simulation.apply(SetClock("begin", 1, speed=speed, paused=False, event_time_ms=T), 10_000)
    return simulation


def now(simulation: Simulation, wall_ms: int) -> int:
    assert simulation.clock is not None
    return simulation.clock.now_ms(wall_ms) - T


def test_without_a_producer_there_is_no_clock_and_nothing_starts() -> None:
    simulation = Simulation()
    simulation.apply(SetClock("a", 1, speed=60), 10_000)
    simulation.apply(StartScenario("b", 1, "card-testing", 5, 10), 11_000)
    assert simulation.clock is None and simulation.runs == {}


def test_event_time_runs_at_its_speed_from_the_append_time_on() -> None:
    simulation = started(speed=60)
    assert now(simulation, 10_000) == 0
    assert now(simulation, 11_000) == MINUTE_MS
    assert now(simulation, 9_000) == 0, "a reader whose clock is behind the broker's sees the beginning, not the past"


def test_another_speed_goes_on_from_the_present_moment() -> None:
    simulation = started(speed=60)
    simulation.apply(SetClock("faster", 1, speed=600), 12_000)
    assert now(simulation, 12_000) == 2 * MINUTE_MS
    assert now(simulation, 13_000) == 12 * MINUTE_MS


def test_paused_event_time_stands_still_and_goes_on_without_a_jump() -> None:
    simulation = started()
    simulation.apply(SetClock("pause", 1, paused=True), 12_000)
    assert now(simulation, 99_000) == 2 * MINUTE_MS
    assert simulation.clock is not None and simulation.clock.wall_ms_of(T + 3 * MINUTE_MS) == float("inf")
    simulation.apply(SetClock("resume", 1, paused=False), 100_000)
    assert now(simulation, 101_000) == 3 * MINUTE_MS


def test_a_restarted_producer_sets_the_clock_back_to_where_it_is() -> None:
    simulation = started()
    simulation.apply(SetClock("again", 1, event_time_ms=T + MINUTE_MS), 500_000)
    assert now(simulation, 500_000) == MINUTE_MS


def test_a_run_begins_a_moment_after_its_request_and_lasts_its_minutes() -> None:
    simulation = started(speed=60)
    simulation.apply(StartScenario("r", 1, "card-testing", 5, 10, {"x": 1.0}), 11_000)
    run = simulation.runs["r"]
    assert run.begin_ms - T == MINUTE_MS + 60 * LEAD_REAL_MS
    assert run.end_ms - run.begin_ms == 10 * MINUTE_MS
    assert (run.cards, run.parameters) == (5, {"x": 1.0})


def test_the_same_request_again_is_the_same_run() -> None:
    simulation = started()
    for wall_ms in (11_000, 20_000):
        simulation.apply(StartScenario("r", 1, "card-testing", 5, 10), wall_ms)
    assert len(simulation.runs) == 1 and simulation.runs["r"].begin_ms < T + 3 * MINUTE_MS


def test_a_stopped_run_ends_now_and_one_that_has_not_begun_never_begins() -> None:
    simulation = started(speed=60)
    simulation.apply(StartScenario("r", 1, "card-testing", 5, 10), 11_000)
    simulation.apply(StartScenario("s", 1, "card-testing", 5, 10), 14_000)
    simulation.apply(StopScenario("stop", 1), 14_000)
    assert simulation.runs["r"].end_ms == T + 4 * MINUTE_MS
    assert simulation.runs["s"].end_ms == simulation.runs["s"].begin_ms


def test_stopping_one_run_leaves_the_others_and_an_unknown_one_is_nothing() -> None:
    simulation = started()
    simulation.apply(StartScenario("r", 1, "card-testing", 5, 10), 11_000)
    simulation.apply(StartScenario("s", 1, "card-testing", 5, 10), 11_000)
    before = simulation.runs["s"]
    simulation.apply(StopScenario("stop", 1, "r"), 12_000)
    simulation.apply(StopScenario("stop", 1, "nobody"), 12_000)
    assert simulation.runs["s"] == before and simulation.runs["r"].end_ms < before.end_ms


def test_a_run_asked_for_while_a_killed_producers_clock_ran_on_begins_after_its_restart() -> None:
    simulation = started(speed=60)
    simulation.apply(StartScenario("r", 1, "card-testing", 5, 10), 600_000)
    simulation.apply(SetClock("again", 1, event_time_ms=T + MINUTE_MS), 700_000)
    run = simulation.runs["r"]
    assert run.begin_ms - T == MINUTE_MS + 60 * LEAD_REAL_MS
    assert run.end_ms - run.begin_ms == 10 * MINUTE_MS


def test_other_requests_change_nothing() -> None:
    simulation = started()
    clock = simulation.clock
    simulation.apply(Retrain("t", 1), 20_000)
    assert simulation.clock == clock and simulation.runs == {}
