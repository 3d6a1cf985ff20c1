"""The label forwarder and its gate without a broker: what passes, when, and with which effect.

Rule 1. Progress and log ends are given by hand; nothing waits.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.state_store import StageState
from fraud import packed
from fraud.labels import Label
from stream_features.label_forwarder import EventTimeGate, LabelForwarder, Labels

T = 1_530_000_000_000
BAD = SimpleNamespace(offset=1, key=b"m1", value=b"{}", timestamp=0)


def record(offset: int, known_at_ms: int, *, is_fraud: bool = True) -> Any:
    label = Label(f"t{offset}", "c1", "m1", T, is_fraud, known_at_ms, "benchmark", known_at_ms)
    return SimpleNamespace(offset=offset, key=b"m1", value=label.to_json(), timestamp=0)


def forwarder(state: StageState | None = None) -> LabelForwarder:
    return LabelForwarder(0, 1, state or StageState(), clock=lambda: 42)


def gate(states: list[StageState], ends: list[int]) -> EventTimeGate:
    async def progress() -> list[StageState]:
        return states

    async def log_ends() -> list[int]:
        return ends

    return EventTimeGate(progress, log_ends)


def released(of: EventTimeGate, labels: Labels) -> int:
    return asyncio.run(of.released(labels))


def test_labels_leave_with_their_origin_and_the_bad_one_as_a_dead_letter() -> None:
    of = forwarder()
    step = of.step(of.decode([record(0, T + 5), BAD, record(2, T + 9, is_fraud=False)]))
    assert [(topic, partition) for topic, partition, _ in step.writes] == [("labels.dlq", 0), ("terminal-log", 0)]
    batch = packed.unpack(step.writes[1][2][0][1], (packed.LABELS,))
    assert batch.array("origin_offset").tolist() == [0, 2]
    assert batch.array("is_fraud").tolist() == [1, 0]
    assert batch.array("known_at_ms").tolist() == [T + 5, T + 9]
    assert step.effect.counters == {"forwarded": 2, "dead_letters": 1}
    assert (step.effect.first, step.effect.next, step.effect.event_time_ms) == (None, 3, T + 9)


def test_a_split_batch_takes_effect_in_two_steps_that_join() -> None:
    of = forwarder(StageState(next=0))
    ready, rest = of.decode([record(0, T), BAD, record(2, T)]).split(2)
    first = of.step(ready).effect
    of.settle(first)
    second = of.step(rest).effect
    assert (first.first, first.next, second.first, second.next) == (0, 2, 2, 3)
    assert first.counters == {"forwarded": 1, "dead_letters": 1}


@pytest.mark.parametrize(
    ("event_times", "passing"),
    [
        #  labels known at T, T+10 (bad: no time), T+20
        ([T - 1], 0),
        ([T], 1),
        ([T + 10], 3),  # the bad one waits for nothing
        ([T + 20], 4),
        ([T + 20, T + 10], 3),  # the slowest partition decides
    ],
)
def test_a_label_passes_when_every_partition_has_reached_the_time_at_which_it_was_known(
    event_times: list[int], passing: int
) -> None:
    labels = forwarder().decode([record(0, T), record(1, T + 10), BAD, record(3, T + 20)])
    states = [StageState(next=5, event_time_ms=at) for at in event_times]
    assert released(gate(states, [100] * len(states)), labels) == passing


def test_all_labels_pass_when_the_card_stage_has_taken_all_that_there_is() -> None:
    labels = forwarder().decode([record(0, T + 10**9)])
    assert released(gate([StageState(next=7, event_time_ms=T)], [7]), labels) == 1
    assert released(gate([StageState()], [0]), labels) == 1


def test_a_partition_that_is_caught_up_holds_nothing_back() -> None:
    labels = forwarder().decode([record(0, T)])
    idle, busy = StageState(next=7, event_time_ms=0), StageState(next=7, event_time_ms=T)
    assert released(gate([idle, busy], [7, 100]), labels) == 1
    assert released(gate([idle, busy], [8, 100]), labels) == 0


def test_having_caught_up_once_does_not_let_later_labels_pass() -> None:
    #  the log grows again after it was caught up: what was known then is not what is known now
    state, ends = StageState(next=7, event_time_ms=T), [7]
    of = gate([state], ends)
    labels = forwarder().decode([record(0, T + 1)])
    assert released(of, labels) == 1
    ends[0] = 8
    assert released(of, labels) == 0


def test_the_end_of_the_log_is_asked_before_the_progress() -> None:
    asked: list[str] = []

    async def progress() -> list[StageState]:
        asked.append("progress")
        return [StageState(next=1, event_time_ms=T)]

    async def ends() -> list[int]:
        asked.append("ends")
        return [1]

    released(EventTimeGate(progress, ends), forwarder().decode([record(0, T + 1)]))
    assert asked == ["ends", "progress"]
