"""What a lane takes along from its agent's queue."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from stream_features.lane import LaneApp, _message

GENERATION = 3


@pytest.fixture
def app() -> LaneApp:
    made = LaneApp("test", broker="kafka://127.0.0.1:1", topic_allow_declare=False, web_enabled=False)
    made.consumer_generation_id = GENERATION
    made.flow_control.resume()
    return made


def event(offset: int, size: int, generation: int = GENERATION) -> Any:
    """A fetched batch of one record."""
    record = SimpleNamespace(offset=offset, timestamp=0, timestamp_type=0, value=b"x" * size)
    return SimpleNamespace(message=_message(TP("t", 0), [record], generation), value=[record])


def stream_of(*events: Any) -> Any:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    for each in events:
        queue.put_nowait(each)
    return SimpleNamespace(channel=SimpleNamespace(queue=queue))


def offsets(events: list[Any]) -> list[int]:
    return [each.message.offset for each in events]


def test_all_that_waits_is_taken_oldest_first_and_known_to_faust(app: LaneApp) -> None:
    taken = app.fetched_meanwhile(stream_of(event(1, 10), event(2, 10), event(3, 10)), 100)
    assert offsets(taken) == [1, 2, 3]
    assert {message.offset for message in app.consumer.unacked} == {1, 2, 3}


def test_no_more_than_so_many_bytes_are_taken_together_and_the_rest_waits(app: LaneApp) -> None:
    stream = stream_of(event(1, 60), event(2, 60), event(3, 60))
    assert offsets(app.fetched_meanwhile(stream, 100)) == [1, 2]
    assert offsets(app.fetched_meanwhile(stream, 100)) == [3]
    assert app.fetched_meanwhile(stream, 100) == []


def test_batches_of_before_a_rebalance_are_dropped(app: LaneApp) -> None:
    assert offsets(app.fetched_meanwhile(stream_of(event(9, 1, GENERATION - 1), event(1, 1)), 100)) == [1]


def test_nothing_is_taken_while_a_rebalance_is_under_way(app: LaneApp) -> None:
    app.flow_control.suspend()
    assert app.fetched_meanwhile(stream_of(event(1, 1)), 100) == []
