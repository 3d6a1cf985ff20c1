"""The feature worker with one thing forced or one thing wrong: `python -m tests.integration.faults.faulty_worker`.

Rule 1. FAULT_POINT (`stage:point:count[,...]`) forces a fault at an exact place of the protocol, the `count`-th time it is reached.
        The code of the worker is untouched: the right worker must come through.
        FAULT_SLOW (`stage:seconds`) makes each batch of a stage that much slower; FAULT_WAITING_BYTES is how much may wait
        in the hand-over; FAULT_BLIND (`seconds`) is for how long it does not look how far the others are, once it has given
        partitions away.
Rule 2. FAULT_WRONG replaces one piece of the worker by a naive one: the checker must find out.

    points   load          killed when the entities were read, before the fold
             half-written  killed when the first of several target partitions was written
             written       killed when everything was written, before it takes effect
             applied       killed when the effect stands, before the ack
             lost-answer   the effect stands, but the connection broke before the answer
             stop-loading, stop-written   stopped (SIGSTOP) before the read, and before the effect: a zombie, once continued
    wrong    no-compare    state is changed without comparing the watermark
             group-offset  the worker resumes from the group's committed offset, but on terminal-log: there it finds out by itself
             overtaking    a lane that was handed records fetches again from further on than its stage is
             unaligned     a card partition that catches up never waits for the others
             forgetful    it knows nothing of the partitions that it has itself, when it gives them away
             swallow:N     the N-th batch of transactions raises, and the agent acks it all the same
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from faust.types import TP
from redis.exceptions import ConnectionError as RedisConnectionError

from adapters import state_store
from adapters.kafka import AsyncWriter
from adapters.state_store import Effect, StateStore
from fraud import topics
from stream_features import __main__ as worker_main
from stream_features import app, hand_over, lane_runner
from stream_features.lane_runner import LaneRunner

_stage: ContextVar[str] = ContextVar("stage", default="")


class Points:
    """The places at which faults happen, and how often each must still be reached."""

    def __init__(self, text: str) -> None:
        self._left: dict[tuple[str, str], int] = {}
        for point in text.split(","):
            stage, name, count = point.split(":")
            self._left[stage, name] = int(count)

    def here(self, name: str) -> bool:
        """Whether it happens here and now."""
        place = (_stage.get(), name)
        if place not in self._left:
            return False
        self._left[place] -= 1
        return self._left[place] == 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def force(points: Points) -> None:
    """Put the points into the protocol."""
    take, load, apply, write = LaneRunner._take, StateStore.load, StateStore.apply, lane_runner.write_all

    async def taking(self: LaneRunner, tp: Any, stage: Any, decoded: Any) -> None:
        _stage.set(stage.name)
        await take(self, tp, stage, decoded)

    async def loading(self: StateStore, *args: Any) -> Any:
        if points.here("stop-loading"):
            _stop()
        logs = await load(self, *args)
        if points.here("load"):
            _die()
        return logs

    async def writing(writer: AsyncWriter, writes: Sequence[Any]) -> list[int | None]:
        if len(writes) > 1 and points.here("half-written"):
            await write(writer, writes[:1])
            _die()
        return await write(writer, writes)

    async def applying(self: StateStore, stage: Any, partition: int, effect: Effect) -> None:
        if points.here("written"):
            _die()
        if points.here("stop-written"):
            _stop()
        if points.here("lost-answer"):
            _break_next_answer(self)
        await apply(self, stage, partition, effect)
        if points.here("applied"):
            _die()

    LaneRunner._take = taking  # type: ignore[method-assign]
    StateStore.load = loading  # type: ignore[method-assign]
    StateStore.apply = applying  # type: ignore[method-assign]
    lane_runner.write_all = writing


def _break_next_answer(store: StateStore) -> None:
    client = store._redis
    call = client.fcall

    async def calling(*args: Any) -> Any:
        client.fcall = call
        await call(*args)
        raise RedisConnectionError("the answer was lost")

    client.fcall = calling


def without_compare() -> None:
    """Wrong: increments and appends whatever the watermark says."""
    compared = state_store.resources.files

    class Naive:
        def joinpath(self, name: str) -> Naive:
            self._text: str = compared("adapters").joinpath(name).read_text()
            return self

        def read_text(self) -> str:
            naive = self._text.replace("if stored ~= args[1] or", "if")
            assert naive != self._text
            return naive

    state_store.resources.files = lambda _: Naive()  # type: ignore[assignment,return-value]


def from_group_offset() -> None:
    """Wrong: resumes where the consumer group committed."""
    resume = app.FeatureWorker._resume_from

    async def resuming(self: app.FeatureWorker, assigned: set[Any]) -> Mapping[Any, int]:
        positions = dict(await resume(self, assigned))
        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.kafka_bootstrap)
        await admin.start()
        try:
            committed = await admin.list_consumer_group_offsets("stream-features")
        finally:
            await admin.close()
        return positions | {
            TP(tp.topic, tp.partition): at.offset
            for tp, at in committed.items()
            if TP(tp.topic, tp.partition) in assigned and at.offset >= 0 and tp.topic != topics.TERMINAL_LOG.name
        }

    app.FeatureWorker._resume_from = resuming  # type: ignore[method-assign]


def slowed(slow: str, seconds: float) -> None:
    """A slow machine: each batch of stage `slow` takes that much longer."""
    take = LaneRunner._take

    async def taking(self: LaneRunner, tp: Any, stage: Any, decoded: Any) -> None:
        if stage.name == slow:
            await asyncio.sleep(seconds)
        await take(self, tp, stage, decoded)

    LaneRunner._take = taking  # type: ignore[method-assign]


def blinded(seconds: float) -> None:
    """A slow state store: after a rebalance that left it some of the partitions, it does not look for so long."""
    resumed, look = app.FeatureWorker._resumed, app.FeatureWorker._look
    until = 0.0

    async def resuming(self: app.FeatureWorker, assigned: set[TP]) -> Mapping[TP, int]:
        nonlocal until
        positions = await resumed(self, assigned)
        if sum(tp.topic == topics.TRANSACTIONS.name for tp in assigned) < self._settings.partitions:
            until = time.monotonic() + seconds
        return positions

    async def looking(self: app.FeatureWorker) -> None:
        if time.monotonic() > until:
            await look(self)

    app.FeatureWorker._resumed = resuming  # type: ignore[method-assign]
    app.FeatureWorker._look = looking  # type: ignore[method-assign]


def forgetful() -> None:
    """Wrong: sees how far the others' partitions are, and not its own."""
    look = app.FeatureWorker._look

    async def looking(self: app.FeatureWorker) -> None:
        await look(self)
        own = self._card_stages()
        self._alignment.see({p: state for p, state in self._alignment._seen.items() if p not in own})

    app.FeatureWorker._look = looking  # type: ignore[method-assign]


