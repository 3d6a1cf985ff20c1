"""Open-loop pacing: moments are fixed before, and a sender or a sink that stalls shows in the percentiles.

Rule 1. Time is simulated: a test advances it, nothing sleeps.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.pacing import Paced, Schedule, send_paced
from benchmarks.harness.percentiles import latency_of


class SimulatedTime:
    """A clock that sleeping moves on, and a send that takes `send_s` of it; at `stall_at_s` one send takes stall_s."""

    def __init__(self, send_s: float = 0.0, stall_at_s: float = np.inf, stall_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.sent_at: list[tuple[int, int, float]] = []
        self._send_s, self._stall_at_s, self._stall_s = send_s, stall_at_s, stall_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 1e-6)

    async def send(self, first: int, end: int) -> None:
        self.sent_at.append((first, end, self.now_s))
        self.now_s += self._send_s
        if self.now_s >= self._stall_at_s:
            self.now_s, self._stall_at_s = self.now_s + self._stall_s, np.inf

    def run(self, schedule: Schedule) -> Paced:
        return asyncio.run(send_paced(schedule, self.send, lambda: self.now_s, self.sleep))

    def latencies(self, schedule: Schedule, *, from_send: bool = False) -> np.ndarray:
        """Until the send returns, from the moment, or (the mistake) from the send itself."""
        ends = [at for _, _, at in self.sent_at[1:]] + [self.now_s]
        done, began = np.empty(schedule.count), np.empty(schedule.count)
        for (first, end, at), after in zip(self.sent_at, ends, strict=True):
            done[first:end], began[first:end] = after, at
        return done - (began if from_send else schedule.moments())


def test_every_transaction_is_sent_once_in_order_and_none_before_its_moment():
    schedule = Schedule(rate=1000, count=500)
    time = SimulatedTime()
    assert time.run(schedule).sent == 500
    assert [first for first, _, _ in time.sent_at] == [0, *[end for _, end, _ in time.sent_at[:-1]]]
    moments = schedule.moments()
    assert all(moments[end - 1] <= at + 1e-5 for _, end, at in time.sent_at)


@given(rate=st.floats(1, 50_000), linger_ms=st.sampled_from([0, 5, 10]), count=st.integers(1, 2_000))
def test_a_quick_sender_is_never_behind_by_more_than_a_tick(rate: float, linger_ms: int, count: int):
    schedule = Schedule(rate, count, linger_ms / 1000)
    time = SimulatedTime()
    paced = time.run(schedule)
    assert paced.sent == count
    assert paced.behind_s_max < 0.001
    sent = {number: at for first, end, at in time.sent_at for number in range(first, end)}
    waits = [sent[number] - moment for number, moment in enumerate(schedule.moments())]
    assert max(waits) <= linger_ms / 1000 + 0.001


def test_a_linger_gathers_what_falls_between_two_ticks():
    # rate 1000/s, ticks of 10 ms: moments 1 ms apart, about ten to a send
    time = SimulatedTime()
    time.run(Schedule(rate=1000, count=1000, linger_s=0.01))
    assert 95 <= len(time.sent_at) <= 105


def test_a_stalled_sink_shows_in_the_percentiles():
    schedule = Schedule(rate=1000, count=10_000)
    time = SimulatedTime(send_s=0.0001, stall_at_s=5.0, stall_s=2.0)
    paced = time.run(schedule)
    latency = latency_of(time.latencies(schedule))
    # 2 of 10 seconds of moments met the stall: a fifth of the transactions waited 0 to 2 s
    assert latency.p50_ms < 5
    assert latency.p90_ms > 800
    assert latency.p99_ms > 1_800
    assert paced.behind_s_max > 1.9


def test_measured_from_the_send_the_same_stall_is_hidden():
    """The negative control: coordinated omission is what the harness must not do."""
    schedule = Schedule(rate=1000, count=10_000)
    time = SimulatedTime(send_s=0.0001, stall_at_s=5.0, stall_s=2.0)
    time.run(schedule)
    hidden = latency_of(time.latencies(schedule, from_send=True))
    assert hidden.p90_ms < 5
    assert latency_of(time.latencies(schedule)).p90_ms > 100 * hidden.p90_ms


def test_percentiles_have_three_digits_and_the_largest_is_kept():
    latency = latency_of(np.concatenate([np.full(990, 0.005), np.full(9, 0.2), [7.25]]))
    assert latency.count == 1000
    assert latency.p50_ms == pytest.approx(5, rel=1e-3)
    assert latency.p999_ms == pytest.approx(200, rel=1e-3)
    assert latency.max_ms == pytest.approx(7250)


@pytest.mark.parametrize("impossible", [[], [-0.001], [601.0]])
def test_impossible_latencies_are_refused(impossible: list[float]):
    with pytest.raises(ValueError, match="latenc"):
        latency_of(np.array(impossible))
