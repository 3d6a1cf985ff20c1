"""The live stream, with a clock moved by hand and a log in memory."""

from __future__ import annotations

import json
import threading
from functools import partial

import pytest

from producer.chunks import chunks
from producer.clock import SimulatedClock
from producer.position import Position
from producer.streamer import LiveStreamer, Sent, linger_ms_for, moments
from tests.unit.producer_rows import BEGIN_MS, rows
from tests.unit.test_producer_clock import HandTime


class MemoryLog:
    """Records as they were handed over, and how many stood at each flush."""

    def __init__(self) -> None:
        self.records: list[tuple[str, int, bytes, dict]] = []
        self.flushed: list[int] = []

    def send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        self.records.append((topic, partition, key, json.loads(value)))

    def flush(self) -> None:
        self.flushed.append(len(self.records))

    @property
    def order(self) -> list[tuple[str, str]]:
        return [(topic, value["transaction_id"]) for topic, _, _, value in self.records]


def stream(piece, position=Position(), speed=60.0, report=lambda sent: None, stop=None, log=None, partitions=1):  # noqa: B008 (frozen)
    log, real = log or MemoryLog(), HandTime()
    streamer = LiveStreamer(
        log.send, log.flush, partitions, partial(SimulatedClock, speed=speed, real=real), real.now_s
    )
    sent = streamer.stream(chunks([piece]), position, report, stop or threading.Event())
    return log, sent, real


def last_rows(records, topic: str, partitions: int) -> tuple[int, ...]:
    """The last row of a topic in each partition, -1 for none."""
    last = [-1] * partitions
    for name, partition, _, value in records:
        if name == topic:
            last[partition] = int(value["transaction_id"].removeprefix("h0-"))
    return tuple(last)


def test_a_label_is_sent_before_the_first_transaction_at_or_after_its_known_time():
    #  tx 0 at 0, tx 1 at 10, tx 2 at 20; the label of 0 is known at 10, that of 1 at 15
    log, _, _ = stream(rows([0, 10, 20], [10, 15, 99]))
    assert log.order == [
        ("transactions", "h0-0"),
        ("labels", "h0-0"),
        ("transactions", "h0-1"),
        ("labels", "h0-1"),
        ("transactions", "h0-2"),
    ]


def test_a_label_known_at_once_still_follows_its_own_transaction():
    log, _, _ = stream(rows([0, 5], [0, 5]))
    assert log.order == [("transactions", "h0-0"), ("labels", "h0-0"), ("transactions", "h0-1"), ("labels", "h0-1")]


def test_messages_leave_at_the_pace_of_the_clock_and_carry_its_time():
    log, _, real = stream(rows([0, 10, 30]), speed=60.0)  # a minute of event time per second
    assert real.seconds == pytest.approx(100 + 30)
    for _, _, _, value in log.records:
        assert 0 <= value["sent_at_ms"] - value["occurred_at_ms"] < 60_000


def test_the_clock_starts_at_the_first_unsent_moment_so_a_pause_is_not_caught_up():
    position = Position(rows=2, labels=0)
    log, _, real = stream(rows([0, 10, 500, 501]), position)
    assert log.order == [("transactions", "h0-2"), ("transactions", "h0-3")]
    assert real.seconds == pytest.approx(101)


def test_what_stands_in_the_log_is_not_sent_again():
    piece = rows(range(40), range(10, 50))
    whole, _, _ = stream(piece, partitions=3)
    marks = [last_rows(whole.records[:30], topic, partitions=3) for topic in ("transactions", "labels")]
    rest, _, _ = stream(piece, Position(0, 0, *marks), partitions=3)
    assert sorted(whole.order) == sorted(whole.order[:30] + rest.order)
    assert rest.order == whole.order[30:]


def test_what_is_reported_was_flushed_before():
    log, reports = MemoryLog(), []
    stream(
        rows(range(0, 300, 10), range(5, 305, 10)), report=lambda s: reports.append(s.transactions + s.labels), log=log
    )
    assert len(reports) > 3
    assert log.flushed == reports
    assert reports[-1] == len(log.records)


def test_a_stop_ends_the_stream_with_everything_sent_acknowledged():
    stop, log = threading.Event(), MemoryLog()

    def report(sent: Sent) -> None:
        if sent.transactions >= 3:
            stop.set()

    _, sent, _ = stream(rows(range(0, 1000, 10)), report=report, stop=stop, log=log)
    assert 3 <= sent.rows == len(log.records) < 100
    assert log.flushed[-1] == sent.rows


def test_the_position_names_the_first_row_and_label_that_are_missing():
    _, sent, _ = stream(rows([0, 10, 20], [10, 15, 99]))
    assert (sent.rows, sent.label_rows, sent.at_ms) == (3, 2, BEGIN_MS + 20 * 60_000)


def test_moments_of_a_chunk_are_in_order_of_time():
    (chunk,) = chunks([rows([0, 1, 2, 3], [2, 1.5, 2.5, None])])
    assert [m.at_ms for m in moments(chunk, Position())] == sorted(m.at_ms for m in moments(chunk, Position()))


@pytest.mark.parametrize(("rate", "linger_ms"), [(1, 0), (199, 0), (200, 12), (1000, 12), (1001, 15)])
def test_a_faster_stream_lingers_longer(rate: float, linger_ms: int):
    assert linger_ms_for(rate) == linger_ms
