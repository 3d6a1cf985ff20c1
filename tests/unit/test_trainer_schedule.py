"""The schedule on clocks that the test moves: nights, missed nights, rests, and a stream that catches up.

Rule 1. Days are counted from BEGIN_MS, a midnight; a world is a function from real seconds to event days.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from adapters.lake import Lake
from adapters.run_history import RunHistory, TrainingRun
from fraud.control import Retrain
from fraud.windows import DAY_MS
from trainer.lake_clock import LakeClock, archived_share
from trainer.schedule import Night, Schedule
from trainer.service import TrainService
from trainer.serving import LOOK_S, Nights, covered_ms
from trainer.settings import TrainerSettings

BEGIN_MS = 17_622 * DAY_MS
MINUTE_DAYS = 1 / 60  # event days in a real second, of a world that passes a day a minute


def day(number: float) -> int:
    return BEGIN_MS + round(number * DAY_MS)


def played(schedule: Schedule, world: Callable[[float], float], seconds: int, took_s: float) -> list[tuple[int, int]]:
    """Day and missed nights of every run, with runs of `took_s` seconds, asked every second as the service does."""
    runs: list[tuple[int, int]] = []
    covered: int | None = None
    busy_until = -1.0
    for second in range(seconds):
        night = schedule.due(second, day(world(second)), BEGIN_MS, covered)
        if night is None or second < busy_until:
            continue
        runs.append(((night.as_of_ms - BEGIN_MS) // DAY_MS, night.missed))
        covered, busy_until = night.as_of_ms, second + took_s
        schedule.ended(busy_until, took_s)
    return runs


def test_every_midnight_has_its_run_where_the_night_is_long_enough() -> None:
    #   day      10      11      12      13
    #   run      .       #       #       #
    schedule = Schedule(1, share_max=0.5, settle_s=20, needs_days=5)
    assert played(schedule, lambda s: 10.5 + s * MINUTE_DAYS, 180, took_s=20) == [(10, 0), (11, 0), (12, 0), (13, 0)]


def test_a_run_longer_than_its_share_of_the_night_leaves_nights_out_and_says_how_many() -> None:
    schedule = Schedule(1, share_max=0.25, settle_s=20, needs_days=5)
    runs = played(
        schedule, lambda s: 10.5 + s * MINUTE_DAYS, 600, took_s=40
    )  # 40 s of work, 120 s of rest, 60 s a night
    days = [number for number, _ in runs]
    assert [missed for _, missed in runs[1:]] == [b - a - 1 for a, b in pairwise(days)]
    assert len(runs) <= 600 * 0.25 / 40 + 1
    assert days[-1] >= 17


def test_nights_missed_while_nobody_was_there_are_caught_up_once() -> None:
    schedule = Schedule(1, 0.5, 0, 5)
    assert schedule.due(0, day(20.3), BEGIN_MS, day(15.9)) == Night(day(20), 4)
    assert schedule.due(1, day(20.4), BEGIN_MS, day(20)) is None
    assert schedule.due(2, day(21), BEGIN_MS, day(20)) == Night(day(21), 0)
    assert Night(day(20), 4).why == "stands for 4 missed nights too"


def test_a_history_at_full_speed_trains_nothing_until_it_has_slowed_down() -> None:
    schedule = Schedule(1, 0.5, settle_s=20, needs_days=5)
    runs = played(schedule, lambda s: min(60.2, s), 120, took_s=10)  # a day a second, then it stands at day 60
    assert runs == [(60, 0)]


def test_the_first_night_waits_for_enough_days_and_every_third_night_is_every_third_night() -> None:
    assert Schedule(1, 1, 0, needs_days=22).due(0, day(21.9), BEGIN_MS, None) is None
    assert Schedule(1, 1, 0, needs_days=22).due(0, day(22), BEGIN_MS, None) == Night(day(22), 0)
    third = Schedule(3, 1, 0, needs_days=5)
    due = [number for number in range(6, 16) if third.due(number, day(number), BEGIN_MS, day(number - 1)) is not None]
    assert [b - a for a, b in pairwise(due)] == [3, 3, 3]


def test_zero_days_is_no_schedule() -> None:
    assert Schedule(0, 1, 0, 5).due(0, day(50), BEGIN_MS, None) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRAIN_EVERY_DAYS", "-1"), ("TRAIN_SHARE_MAX", "0"), ("TRAIN_SHARE_MAX", "1.5"), ("TRAIN_NICENESS", "20")],
)
def test_an_impossible_setting_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"FRAUD_{name}", value)
    with pytest.raises(SystemExit) as ended:
        TrainerSettings.read()
    assert ended.value.code == 2
    assert f"FRAUD_{name}" in capsys.readouterr().err


def put(lake: Lake, partition: int, span: tuple[int, int], days: list[float], topic: str = "features") -> None:
    frame = pl.DataFrame({"occurred_at_ms": [day(d) for d in days]})
    lake.write_chunk(topic, partition, span, frame, {}, "abc")


def test_the_lakes_clock_is_that_of_the_partition_furthest_behind(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    clock = LakeClock(lake)
    assert clock.span_ms() is None
    put(lake, 0, (0, 2), [1, 3])
    put(lake, 1, (0, 2), [2, 2.5])
    assert clock.span_ms() == (day(1), day(2.5))
    put(lake, 1, (2, 3), [4])
    assert clock.span_ms() == (day(1), day(3))
    nothing = pl.DataFrame(schema={"occurred_at_ms": pl.Int64})
    lake.write_chunk("features", 0, (2, 4), nothing, {}, "abc")  # offsets whose rows are gone
    assert clock.span_ms() == (day(1), day(3))


def test_the_lake_has_the_log_when_every_partition_of_what_training_reads_is_there(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put(lake, 0, (0, 8), [1])
    put(lake, 0, (0, 20), [1], "labels")
    begins = {("features", 0): 0, ("labels", 0): 10, ("labels", 1): 0}
    assert archived_share(lake, {("features", 0): 8, ("labels", 0): 20, ("labels", 1): 0}, begins) == 1
    assert archived_share(lake, {("features", 0): 16, ("labels", 0): 20, ("labels", 1): 0}, begins) == 0.5
    assert archived_share(lake, {("features", 0): 8, ("labels", 0): 20, ("labels", 1): 3}, begins) == 0


class Recorded(TrainService):
    """Keeps what it is asked for, and runs nothing."""

    def __init__(self) -> None:
        self.requests: list[Retrain] = []
        self.is_idle = True

    @property
    def idle(self) -> bool:
        return self.is_idle

    def accept(self, request: Retrain) -> TrainingRun:
        self.requests.append(request)
        return None  # type: ignore[return-value]  # nobody looks at it


def test_a_night_asks_once_and_never_while_something_runs(tmp_path: Path) -> None:
    lake, service, now = Lake(tmp_path), Recorded(), [0.0]
    put(lake, 0, (0, 2), [0, 9.5])
    nights = Nights(Schedule(1, 1, 0, 5), LakeClock(lake), service, None, lambda: now[0])

    def look() -> list[str]:
        now[0] += LOOK_S
        nights.look()
        return [request.request_id for request in service.requests]

    service.is_idle = False
    assert look() == []
    service.is_idle = True
    assert look() == look() == [f"night-{day(9)}"]
    put(lake, 0, (2, 3), [12.5])
    assert look() == [f"night-{day(9)}", f"night-{day(12)}"]
    assert (service.requests[1].trigger, service.requests[1].why) == ("nightly", "stands for 2 missed nights too")
    put(lake, 0, (3, 4), [13.5])
    by_hand = TrainingRun(
        request_id="x", trigger="person", why="", as_of_ms=None, asked_at_ms=0, covers_ms=day(13.2), state="failed"
    )
    nights.ended(by_hand, 10)
    assert len(look()) == 2  # whoever asked, what is covered is covered


def test_what_the_history_covers_is_not_due_again_after_a_restart(tmp_path: Path) -> None:
    history = RunHistory(tmp_path / "runs.sqlite")
    assert covered_ms(history) is None
    for number, covers in enumerate((None, day(9), day(8))):
        history.add(
            TrainingRun(
                request_id=f"r{number}", trigger="nightly", why="", as_of_ms=None, asked_at_ms=0, covers_ms=covers
            )
        )
    assert covered_ms(history) == day(9)
