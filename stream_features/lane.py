"""Lanes: Faust workers that take one fetched batch of one partition at a time, and resume where the state stands.

Rule 1. One Faust message is one fetched batch of one partition, so Faust's cost per message is paid once per batch. Batches
        that were fetched while the agent was busy can be taken together (`fetched_meanwhile`).
Rule 2. After every rebalance the position comes from `resume_from` (the stored watermark), never from the group offset,
        which is only a lag gauge.
Rule 3. A lane that is `held`, or whose queue is full, is not fetched, and no other lane waits for it: neither a poll, which
        does not see that it may go on, nor a fetch, which holds the connection to the broker for all lanes.
Rule 4. A fetch that was under way during a seek is dropped: its records are fetched again from the new position. Records
        that were dropped and not followed by a seek would be a hole: then `lost` is called, which ends the process.

Faust keeps the worker, the group membership, assignment, rebalances, flow control and agents. The overridden methods
are private to Faust 0.15.3, hence the exact pin.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, cast

import faust
from aiokafka import TopicPartition
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, EventT, Message
from faust.types.tuples import ConsumerMessage

HELD_POLL_SECONDS: Final = 0.01
FETCH_WAIT_MS: Final = 50  # Faust's 1,500 stall every lane: what is asked for meanwhile may be the quiet lanes alone
QUIET_WAIT_MS: Final = 500  # of a fetch that asks for all lanes
UNASSIGNED_POLL_SECONDS: Final = 0.02
ResumeFrom = Callable[[set[TP]], Awaitable[Mapping[TP, int]]]


class LaneConsumerThread(driver.AIOKafkaConsumerThread):
    """What Faust runs in a thread around aiokafka's consumer, in the worker's own loop instead.

    Two threads of Python take turns by the interpreter's lock, and each poll crossed between their loops twice: a third of the
    worker's CPU, and half of its latency at 1,000 transactions a second. What blocks the loop here, a fold of one batch, is
    far shorter than a heartbeat.
    """

    def __init__(self, consumer: Any, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, **kwargs)
        self._thread = None  # nothing to join
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when the consumer has connected; raises what kept it from it."""
        self._thread_started.set()
        self._thread_running = self.parent_loop.create_future()
        self._serving = asyncio.create_task(self._serve())
        try:
            await self._thread_running
        finally:
            self._thread_running = None

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it here and now."""
        found = fun(*args, **kwargs)
        return await found if inspect.isawaitable(found) else found

    async def _gather_remaining_tasks(self) -> None:
        """Those of this loop are the worker's, not this service's."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # Faust has no setting for it
        return consumer

    async def on_start(self) -> None:
        """Connect; then let the fetches of a quiet worker wait longer."""
        await super().on_start()
        assert self._consumer is not None
        wait_while_quiet(self._consumer._fetcher)


def wait_while_quiet(fetcher: Any) -> None:
    """Let aiokafka's fetcher wait QUIET_WAIT_MS with a fetch that asks for every lane: whatever comes in any of them answers it.

    While records of a lane wait in the fetcher, it asks without that lane, and such a fetch keeps to FETCH_WAIT_MS (Rule 3).
    A lane that has rested (hand_over.py) is asked for again when such a fetch is answered, so it may wait for QUIET_WAIT_MS.
    """
    actions_of = fetcher._get_actions_per_node

    def chosen(assignment: Any) -> Any:
        fetcher._fetch_max_wait_ms = FETCH_WAIT_MS if fetcher._records else QUIET_WAIT_MS
        return actions_of(assignment)

    fetcher._get_actions_per_node = chosen


