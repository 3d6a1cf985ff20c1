"""Which switches of "Break it" are on, read from the topic `control` from its beginning: once, or followed on a thread.

Rule 1. No consumer group: whoever asks gets the whole fold, so a service that starts again has the same switches on.
Rule 2. A feed that has started has read to the log's end of that moment; Kafka away later changes nothing, and is waited for.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any, Final

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from fraud import topics
from fraud.control import parse_control_request
from fraud.dead_letters import BadMessageError
from fraud.switches import Side, SwitchBoard

READ_S_MAX: Final = 30.0
_CONTROL: Final = TopicPartition(topics.CONTROL.name, 0)
_POLL_MS: Final = 5_000  # a message is answered at once, so nobody waits so long
_AGAIN_S: Final = 1.0

log = structlog.get_logger("switches")


def read_switches(bootstrap: str, seconds_max: float = READ_S_MAX) -> SwitchBoard:
    """What is on now. Raises KafkaError when `control` cannot be read to its end in that time."""
    board = SwitchBoard()
    with closing(_consumer(bootstrap)) as consumer:
        _read_to_end(consumer, board, seconds_max)
    return board


class SwitchFeed:
    """Follows the switches. sides: whose switches are told."""

    def __init__(self, bootstrap: str, *sides: Side) -> None:
        self._bootstrap = bootstrap
        self._sides = sides
        self._board = SwitchBoard()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="switches", daemon=True)
        self._consumer: KafkaConsumer | None = None
        self.on: tuple[str, ...] = ()

    def start(self, seconds_max: float = READ_S_MAX) -> None:
        """Read what stands in the log, then follow it. Raises KafkaError."""
        self._consumer = _consumer(self._bootstrap)
        _read_to_end(self._consumer, self._board, seconds_max)
        self.on = self._board.names(*self._sides)
        self._thread.start()

    def stop(self) -> None:
        """End soon; the thread is a daemon and nobody waits for it."""
        self._stop.set()

    def _follow(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        while not self._stop.is_set():
            try:
                polled = consumer.poll(timeout_ms=_POLL_MS)
            except KafkaError as error:
                log.warning("control cannot be read; what is on stays on", why=repr(error))
                self._stop.wait(_AGAIN_S)
                continue
            if polled:
                _take(polled, self._board)
                self.on = self._board.names(*self._sides)
        consumer.close(timeout_ms=1000)


def _consumer(bootstrap: str) -> KafkaConsumer:
    return KafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="switches",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_POLL_MS,
        reconnect_backoff_max_ms=1_000,
        bootstrap_timeout_ms=5_000,
        allow_auto_create_topics=False,
    )


def _read_to_end(consumer: KafkaConsumer, board: SwitchBoard, seconds_max: float) -> None:
    deadline = time.monotonic() + seconds_max
    consumer.assign([_CONTROL])
    consumer.seek_to_beginning(_CONTROL)
    end = consumer.end_offsets([_CONTROL])[_CONTROL]
    while consumer.position(_CONTROL) < end:
        if time.monotonic() > deadline:
            raise KafkaTimeoutError(f"control could not be read to offset {end} within {seconds_max:.0f} s")
        _take(consumer.poll(timeout_ms=_POLL_MS), board)


def _take(polled: dict[Any, list[Any]], board: SwitchBoard) -> None:
    for records in polled.values():
        for record in records:
            try:
                board.apply(parse_control_request(record.value), record.timestamp, record.offset)
            except BadMessageError as error:
                log.warning("control message ignored", offset=record.offset, why=str(error))
