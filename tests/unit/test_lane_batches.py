"""What a lane takes along from its agent's queue."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from faust.types import TP

from stream_features.lane import (
    FETCH_WAIT_MS,
    HELD_POLL_SECONDS,
    QUIET_WAIT_MS,
    LaneApp,
    LaneConsumer,
    LaneConsumerThread,
    _message,
    wait_while_quiet,
)

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


class Polls(LaneConsumer):
    """A consumer of two lanes that tells what is asked of Faust's poll."""

    def __init__(self, app: LaneApp) -> None:
        self.app = app
        self._fetching, self._seeks = asyncio.Lock(), 0
        self.asked: list[tuple[set[TP], float]] = []
        self._thread = SimpleNamespace(getmany=self._asked)  # type: ignore[assignment]  # the one call that a poll makes

    def assignment(self) -> set[TP]:
        return set(BOTH)

    async def _asked(self, partitions: set[TP], timeout: float) -> dict[TP, list[Any]]:
        self.asked.append((set(partitions), timeout))
        return {}


BOTH = (TP("t", 0), TP("u", 0))


def test_a_poll_takes_its_time_while_every_lane_may_go_on(app: LaneApp) -> None:
    polls = Polls(app)
    asyncio.run(polls._getmany(active_partitions=set(BOTH), timeout=1.0))
    assert polls.asked == [(set(BOTH), 1.0)]


def test_a_poll_without_a_lane_whose_queue_is_full_is_short(app: LaneApp) -> None:
    """It would not see that the queue has room again: the lane stood still for a second."""
    polls = Polls(app)
    asyncio.run(polls._getmany(active_partitions={BOTH[0]}, timeout=1.0))
    assert polls.asked == [({BOTH[0]}, HELD_POLL_SECONDS)]


def test_a_held_lane_is_not_asked_for_and_with_nothing_left_nothing_is(app: LaneApp) -> None:
    polls = Polls(app)
    app.held = lambda: {BOTH[1]}
    asyncio.run(polls._getmany(active_partitions=set(BOTH), timeout=1.0))
    assert polls.asked == [({BOTH[0]}, HELD_POLL_SECONDS)]
    app.held = lambda: set(BOTH)
    assert asyncio.run(polls._getmany(active_partitions=set(BOTH), timeout=1.0)) == {}
    assert len(polls.asked) == 1


def test_a_fetch_waits_at_the_broker_no_longer_than_lanes_can_bear(app: LaneApp) -> None:
    """aiokafka has one fetch under way, and Faust's 1,500 ms for a quiet lane stopped the busy ones."""
    made = LaneConsumerThread.__new__(LaneConsumerThread)
    made.consumer, made.app = SimpleNamespace(in_transaction=False), app
    transport = SimpleNamespace(url=app.conf.broker, default_port=9092)

    async def create() -> Any:
        return made._create_worker_consumer(transport)

    assert asyncio.run(create())._fetch_max_wait_ms == FETCH_WAIT_MS


def test_a_fetch_waits_longer_only_when_it_asks_for_every_lane(app: LaneApp) -> None:
    """Records of a lane that wait in the fetcher keep that lane out of the fetch, which is then for the quiet ones alone."""
    waits = []

    async def fetched() -> None:
        client = AIOKafkaClient(bootstrap_servers="nowhere:9")
        fetcher = Fetcher(client, SubscriptionState(), fetch_max_wait_ms=FETCH_WAIT_MS)
        wait_while_quiet(fetcher)
        assigned = Assignment([])
        for waiting in ({}, {BOTH[0]: object()}, {}):
            fetcher._records = waiting
            fetcher._get_actions_per_node(assigned)
            waits.append(fetcher._fetch_max_wait_ms)
        await fetcher.close()

    asyncio.run(fetched())
    assert waits == [QUIET_WAIT_MS, FETCH_WAIT_MS, QUIET_WAIT_MS]
