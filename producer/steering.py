"""What a live producer hears: control requests, alerts and dispositions, read from Kafka between two messages.

Rule 1. `control` is read from its beginning: clock and runs are a fold over all of it. Of the others a saved offset tells
        what is already in the label desk's memory.
Rule 2. Hearing never blocks: it takes what has come.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import structlog
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from fraud import topics
from fraud.alert import Alert, parse_alert
from fraud.control import ControlRequest, SetClock, parse_control_request
from fraud.dead_letters import BadMessageError
from fraud.disposition import Disposition, parse_disposition
from fraud.simulation import ClockState, Simulation
from producer.world_position import HEARD_TOPICS, Offsets, ends_of

ANSWER_SECONDS_MAX: Final = 15.0
_LOOK_S: Final = 0.05

log = structlog.get_logger("producer")


class NoClockError(RuntimeError):
    """The simulated clock cannot be had; the message names the remedy."""


class Steering:
    """The simulated clock and the scenario runs as `control` has them, and what is said about transactions.

    heard: where to go on with alerts and dispositions; None: they are not listened to.
    wall_ms: wall clock, epoch milliseconds, on the same time as the broker's.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        partitions: int,
        heard: Offsets | None,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.simulation = Simulation()
        self._consumer = consumer
        self._wall_ms = wall_ms
        self._now_s = now_s
        self._looked_s = 0.0
        self._seen: set[str] = set()
        self._alerts: list[Alert] = []
        self._dispositions: list[Disposition] = []
        begins = {} if heard is None else ends_of(consumer, HEARD_TOPICS, partitions) | heard
        self._places = {
            TopicPartition(name, p): at for name, of_topic in begins.items() for p, at in enumerate(of_topic)
        }
        self._control = TopicPartition(topics.CONTROL.name, 0)
        consumer.assign([self._control, *self._places])
        consumer.seek_to_beginning(self._control)
        for place, at in self._places.items():
            consumer.seek(place, at)
        self._catch_up(
            lambda: consumer.position(self._control) >= ends_of(consumer, [topics.CONTROL], 1)[topics.CONTROL.name][0]
        )

    @property
    def clock(self) -> ClockState:
        """The clock. Raises NoClockError before any producer has started one."""
        if self.simulation.clock is None:
            raise NoClockError("no producer has started the simulated clock: start one without --follow first")
        return self.simulation.clock

    def now_ms(self) -> int:
        """Event time now."""
        return self.clock.now_ms(self._wall_ms())

    def seconds_until(self, event_ms: int) -> float:
        """Real seconds until event time is `event_ms`; 0 when it has come, infinite while paused."""
        if self.now_ms() >= event_ms:
            return 0.0
        return max(0.0, (self.clock.wall_ms_of(event_ms) - self._wall_ms()) / 1000)

    def ask(self, producer: KafkaProducer, request: ControlRequest) -> None:
        """Send a request and return when `control` shows it. Raises NoClockError when it does not in time."""
        producer.send(topics.CONTROL.name, request.to_json()).get(timeout=ANSWER_SECONDS_MAX)
        self._catch_up(lambda: request.request_id in self._seen)

    def look(self) -> None:
        """Take what has come; at most every 50 ms."""
        if self._now_s() - self._looked_s >= _LOOK_S:
            self._looked_s = self._now_s()
            self._take(0)

    def heard(self) -> tuple[list[Alert], list[Disposition], Offsets]:
        """What was said since the last call, and the offsets after it."""
        alerts, dispositions, self._alerts, self._dispositions = self._alerts, self._dispositions, [], []
        return alerts, dispositions, self.offsets()

    def offsets(self) -> Offsets:
        """The offsets after what was taken."""
        offsets: Offsets = {}
        for place, at in self._places.items():
            offsets.setdefault(place.topic, []).append(at)
        return offsets

    def _catch_up(self, done: Callable[[], bool]) -> None:
        deadline_s = self._now_s() + ANSWER_SECONDS_MAX
        while not done():
            if self._now_s() > deadline_s:
                raise NoClockError(f"the topic control did not answer within {ANSWER_SECONDS_MAX:.0f} s: try again")
            self._take(100)

    def _take(self, timeout_ms: int) -> None:
        for place, records in self._consumer.poll(timeout_ms=timeout_ms).items():
            for record in records:
                try:
                    self._one(place.topic, record)
                except BadMessageError as error:
                    log.warning("message ignored", topic=place.topic, offset=record.offset, reason=str(error))
            if place in self._places:
                self._places[place] = records[-1].offset + 1

    def _one(self, topic: str, record: Any) -> None:
        if topic == topics.ALERTS.name:
            self._alerts.append(parse_alert(record.value))
        elif topic == topics.DISPOSITIONS.name:
            self._dispositions.append(parse_disposition(record.value))
        else:
            request = parse_control_request(record.value)
            self._seen.add(request.request_id)
            self.simulation.apply(request, record.timestamp)


def clock_request(
    speed: float | None = None,
    paused: bool | None = None,
    event_time_ms: int | None = None,
    cards: int | None = None,
) -> SetClock:
    """A request for another clock."""
    return SetClock(f"clock-{uuid.uuid4().hex[:12]}", time.time_ns() // 1_000_000, speed, paused, event_time_ms, cards)
