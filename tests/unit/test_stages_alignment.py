"""Event time aligned across card partitions: who waits, who never does, and for how long.

Rule 1. Lanes, stored states and the clock are given; nothing runs.
"""

from __future__ import annotations

import pytest

from adapters.state_store import StageState
from fraud.windows import DAY_MS
from stream_features.alignment import STILL_SECONDS_MAX, CardLane, EventTimeAlignment

T = 1_530_000_000_000
FAR = T + 40 * DAY_MS


class Aligned:
    """An alignment on a clock that is set by hand. gave_up: the partitions that were given up, in order."""

    def __init__(self, **states: StageState) -> None:
        self.now_s = 0.0
        self.gave_up: list[int] = []
        self.alignment = EventTimeAlignment(lambda: self.now_s, self.gave_up.append)
        self.see(**states)

    def see(self, **states: StageState) -> None:
        self.alignment.see({int(name[1:]): state for name, state in states.items()})

    def held(self, *lanes: CardLane) -> set[int]:
        return self.alignment.held(dict(enumerate(lanes)))


def lane(at_ms: int, has_lag: bool = True, at: int = 5) -> CardLane:
    return CardLane(StageState(at, at_ms), at_ms, has_lag)


@pytest.mark.parametrize(("ahead_ms", "waits"), [(0, False), (DAY_MS, False), (DAY_MS + 1, True), (40 * DAY_MS, True)])
def test_a_lane_waits_once_it_is_more_than_a_day_ahead_of_the_slowest_with_lag(ahead_ms: int, waits: bool) -> None:
    #  slowest ====|T            lane ====...====|T + ahead
    assert Aligned().held(lane(T), lane(T + ahead_ms)) == ({1} if waits else set())


def test_the_slowest_with_lag_never_waits_so_one_always_goes_on() -> None:
    assert Aligned().held(*(lane(T + i * 20 * DAY_MS) for i in range(4))) == {1, 2, 3}


def test_a_partition_without_lag_holds_nobody() -> None:
    assert Aligned().held(lane(T, has_lag=False), lane(FAR)) == set()


def test_a_lane_that_has_not_begun_takes_a_batch_and_the_others_wait_for_it() -> None:
    assert Aligned().held(lane(0), lane(T)) == {1}


def test_one_record_of_a_wrong_clock_holds_nobody_back() -> None:
    assert Aligned().held(CardLane(StageState(5, FAR), T, True), lane(T)) == set()


def test_a_lane_waits_for_another_workers_partition_as_long_as_that_one_moves() -> None:
    aligned = Aligned(p1=StageState(5, T))
    for step in range(5):
        aligned.now_s += STILL_SECONDS_MAX
        aligned.see(p1=StageState(6 + step, T))
        assert aligned.held(lane(FAR)) == {0}
    aligned.see(p1=StageState(20, FAR))
    assert aligned.held(lane(FAR)) == set()
    assert aligned.gave_up == []


def test_a_partition_that_does_not_move_is_given_up_once_and_waited_for_again_when_it_moves() -> None:
    #  its watermark   5 ------------- 30 s ------------- 6
    #  the others      wait               | go on         | wait
    aligned = Aligned(p1=StageState(5, T))
    assert aligned.held(lane(FAR)) == {0}
    aligned.now_s = STILL_SECONDS_MAX
    assert aligned.held(lane(FAR)) == {0}
    aligned.now_s += 0.1
    assert aligned.held(lane(FAR)) == set() == aligned.held(lane(FAR))
    assert aligned.gave_up == [1]
    aligned.see(p1=StageState(6, T))
    assert aligned.held(lane(FAR)) == {0}
    aligned.now_s += STILL_SECONDS_MAX + 0.1
    assert aligned.held(lane(FAR)) == set()
    assert aligned.gave_up == [1, 1]


def test_a_lane_of_this_worker_that_does_not_move_is_given_up_too() -> None:
    aligned = Aligned()
    assert aligned.held(lane(T), lane(FAR)) == {1}
    aligned.now_s = STILL_SECONDS_MAX + 0.1
    assert aligned.held(lane(T), lane(FAR)) == set()
    assert aligned.gave_up == [0]


def test_time_in_which_nobody_waited_does_not_count() -> None:
    aligned = Aligned(p1=StageState(5, T))
    assert aligned.held(lane(T + DAY_MS)) == set()
    aligned.now_s = 10 * STILL_SECONDS_MAX
    assert aligned.held(lane(FAR)) == {0}
    assert aligned.gave_up == []
