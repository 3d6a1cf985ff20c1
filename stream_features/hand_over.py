"""From the card stage to the terminal stage, without asking Kafka back for what it has just acknowledged.

Rule 1. The log stays the truth: a record is handed over once Kafka has acknowledged it, with the offset that it got, and only
        when it is the very next one for the stage. Whatever else stands in the log comes by the lane's fetches, as ever.
Rule 2. Only a worker that has every lane which writes to a log hands its records over: others' records would stand between.
Rule 3. While records are handed over, the lane's fetches rest. They go on where the stage is as soon as a write shows that
        another writer's record stands before it, when too much waits, and when nothing was handed over for a second.
        Never from further on: what waits here could be overtaken by what is fetched, and would be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

from faust.types import TP

from adapters.kafka import Record
from adapters.telemetry import counter
from fraud import metrics

WAITING_BYTES_MAX: Final = 1024 * 1024


class Handed(NamedTuple):
    """A record as the log has it."""

    offset: int
    key: bytes | None
    value: bytes


class Lanes(Protocol):
    """The lanes' fetches (stream_features.lane.LaneConsumer)."""

    def rest(self, tp: TP) -> bool:
        """Fetch nothing of it; False when it is not assigned."""

    def go_on(self, tp: TP, offset: int) -> None:
        """Fetch it again, from this offset on."""


class HandOver:
    """What is on its way to each lane's stage.

    take(partition, records): takes what is next of consecutive records; returns the offset after what the stage has now.
    writers: every lane whose stage writes what is handed over.
    """

    def __init__(
        self, lanes: Callable[[], Lanes], take: Callable[[TP, Sequence[Handed]], Awaitable[int]], writers: set[TP]
    ) -> None:
        self._lanes = lanes
        self._take = take
        self._writers = writers
        self._is_alone = False
        self._waiting: dict[TP, list[Handed]] = {}
        self._reached: dict[TP, int] = {}
        self._taking: dict[TP, asyncio.Task[None]] = {}
        self._resting: set[TP] = set()
        self._lately: set[TP] = set()

    def offer(self, tp: TP, first: int, records: Sequence[Record], place: int) -> None:
        """Hand over consecutive records that stand in the log from `first` on; place: the offset that the stage takes next."""
        if not self._is_alone:
            return
        reached = max(place, self._reached.get(tp, place))
        waiting = self._waiting.setdefault(tp, [])
        if first != reached or sum(len(each.value) for each in waiting) > WAITING_BYTES_MAX:
            self._fetch(tp, place)
            return
        waiting += [Handed(first + i, key, value) for i, (key, value, _) in enumerate(records)]
        self._reached[tp] = first + len(records)
        self._lately.add(tp)
        if tp not in self._resting and self._lanes().rest(tp):
            self._resting.add(tp)
        if tp not in self._taking:
            self._taking[tp] = asyncio.create_task(self._take_waiting(tp))

    def look(self) -> None:
        """Let lanes fetch again to which nothing was handed over since the last look; call it once a second."""
        for tp in self._resting - self._lately - self._taking.keys():
            self._fetch(tp, self._reached[tp])  # nothing waits: this is where the stage is
        self._lately.clear()

    def begin(self, assigned: set[TP]) -> None:
        """After a rebalance: every lane fetches from its stored watermark, and what waits here comes by that."""
        self._is_alone = self._writers <= assigned
        for tp in list(self._resting):
            self._fetch(tp, 0)  # the positions of the rebalance follow
        self._waiting.clear()
        self._reached.clear()

    async def stop(self) -> None:
        """End what is under way; it is taken again by whoever comes next."""
        under_way = list(self._taking.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _take_waiting(self, tp: TP) -> None:
        try:
            while records := self._waiting.pop(tp, []):
                place = await self._take(tp, records)
                if place <= records[-1].offset:  # the stage is another one now, or somewhere else
                    self._waiting.pop(tp, None)
                    self._reached.pop(tp, None)
                    self._fetch(tp, place)
                else:
                    counter(metrics.HANDED_OVER_TOTAL).labels(tp.topic, str(tp.partition)).inc(len(records))
        finally:
            del self._taking[tp]

    def _fetch(self, tp: TP, offset: int) -> None:
        if tp in self._resting:
            self._resting.discard(tp)
            self._lanes().go_on(tp, offset)
