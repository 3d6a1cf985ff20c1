"""Progress without a terminal: plain lines, not too many."""

from __future__ import annotations

import io

from producer.progress import Meter


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_at_most_every_five_seconds_and_once_at_the_end():
    stream, seconds = io.StringIO(), Seconds()
    with Meter({"sent": 100, "scored": 100}, stream=stream, now_s=seconds) as meter:
        for second in range(1, 12):
            seconds.now = second
            meter.update("sent", second * 9)
            meter.update("scored", second)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "sent 45 of 100 (45 %, 9 tx/s); scored 4 of 100 (4 %, 1 tx/s)"
    assert lines[-1].startswith("sent 99 of 100 (99 %, 9 tx/s); scored 11 of 100")


def test_work_that_never_began_shows_nothing():
    stream = io.StringIO()
    with Meter({"checked": 0}, stream=stream):
        pass
    assert stream.getvalue() == ""
