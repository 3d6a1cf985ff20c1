"""Reading the topics for the console, on a thread of its own: what was polled is handed over as one list.

Rule 1. No consumer group: nothing of the stack notices a console. It begins near the end of what is long, and at the
        beginning of what is a fold (`control`) or rare (`truth`).
Rule 2. Kafka away is waited for, without end, and said; it goes on where it stood.
Rule 3. A fetch costs as much as a hundred records: the broker gathers for GATHER_MS before it answers, and while nobody
        looks there is a pause of IDLE_S between two polls, which `hurry` ends. Nothing is left out, it only comes later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from fraud import topics
from fraud.topics import Topic

_ALL: Final = 1 << 60
_ANSWER_S_MAX: Final = 2
_QUIET_S: Final = 5.0
_AGAIN_S: Final = 1.0
_RECORDS_MAX: Final = 2_000
_POLL_MS: Final = 500
GATHER_MS: Final = 100
IDLE_S: Final = 2.0
# What is written at the highest rate within IDLE_S fits in one fetch, else the pauses would let the reader fall behind.
_FETCH_BYTES: Final = 16 * 1024 * 1024
_GATHER_BYTES: Final = 256 * 1024

log = structlog.get_logger("console")


@dataclass(frozen=True, slots=True)
class Followed:
    """A topic, and how many of its newest records are read at the start, by partition."""

    topic: Topic
    from_the_end: int


DEAD_LETTER_TOPICS: Final = tuple(topics.dead_letter_topic(topic) for topic in topics.DATA if topic.dead_letters)
FOLLOWED: Final = (
    Followed(topics.ALERTS, 20_000),
    Followed(topics.LABELS, 20_000),
    Followed(topics.DISPOSITIONS, 5_000),
    Followed(topics.SCORES, 0),
    Followed(topics.CONTROL, _ALL),
    Followed(topics.TRUTH, _ALL),
    *(Followed(topic, 200) for topic in DEAD_LETTER_TOPICS),
)


class LogReader:
    """Follows FOLLOWED at `bootstrap`. hand_over(records): called on this thread with what one poll gave.

    watched(): whether somebody looks; asked on this thread.
    """

    def __init__(
        self,
        bootstrap: str,
        hand_over: Callable[[Sequence[Any]], None],
        watched: Callable[[], bool] = lambda: True,
        followed: Sequence[Followed] = FOLLOWED,
    ) -> None:
        self._bootstrap = bootstrap
        self._hand_over = hand_over
        self._watched = watched
        self._followed = followed
        self._at: dict[TopicPartition, int] = {}
        self._stop = threading.Event()
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-reader", daemon=True)
        self._answered_s = time.monotonic()
        self.fault: str | None = None

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End within a few seconds."""
        self._stop.set()
        self._due.set()
        self._thread.join(5)

    def hurry(self) -> None:
        """Somebody looks from now on: end the pause."""
        self._due.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except KafkaError as error:
                self.fault = f"Kafka at {self._bootstrap} does not answer ({type(error).__name__})"
                log.warning("Kafka does not answer; the console tries again", error=repr(error))
            except Exception as error:
                self.fault = f"reading the topics failed ({type(error).__name__}: {error})"
                log.exception("reading failed; the console tries again")
            self._stop.wait(_AGAIN_S)

    def _follow(self) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id="console",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=_RECORDS_MAX,
            fetch_min_bytes=_GATHER_BYTES,
            fetch_max_wait_ms=GATHER_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            reconnect_backoff_max_ms=1_000,
            bootstrap_timeout_ms=5_000,
            allow_auto_create_topics=False,
        )
        try:
            places, ends = self._assign(consumer)
            self.fault, self._answered_s = None, time.monotonic()
            while not self._stop.is_set():
                polled = consumer.poll(timeout_ms=_POLL_MS)
                if polled:
                    self.fault, self._answered_s = None, time.monotonic()
                    self._hand_over([record for records in polled.values() for record in records])
                    for place, records in polled.items():
                        self._at[place] = records[-1].offset + 1
                elif time.monotonic() - self._answered_s > _QUIET_S:
                    consumer.end_offsets(places[:1], timeout_ms=_ANSWER_S_MAX * 1000)
                    self.fault, self._answered_s = None, time.monotonic()
                ends = {place: end for place, end in ends.items() if consumer.position(place) < end}
                if not ends:
                    self._pause(sum(map(len, polled.values())))
        finally:
            consumer.close()

    def _pause(self, records: int) -> None:
        """Wait while nobody looks, unless more was read than one poll gives."""
        if records < _RECORDS_MAX and not self._watched():
            self._due.wait(IDLE_S)
        self._due.clear()

    def _assign(self, consumer: KafkaConsumer) -> tuple[list[TopicPartition], dict[TopicPartition, int]]:
        """The places, and where each ends now: up to there no pause is made."""
        found: dict[TopicPartition, int] = {}
        for followed in self._followed:
            numbers = consumer.partitions_for_topic(followed.topic.name)
            if not numbers:
                raise KafkaError(f"there is no topic {followed.topic.name} yet")
            found |= {TopicPartition(followed.topic.name, number): followed.from_the_end for number in sorted(numbers)}
        places = list(found)
        consumer.assign(places)
        begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        for place, newest in found.items():
            begin = max(begins[place], ends[place] - newest)
            at = self._at.get(place, begin)
            consumer.seek(place, at if begins[place] <= at <= ends[place] else begin)
        return places, ends
