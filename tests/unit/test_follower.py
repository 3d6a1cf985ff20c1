"""What a follower does when nothing comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError

from fraud import topics
from monitoring.follower import QUIET_S, ConsumerStuckError, Follower, KafkaAwayError
from monitoring.journal import Journal, Source

PLACE = TopicPartition(topics.SCORES.name, 0)
AWAY_S_MAX = 60.0


class Silent:
    """A consumer of one partition whose polls return what is put into `answers`, by their number, and else nothing.

    end: of the log; None: the broker does not answer. A poll takes a second.
    """

    def __init__(self, end: int | None) -> None:
        self.end = end
        self.answers: dict[int, list[Any]] = {}
        self.now_s = 0.0
        self._polls = 0

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    def assign(self, _: Any) -> None:
        return

    def seek(self, *_: Any) -> None:
        return

    def beginning_offsets(self, places: Any, **_: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    def end_offsets(self, places: Any, **_: Any) -> dict[TopicPartition, int]:
        if self.end is None:
            raise KafkaTimeoutError("no answer")
        return dict.fromkeys(places, self.end)

    def poll(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        self.now_s += 1
        self._polls += 1
        found = self.answers.get(self._polls)
        return {PLACE: found} if found else {}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.sqlite", "", 1)) as opened:
        opened.read_up_to(Source(*PLACE), 4)
        yield opened


def polls(consumer: Silent, journal: Journal, count: int, end: int | None) -> None:
    follower = Follower(consumer, journal, [topics.SCORES], "test", AWAY_S_MAX, clock=lambda: consumer.now_s)
    follower.start()
    consumer.end = end
    for _ in range(count):
        follower.poll()


def test_a_consumer_that_gets_nothing_of_what_is_there_ends_the_process(journal: Journal) -> None:
    consumer = Silent(4)
    with pytest.raises(ConsumerStuckError, match="3 records"):
        polls(consumer, journal, 100, end=7)
    assert consumer.now_s >= 2 * QUIET_S


def test_an_idle_log_and_records_that_came_just_now_are_no_stuck_consumer(journal: Journal) -> None:
    polls(Silent(4), journal, 100, end=4)
    consumer = Silent(4)
    consumer.answers = {15: [SimpleNamespace(offset=6)]}  # after they were first seen to be there, before the next look
    polls(consumer, journal, 100, end=7)


def test_a_broker_that_does_not_answer_is_waited_for_and_then_ends_the_process(journal: Journal) -> None:
    polls(Silent(4), journal, 50, end=None)
    with pytest.raises(KafkaAwayError):
        polls(Silent(4), journal, 100, end=None)
