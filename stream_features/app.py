"""The Faust app of the feature worker: three agents, each on one lane.

Rule 1. Agents ack after the effect stands, and never see an exception: stream_features/lane_runner.py ends the process.
Rule 2. Topics exist before the worker starts: Faust says Ready with nothing assigned when one is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP, EventT
from kafka.errors import KafkaError

from adapters.feature_switch import Definitions, FeatureSwitch
from adapters.kafka import AsyncWriter
from adapters.state_store import StageState, StateStore, StateStoreAwayError
from adapters.switch_feed import SwitchFeed
from adapters.telemetry import counter, gauge
from fraud import metrics, topics
from fraud.features import FEATURE_HASH
from fraud.flood import FloodGuard
from fraud.switches import Side
from stream_features.alignment import LOOK_SECONDS, CardLane, EventTimeAlignment
from stream_features.card_stage import CardStage
from stream_features.hand_over import Handed, HandOver
from stream_features.label_forwarder import EventTimeGate, LabelForwarder
from stream_features.lane import LaneApp, NoTables
from stream_features.lane_runner import (
    EXIT_PERSON,
    EXIT_RESTART,
    LaneRunner,
    LogLostError,
    end_process,
    log,
)
from stream_features.settings import FeatureSettings
from stream_features.stage import Stage
from stream_features.terminal_stage import TerminalStage
from stream_features.wrong_folds import InForce

SOURCES: Final = (topics.TRANSACTIONS, topics.LABELS, topics.TERMINAL_LOG)
HEARTBEAT_SECONDS: Final = 1.0
SILENT_SECONDS_MAX: Final = 10.0
LOG_SETTLES_SECONDS: Final = 10.0
LOG_POLL_SECONDS: Final = 0.2
TOGETHER_BYTES_MAX: Final = 1024 * 1024  # about 3,500 transactions, or 2,500 packed rows
STANDBY_SECONDS: Final = 0.5
RESUME_SECONDS_MAX: Final = 25.0  # Faust gives up a seek after 30 s without a word, and never asks again


class FeatureWorker:
    """One worker process: the app, and what its agents share."""

    def __init__(self, settings: FeatureSettings) -> None:
        self._settings = settings
        self.app = _faust_app(settings)
        self._store = StateStore(settings.redis_url, FEATURE_HASH, settings.state_away_seconds_max)
        self._switch = FeatureSwitch(self._store)
        self._definitions = Definitions(None, frozenset())
        self._writer = AsyncWriter(settings.kafka_bootstrap, f"stream_features-{settings.worker_id}")
        self._log_ends = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap)
        self._wrong_ways = SwitchFeed(settings.kafka_bootstrap, Side.SERVING)
        guards = {
            t.name: FloodGuard(t.name, settings.dead_letter_share_max, settings.dead_letter_records_min)
            for t in SOURCES
        }
        self._runner = LaneRunner(
            self._store,
            self._writer,
            self._makers(),
            guards,
            EventTimeGate(self._progress, self._ends),
            self._log_start,
        )
        self._runner.hand_over = HandOver(lambda: self.app.lanes, self._take_handed, self._writers())
        self._beat = time.monotonic()
        self.app.resume_from = self._resume_from
        self.app.lost = _end_for_a_lost_fetch
        self._alignment = EventTimeAlignment(time.monotonic, _count_unaligned)
        self._looking: asyncio.Task[None] | None = None
        self._switches_read: asyncio.Task[None] | None = None
        self.app.timer(HEARTBEAT_SECONDS)(self._heartbeat)
        for topic in SOURCES:
            self.app.agent(self.app.lane(topic.name), name=f"{topic.name}-lane")(self._agent())

    def health(self) -> str | None:
        """None when this worker does its work, else why not."""
        if self._definitions.active not in (None, FEATURE_HASH):
            return _standby(self._definitions)
        if not self._runner.assigned:
            return "no partitions assigned yet"
        silent = time.monotonic() - self._beat
        return None if silent < SILENT_SECONDS_MAX else f"the worker's loop has been silent for {silent:.0f} s"

    def _makers(self) -> Mapping[str, Callable[[int, StageState | None], Stage[Any]]]:
        partitions, cached = self._settings.partitions, self._settings.entities_cached_max
        return {
            topics.TRANSACTIONS.name: lambda p, state: CardStage(
                p, partitions, state or StageState(), cached, ways=InForce("card", p, self._ways_on)
            ),
            topics.LABELS.name: lambda p, state: LabelForwarder(p, partitions, state or StageState()),
            topics.TERMINAL_LOG.name: lambda p, state: TerminalStage(
                p,
                state or StageState(),
                cached,
                retired=self._definitions.retired,
                ways=InForce("terminal", p, self._ways_on),
            ),
        }

    def _writers(self) -> set[TP]:
        """The lanes whose stages write to terminal-log."""
        return {
            TP(topic.name, p)
            for topic in (topics.TRANSACTIONS, topics.LABELS)
            for p in range(self._settings.partitions)
        }

    def _ways_on(self) -> tuple[str, ...]:
        return self._wrong_ways.on

    def _agent(self) -> Callable[[Any], Awaitable[None]]:
        async def take_batches(stream: Any) -> None:
            async for event in stream.noack().events():
                # What was fetched meanwhile goes along: small fetches share one write, one acknowledgement and one effect,
                # and the queue has room again, for when it is full Faust fetches nothing of any lane.
                by_lane: dict[TP, list[EventT[Any]]] = {}
                for each in (event, *self.app.fetched_meanwhile(stream, TOGETHER_BYTES_MAX)):
                    by_lane.setdefault(each.message.tp, []).append(each)
                await asyncio.gather(*(self._take(tp, events) for tp, events in by_lane.items()))

        return take_batches

    async def _take(self, tp: TP, events: Sequence[EventT[Any]]) -> None:
        """Consecutive fetches of one lane as one batch."""
        await self._runner.run(tp, [record for event in events for record in event.value])
        for event in events:
            event.ack()
        self.app.lanes.taken(tp, events[-1].message.offset + 1)

    async def _take_handed(self, tp: TP, records: Sequence[Handed]) -> int:
        place = await self._runner.run_handed(tp, records)
        if place > records[-1].offset:
            self.app.lanes.done_without_fetch(tp, place - 1)
        return place

    async def start(self) -> None:
        """Connect to the state store and to Kafka, then start the app. Ends the process when topics are missing."""
        await self._store.start()
        await self._await_turn()
        self._switches_read = asyncio.create_task(self._read_switches())
        await self._writer.start()
        await self._log_ends.start()
        existing = await self._log_ends.topics()
        missing = [t.name for t in topics.ALL if t.name not in existing]
        if missing:
            end_process(EXIT_RESTART, "topics are missing: the init step has not run", missing=missing)
        if self._settings.partitions > 1:
            await self._look()
            self._looking = asyncio.create_task(self._keep_looking())
            self.app.held = self._held
        self.app.in_worker = True
        await self.app.start()

    async def _read_switches(self) -> None:
        """Before the first batch: a break-it switch that is on survives a restart."""
        try:
            await asyncio.to_thread(self._wrong_ways.start)
        except KafkaError as error:
            end_process(EXIT_RESTART, f"control cannot be read: {error!r}")

    async def _await_turn(self) -> None:
        """Wait until this worker's definition is the active one: it is at once, unless another one is."""
        told = None
        while True:
            self._definitions = await self._switch.claim(FEATURE_HASH)
            self._end_if_retired()
            if self._definitions.active == FEATURE_HASH:
                return
            if told != self._definitions.active:
                told = self._definitions.active
                log.warning(_standby(self._definitions))
            await asyncio.sleep(STANDBY_SECONDS)

    def _end_if_retired(self) -> None:
        if FEATURE_HASH in self._definitions.retired:
            end_process(
                EXIT_PERSON,
                f"features {FEATURE_HASH} of this worker are retired, active are {self._definitions.active}: start the "
                "worker of that release, or go back with this release's `fraudstream features rebuild`",
            )

    async def crashed(self) -> BaseException | None:
        """Return when Faust has stopped working by itself: it says so to its own worker program only."""
        await self.app._crashed.wait()
        return self.app.crash_reason

    async def stop(self) -> None:
        """Leave the lanes and close the connections; a batch under way is taken again by whoever comes next."""
        if self._looking is not None:
            self._looking.cancel()
        await self.app.stop()
        if self._runner.hand_over is not None:
            await self._runner.hand_over.stop()
        await self._writer.stop()
        await self._log_ends.stop()
        await self._store.stop()
        self._wrong_ways.stop()

    def _card_stages(self) -> dict[int, CardStage]:
        stages = (self._runner.stage(TP(topics.TRANSACTIONS.name, p)) for p in range(self._settings.partitions))
        return {p: stage for p, stage in enumerate(stages) if isinstance(stage, CardStage)}

    def _held(self) -> set[TP]:
        """Card lanes that are ahead of the others, or catch up and have a batch under way: that one may put them ahead."""
        lanes, own, busy = self.app.lanes, {}, set()
        assigned = lanes.assignment()
        for p, stage in self._card_stages().items():
            tp = TP(topics.TRANSACTIONS.name, p)
            if tp in assigned:
                end = lanes.highwater(tp)
                lag = math.inf if end is None else end - (stage.state.next or 0)
                own[p] = CardLane(stage.state, stage.reached_ms, lag > 0)
                if lag >= self._settings.batch_records_max and lanes.waiting(tp) > 0:
                    busy.add(p)
        return {TP(topics.TRANSACTIONS.name, p) for p in busy | self._alignment.held(own)}

    async def _look(self) -> None:
        states = await self._progress()  # of its own partitions, too: the next rebalance may give them away
        self._alignment.see(dict(enumerate(states)))

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(StateStoreAwayError):  # then a lane ends the process, or nothing came
                await self._look()

    async def _resume_from(self, assigned: set[TP]) -> Mapping[TP, int]:
        try:
            async with asyncio.timeout(RESUME_SECONDS_MAX):
                if self._switches_read is not None:
                    await self._switches_read
                return await self._resumed(assigned)
        except TimeoutError:
            end_process(EXIT_RESTART, f"no place to resume from within {RESUME_SECONDS_MAX:.0f} s")

    async def _resumed(self, assigned: set[TP]) -> Mapping[TP, int]:
        deadline = time.monotonic() + LOG_SETTLES_SECONDS
        while True:
            try:
                earliest, ends = await self._log_bounds(assigned)
                return await self._runner.resume_from(assigned, earliest, ends)
            except LogLostError as error:
                if time.monotonic() > deadline:
                    end_process(EXIT_PERSON, str(error))
                await asyncio.sleep(LOG_POLL_SECONDS)  # a broker that was killed shows a lower end while it recovers
            except Exception as error:
                end_process(EXIT_RESTART, f"cannot resume: {error!r}")

    async def _log_bounds(self, assigned: set[TP]) -> tuple[dict[TP, int], dict[TP, int]]:
        tps = [TopicPartition(tp.topic, tp.partition) for tp in assigned]
        earliest = await self._log_ends.beginning_offsets(tps)
        ends = await self._log_ends.end_offsets(tps)
        return (
            {TP(tp.topic, tp.partition): offset for tp, offset in earliest.items()},
            {TP(tp.topic, tp.partition): offset for tp, offset in ends.items()},
        )

    async def _progress(self) -> list[StageState]:
        return [await self._store.read("card", p) for p in range(self._settings.partitions)]

    async def _log_start(self, tp: TP) -> int:
        source = TopicPartition(tp.topic, tp.partition)
        start: int = (await self._log_ends.beginning_offsets([source]))[source]
        return start

    async def _ends(self) -> list[int]:
        tps = [TopicPartition(topics.TRANSACTIONS.name, p) for p in range(self._settings.partitions)]
        starts, ends = await self._log_ends.beginning_offsets(tps), await self._log_ends.end_offsets(tps)
        return [ends[tp] if starts[tp] < ends[tp] else 0 for tp in tps]

    async def _heartbeat(self) -> None:
        self._beat = time.monotonic()
        if self._looking is not None and self._looking.done():
            end_process(EXIT_RESTART, f"nobody looks at event time any more: {self._looking.exception()!r}")
        self._show_lag()
        if self._runner.hand_over is not None:
            self._runner.hand_over.look()
        with contextlib.suppress(TimeoutError, StateStoreAwayError):  # then a lane ends the process, or nothing came
            await asyncio.wait_for(self._runner.find_loss(), HEARTBEAT_SECONDS)
            self._definitions = await asyncio.wait_for(self._switch.read(), HEARTBEAT_SECONDS)
            self._end_if_retired()

    def _show_lag(self) -> None:
        consumer = self.app.consumer
        lag = gauge(metrics.LAG_RECORDS)
        for tp in consumer.assignment():
            high, stage = consumer.highwater(tp), self._runner.stage(tp)
            if high is not None and stage is not None and stage.state.next is not None:
                lag.labels(stage.name, tp.topic, str(tp.partition)).set(max(0, high - stage.state.next))