def overtaking() -> None:
    """Wrong: fetches from behind what was handed over go on before what still waits was taken."""
    fetch = hand_over.HandOver._fetch

    def fetching(self: hand_over.HandOver, tp: TP, offset: int) -> None:
        fetch(self, tp, self._reached.get(tp, offset))

    hand_over.HandOver._fetch = fetching  # type: ignore[method-assign]


def swallowing(count: int) -> None:
    """Wrong: an exception in the agent, acked all the same."""
    run = LaneRunner.run
    seen = 0

    async def running(self: LaneRunner, tp: Any, records: Sequence[Any]) -> None:
        nonlocal seen
        seen += tp.topic == topics.TRANSACTIONS.name
        with contextlib.suppress(RuntimeError):
            if tp.topic == topics.TRANSACTIONS.name and seen == count:
                raise RuntimeError("an exception in the agent")
            await run(self, tp, records)

    LaneRunner.run = running  # type: ignore[method-assign]


def main() -> None:
    """Patch what the environment says, then run the worker."""
    if point := os.environ.get("FAULT_POINT"):
        force(Points(point))
    if slow := os.environ.get("FAULT_SLOW"):
        stage, _, seconds = slow.partition(":")
        slowed(stage, float(seconds))
    if waiting := os.environ.get("FAULT_WAITING_BYTES"):
        hand_over.WAITING_BYTES_MAX = int(waiting)  # type: ignore[misc]
    if seconds := os.environ.get("FAULT_BLIND"):
        blinded(float(seconds))
    wrong, _, count = os.environ.get("FAULT_WRONG", "").partition(":")
    if wrong == "no-compare":
        without_compare()
    elif wrong == "group-offset":
        from_group_offset()
    elif wrong == "overtaking":
        overtaking()
    elif wrong == "unaligned":
        app.FeatureWorker._held = lambda self: set()  # type: ignore[method-assign]
    elif wrong == "forgetful":
        forgetful()
    elif wrong == "swallow":
        swallowing(int(count))
    elif wrong:
        raise SystemExit(f"FAULT_WRONG is {wrong!r}")
    worker_main.main()


if __name__ == "__main__":
    main()