class LaneConsumer(driver.Consumer):
    """Faust's Kafka consumer with whole batches for messages and our own positions."""

    app: LaneApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fetching = asyncio.Lock()
        self._seeks = 0
        self._dropped: set[TP] = set()
        self._fetched_to: dict[TP, int] = {}
        self._taken_to: dict[TP, int] = {}

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return LaneConsumerThread(self, self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[Any]]:
        async with self._fetching:
            seeks = self._seeks
            assigned = self.assignment()
            going = active_partitions or assigned
            if self.app.held is not None:
                going = going - self.app.held()
            if len(going) < len(assigned):
                timeout = HELD_POLL_SECONDS  # to see soon that they may go on
                if not going:
                    await asyncio.sleep(timeout)
                    return {}
            records: Mapping[TP, list[Any]] = await super()._getmany(going, timeout)
        return records if seeks == self._seeks else {}

    async def perform_seek(self) -> None:
        """Move every assigned partition to its stored watermark. Faust calls this after each rebalance."""
        self._seeks += 1
        async with self._fetching:  # Faust's own wait for a stopped flow does not wait in 0.15.3
            assigned = self.assignment()
            positions = await self.app.resume_from(assigned) if assigned else {}
            await self.seek_wait(positions)
            self._dropped.clear()
            self._fetched_to, self._taken_to = dict(positions), dict(positions)
            for tp, offset in positions.items():
                self._read_offset[tp] = offset or None
                self._committed_offset[tp] = None  # commit whatever comes next, even below the old group offset

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield one message per fetched batch; what is left at a rebalance is dropped, and fetched again after it."""
        if self.flow_active and not self._get_active_partitions():
            await asyncio.sleep(UNASSIGNED_POLL_SECONDS)  # Faust sleeps a second, whatever is assigned meanwhile
            return
        records, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not records or self.should_stop:
            return
        for key, batch in records.items():
            tp = TP(key.topic, key.partition)
            if not self.flow_active or generation != self.app.consumer_generation_id:
                self._dropped.add(tp)
                continue
            if tp in self._dropped:
                self.app.lost(tp, batch[0].offset)
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            self._fetched_to[tp] = batch[-1].offset + 1
            yield tp, _message(tp, batch, generation)

    def rest(self, tp: TP) -> bool:
        """Fetch nothing of a lane; False when it is not assigned."""
        source = TopicPartition(tp.topic, tp.partition)
        if source not in self._client.assignment():
            return False
        self._client.pause(source)
        return True

    def go_on(self, tp: TP, offset: int) -> None:
        """Fetch a lane that rests again, from this offset on."""
        source = TopicPartition(tp.topic, tp.partition)
        if source in self._client.assignment():
            self._client.seek(source, offset)
            self._client.resume(source)

    def done_without_fetch(self, tp: TP, last: int) -> None:
        """The lane's stage has taken records up to this offset by another way: committed like an ack."""
        if tp in self.assignment():
            self._acked[tp].append(last)

    @property
    def _client(self) -> Any:
        return self._thread._consumer  # aiokafka's consumer, which Faust hides in its thread

    def taken(self, tp: TP, end: int) -> None:
        """The agent is done with what was fetched before this offset, whatever became of it."""
        self._taken_to[tp] = max(end, self._taken_to.get(tp, 0))  # a batch of before a seek may be done with after it

    def waiting(self, tp: TP) -> int:
        """Records that were fetched, and that the agent is not done with."""
        return self._fetched_to.get(tp, 0) - self._taken_to.get(tp, 0)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets inside a batch are not holes."""

    def _new_offset(self, tp: TP) -> int | None:
        """One agent without concurrency acks in order, so the newest ack is the group offset."""
        acked = self._acked[tp]
        if not acked:
            return None
        offset: int = max(acked) + 1
        acked.clear()
        self._acked_index[tp].clear()
        return offset


def _message(tp: TP, batch: list[Any], generation: int) -> ConsumerMessage:
    last, value = batch[-1], cast(bytes, batch)  # Faust hands the value on untouched; our schema does not decode it
    return ConsumerMessage(
        tp.topic, tp.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type,
        {}, None, value, None, 0, 0, tp, generation_id=generation,
    )  # fmt: skip


class NoTables(TableManager):
    """Lanes have no tables: Faust's own manager waits a second for ones that are declared late."""

    async def on_start(self) -> None:
        """Say at once that there are none."""
        await self._update_channels()
        await self.recovery.start()


class BatchSchema(faust.Schema[Any, Any]):
    """Hands the fetched records to the agent untouched."""

    def compile(self, app: AppT, **_: Any) -> Callable[..., Awaitable[EventT[Any]]]:
        """The decoder that Faust asks for: no decoding."""

        async def decode(message: Message, *, propagate: bool = False) -> EventT[Any]:
            return app.create_event(None, message.value, {}, message)

        return decode


class LaneApp(faust.App):
    """A Faust app whose topics are lanes. `resume_from` and `lost` must be set before the worker starts.

    held(): the lanes of which nothing may be fetched now. None: never any.
    """

    resume_from: ResumeFrom
    lost: Callable[[TP, int], None]
    held: Callable[[], set[TP]] | None = None

    @property
    def lanes(self) -> LaneConsumer:
        """The consumer, by the name of what it has more than Faust's."""
        return cast(LaneConsumer, self.consumer)

    def fetched_meanwhile(self, stream: Any, bytes_max: int) -> list[EventT[Any]]:
        """The batches that wait in the agent's queue, oldest first, until they have so many bytes or none is left.

        Those of before a rebalance are dropped, as the stream drops them when it hands them out one by one.
        """
        queue, events, taken = stream.channel.queue, [], 0
        while taken < bytes_max and not queue.empty():
            event = queue.get_nowait()
            message = event.message
            if not self.flow_control.is_active() or message.generation_id != self.consumer_generation_id:
                continue
            if not message.tracked:
                message.tracked = True
                self.consumer.track_message(message)
            events.append(event)
            taken += sum(len(record.value or b"") for record in event.value)
        return events

    async def on_first_start(self) -> None:
        """Faust would make its data folder here; lanes have no tables, so a worker needs no disk."""

    def _new_transport(self) -> Any:
        transport = super()._new_transport()
        transport.Consumer = LaneConsumer  # type: ignore[misc]  # Faust names the class on its transport class
        return transport

    def lane(self, topic: str) -> Any:
        """The topic as a stream of batches: each event's value is a list of records."""
        return self.topic(topic, schema=BatchSchema())