def _standby(definitions: Definitions) -> str:
    return (
        f"standing by: active are features {definitions.active}, this worker computes {FEATURE_HASH}; "
        "`fraudstream features rebuild` of this release changes over"
    )


def _count_unaligned(partition: int) -> None:
    counter(metrics.UNALIGNED_TOTAL).labels(str(partition)).inc()
    log.warning("card lanes go on without a partition that has not moved", partition=partition)


def _end_for_a_lost_fetch(tp: TP, offset: int) -> NoReturn:
    end_process(EXIT_RESTART, f"{tp.topic}/{tp.partition}: records before offset {offset} were dropped without a seek")


def _faust_app(settings: FeatureSettings) -> LaneApp:
    """Settings as measured: a killed worker's partitions are taken up again within 3 to 5 seconds."""
    return LaneApp(
        "stream-features",
        broker=";".join(f"kafka://{server}" for server in settings.kafka_bootstrap.split(",")),
        topic_allow_declare=False,
        topic_disable_leader=True,
        TableManager=NoTables,
        web_enabled=False,
        stream_wait_empty=False,
        # All partitions of a topic share one queue, and Faust stops fetching altogether when it is full: room for each.
        stream_buffer_maxsize=8 * settings.partitions,
        stream_recovery_delay=0,
        consumer_group_instance_id=f"stream-features-{settings.worker_id}",
        # The returning static member must bear the same url as before, or Faust refuses its assignment for ever; the
        # default is made of the host name, which changes with a new container or network.
        canonical_url=f"http://stream-features-{settings.worker_id}",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        broker_session_timeout=10,
        broker_heartbeat_interval=2,
        broker_rebalance_timeout=15,
        broker_request_timeout=30,
        broker_commit_interval=1,
        broker_max_poll_records=settings.batch_records_max,
        worker_redirect_stdouts=False,
    )
