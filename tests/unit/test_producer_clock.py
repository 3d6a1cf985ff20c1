"""The simulated clock, with seconds advanced by hand."""

from __future__ import annotations

import pytest

from producer.clock import MAX, SimulatedClock

BEGIN_MS = 1_522_540_800_000


class HandTime:
    """Seconds that pass when a test says so, or when they are waited for."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.waited: list[float] = []

    def now_s(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.seconds += seconds


def test_at_speed_1440_a_minute_is_a_day():
    real = HandTime()
    clock = SimulatedClock(BEGIN_MS, 1440, real)
    real.seconds += 60
    assert clock.now_ms() == BEGIN_MS + 86_400_000


def test_waiting_for_a_moment_takes_its_share_of_real_time():
    real = HandTime()
    clock = SimulatedClock(BEGIN_MS, 1000, real)
    assert clock.wait_until(BEGIN_MS + 500_000)
    assert real.waited == [pytest.approx(0.5)]


def test_a_long_wait_returns_early_and_says_so():
    real = HandTime()
    clock = SimulatedClock(BEGIN_MS, 1, real)
    assert not clock.wait_until(BEGIN_MS + 10_000, seconds_max=1.0)
    assert real.waited == [1.0]


def test_a_moment_that_has_passed_is_not_waited_for():
    real = HandTime()
    assert SimulatedClock(BEGIN_MS, 1, real).wait_until(BEGIN_MS - 1)
    assert real.waited == []


def test_at_maximum_speed_the_clock_jumps_and_never_goes_back():
    real = HandTime()
    clock = SimulatedClock(BEGIN_MS, MAX, real)
    assert clock.wait_until(BEGIN_MS + 10**9)
    assert clock.wait_until(BEGIN_MS + 5)
    assert clock.now_ms() == BEGIN_MS + 10**9
    assert real.waited == []


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
def test_a_speed_that_is_not_above_zero_is_refused(speed: float):
    with pytest.raises(ValueError, match="must be above 0"):
        SimulatedClock(BEGIN_MS, speed, HandTime())
