"""The console's reader of topics: it rests while nobody looks, and misses nothing."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import TopicPartition

from fraud import topics
from monitoring.console import log_reader
from monitoring.console.log_reader import Followed, LogReader

WAIT_S = 60.0
PLACE = TopicPartition(topics.ALERTS.name, 0)


class Record:
    """A record of `alerts`."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


class Log:
    """One partition as a KafkaConsumer shows it: at most two records a poll. polls: how often it was asked."""

    def __init__(self, records: int) -> None:
        self.end = records
        self.polls = 0
        self.asked: deque[int] = deque()
        self._at = 0

    def __call__(self, **settings: Any) -> Log:
        return self

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def assign(self, places: list[TopicPartition]) -> None:
        assert places == [PLACE]

    def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {PLACE: 0}

    def end_offsets(self, places: list[TopicPartition], **settings: Any) -> dict[TopicPartition, int]:
        return {PLACE: self.end}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._at = offset

    def position(self, place: TopicPartition) -> int:
        return self._at

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        self.polls += 1
        first, self._at = self._at, min(self.end, self._at + 2)
        return {PLACE: [Record(offset) for offset in range(first, self._at)]} if self._at > first else {}

    def close(self) -> None:
        """Nothing is held."""


class Reading:
    """A reader over a Log whose pauses only `hurry` can end."""

    def __init__(self, records: int, watched: bool) -> None:
        self.log = Log(records)
        self.watched = watched
        self.seen: list[int] = []
        self.came = threading.Condition()
        self.reader = LogReader(
            "nowhere:1", self._take, watched=lambda: self.watched, followed=[Followed(topics.ALERTS, 1_000)]
        )

    def _take(self, records: Any) -> None:
        with self.came:
            self.seen += [record.offset for record in records]
            self.came.notify_all()

    def has(self, count: int) -> bool:
        with self.came:
            return self.came.wait_for(lambda: len(self.seen) >= count, WAIT_S)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Reading]]:
    monkeypatch.setattr(log_reader, "IDLE_S", 10 * WAIT_S)
    made: list[Reading] = []
    yield made
    for reading in made:
        reading.reader.stop()


def started(readings: list[Reading], monkeypatch: pytest.MonkeyPatch, records: int, watched: bool) -> Reading:
    reading = Reading(records, watched)
    monkeypatch.setattr(log_reader, "KafkaConsumer", reading.log)
    readings.append(reading)
    reading.reader.start()
    return reading


def test_what_was_there_at_the_start_is_read_without_a_pause_though_nobody_looks(
    readings: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = started(readings, monkeypatch, records=9, watched=False)
    assert reading.has(9)
    assert reading.seen == list(range(9))


def test_a_visitor_ends_the_pause_and_gets_what_came_in_it(
    readings: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = started(readings, monkeypatch, records=2, watched=False)
    assert reading.has(2)
    polls = reading.log.polls
    reading.log.end = 7
    assert (len(reading.seen), reading.log.polls) == (2, polls)  # it rests
    reading.watched = True
    reading.reader.hurry()
    assert reading.has(7)
    assert reading.seen == list(range(7))


def test_while_somebody_looks_there_is_no_pause(readings: list[Reading], monkeypatch: pytest.MonkeyPatch) -> None:
    reading = started(readings, monkeypatch, records=2, watched=True)
    assert reading.has(2)
    reading.log.end = 30
    assert reading.has(30)
