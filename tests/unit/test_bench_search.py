"""The search for the highest rate that is held, and the judgement of a hold.

Rule 1. A system is simulated: it serves at most `capacity` a second; the search may not look at that number.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.bounded import Bound, lag_of
from benchmarks.harness.pacing import Schedule
from benchmarks.harness.search import CONFIRM_TRIES, confirmed, highest_held


def served(schedule: Schedule, capacity: float, pause: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """When a server of so many a second, that pauses from pause[0] for pause[1] seconds, has done each."""
    done, free = np.empty(schedule.count), 0.0
    for number, moment in enumerate(schedule.moments()):
        begin = max(moment, free)
        if pause[0] <= begin < pause[0] + pause[1]:
            begin = pause[0] + pause[1]
        done[number] = free = begin + 1 / capacity
    return done


@given(capacity=st.floats(30, 50_000), start=st.floats(25, 50_000), step=st.sampled_from([1.15, 1.5]))
def test_the_highest_rate_that_is_held_is_found_within_the_tolerance(capacity: float, start: float, step: float):
    found = highest_held(lambda rate: rate <= capacity, start, step=step, holds_max=200)
    assert capacity / 1.1 <= found.rate <= capacity
    assert all(held == (rate <= capacity) for rate, held in found.trials)


def test_what_was_never_held_is_never_reported():
    found = highest_held(lambda rate: False, 1_000, step=1.5, rate_min=100)
    assert found.rate == 0
    assert [held for _, held in found.trials] == [False] * len(found.trials)
    assert min(rate for rate, _ in found.trials) >= 100


def test_a_search_is_bounded():
    assert len(highest_held(lambda rate: True, 1, step=1.01, holds_max=7).trials) == 7


def test_a_confirmation_goes_down_a_step_where_nearly_everything_was_served():
    found = confirmed(lambda rate: (rate < 900, 990), 1_000)
    assert [rate for rate, _ in found.trials] == pytest.approx([1_000, 930, 864.9])
    assert found.rate == pytest.approx(864.9)


def test_a_confirmation_goes_on_just_below_what_was_served_when_a_probe_promised_too_much():
    found = confirmed(lambda rate: (rate <= 700, 720), 1_000)
    assert [rate for rate, _ in found.trials] == pytest.approx([1_000, 698.4])


def test_a_confirmation_that_never_holds_ends_without_a_rate():
    found = confirmed(lambda rate: (False, 0), 1_000)
    assert (found.rate, len(found.trials)) == (0, CONFIRM_TRIES)
    assert found.trials[1] == (500, False)


@pytest.mark.parametrize(("start", "step"), [(0, 1.5), (-1, 1.5), (10, 1.0), (10, 0.5)])
def test_an_impossible_search_is_refused(start: float, step: float):
    with pytest.raises(ValueError, match="must be"):
        highest_held(lambda rate: True, start, step=step)


def test_a_rate_below_capacity_is_held():
    schedule = Schedule(rate=1000, count=20_000)
    lag = lag_of(schedule, served(schedule, 1100))
    assert lag.held
    assert lag.max_s < 0.1


def test_a_rate_that_is_five_percent_too_high_is_not_held_though_its_lag_is_below_the_bound():
    schedule = Schedule(rate=1000, count=20_000)
    lag = lag_of(schedule, served(schedule, 950))
    assert lag.max_s < 2.0
    assert lag.grown_s > 0.25
    assert not lag.held


def test_a_short_pause_in_the_second_half_is_no_failure_and_a_long_one_is():
    schedule = Schedule(rate=1000, count=20_000)
    assert lag_of(schedule, served(schedule, 2000, (12.0, 0.8))).held
    late = lag_of(schedule, served(schedule, 2000, (10.1, 2.5)))
    assert late.max_s > 2.0
    assert not late.held
    assert lag_of(schedule, served(schedule, 2000, (10.1, 2.5)), Bound(lag_s_max=4.0)).held


def test_one_transaction_without_a_score_fails_the_hold():
    schedule = Schedule(rate=1000, count=20_000)
    lag = lag_of(schedule, served(schedule, 2000)[:-1])
    assert lag.unscored == 1
    assert not lag.held
