"""Event time aligned across card partitions: who waits, who never does.

Rule 1. The logs' ends and the stored states are given; nothing runs.
"""

from __future__ import annotations

import asyncio

import pytest

from adapters.state_store import StageState
from fraud.windows import DAY_MS, HOUR_MS
from stream_features.alignment import EventTimeAlignment

T = 1_530_000_000_000


def seen(states: list[StageState], ends: list[int]) -> EventTimeAlignment:
    async def progress() -> list[StageState]:
        return states

    async def log_ends() -> list[int]:
        return ends

    alignment = EventTimeAlignment(progress, log_ends)
    asyncio.run(alignment.look())
    return alignment


@pytest.mark.parametrize(("ahead_ms", "may"), [(0, True), (DAY_MS, True), (DAY_MS + 1, False), (40 * DAY_MS, False)])
def test_a_lane_waits_once_it_is_more_than_a_day_ahead_of_the_slowest_with_lag(ahead_ms: int, may: bool) -> None:
    #  slowest ====|T            lane ====...====|T + ahead
    alignment = seen([StageState(5, T), StageState(5, T + ahead_ms)], [10, 10])
    assert alignment.may_take(T + ahead_ms) is may


def test_the_slowest_with_lag_never_waits_so_one_always_goes_on() -> None:
    times = [T + i * 20 * DAY_MS for i in range(4)]
    alignment = seen([StageState(5, at) for at in times], [10] * 4)
    assert [alignment.may_take(at) for at in times] == [True, False, False, False]


def test_a_partition_without_lag_holds_nobody() -> None:
    assert seen([StageState(10, T), StageState(5, T + 40 * DAY_MS)], [10, 10]).may_take(T + 40 * DAY_MS)
    live = seen([StageState(10, T), StageState(10, T + 40 * DAY_MS)], [10, 10])
    assert not live.catching_up
    assert live.may_take(T + 40 * DAY_MS)


def test_a_partition_that_is_empty_holds_nobody_and_one_that_has_not_begun_holds_all() -> None:
    assert seen([StageState(), StageState(5, T)], [0, 10]).may_take(T)
    assert not seen([StageState(), StageState(5, T)], [10, 10]).may_take(T)


def test_before_the_first_look_only_a_lane_that_has_taken_nothing_goes_on() -> None:
    async def never() -> list[StageState]:
        raise AssertionError("not asked")

    alignment = EventTimeAlignment(never, never)  # type: ignore[arg-type]  # neither is asked
    assert alignment.may_take(0)
    assert not alignment.may_take(T + HOUR_MS)
