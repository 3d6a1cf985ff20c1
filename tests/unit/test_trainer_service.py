"""The training service: every request ends in a stated outcome, one run at a time, also after a kill.

Rule 1. Runs are real processes that print what a training prints; nothing sleeps, every wait has a deadline.
Rule 2. A kill of the service is a service that is thrown away: what it knew stands in the history, or is lost.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.run_history import RunHistory, TrainingRun, read_runs
from fraud.control import Retrain
from trainer.progress import Progress
from trainer.run_process import Run, listened_to, start_run
from trainer.service import TrainService

PROMOTED = """
import json
for stage in ("read", "fit", "promoted"):
    print(json.dumps({"stage": stage, "percent": 10, "detail": "about " + stage}), flush=True)
"""
REFUSED = 'print(\'{"stage": "refused", "percent": 100, "detail": "no labels yet"}\'); raise SystemExit(3)'
CRASHED = 'print(\'{"stage": "fit", "percent": 30, "detail": ""}\', flush=True); import os; os.kill(os.getpid(), 9)'
NOISY = 'raise RuntimeError("no space left")'
WAITS = "import sys; sys.stdin.read()"


class Said(Progress):
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, str]] = []

    def say(self, request_id: str, state: str, stage: str, percent: int, detail: str) -> None:
        self.lines.append((request_id, state, stage, detail))


def asks(request_id: str, as_of_ms: int | None = None) -> Retrain:
    return Retrain(request_id, 1_700_000_000_000, as_of_ms)


def runner(script: str) -> Callable[[Retrain], Run]:
    def start(request: Retrain) -> Run:
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return listened_to(Run(request, process, 0.0))

    return start


def service_on(folder: Path, script: str, **options: object) -> tuple[TrainService, Said]:
    said = Said()
    options = {"wall_ms": lambda: 5, **options}
    return TrainService(said, RunHistory(folder / "runs.sqlite"), runner(script), **options), said  # type: ignore[arg-type]


def runs_in(folder: Path) -> dict[str, TrainingRun]:
    return {run.request_id: run for run in read_runs(folder / "runs.sqlite", 100)}


def until_idle(service: TrainService) -> None:
    deadline = time.monotonic() + 90
    service.step()
    while not service.idle:
        assert time.monotonic() < deadline, "the run did not end"
        service.step()


def test_a_run_is_told_from_queued_over_its_stages_to_promoted_and_stands_in_the_history(tmp_path: Path) -> None:
    service, said = service_on(tmp_path, PROMOTED)
    service.accept(asks("r1"))
    until_idle(service)
    assert [(state, stage) for _, state, stage, _ in said.lines] == [
        ("queued", "queued"),
        ("running", "read"),
        ("running", "fit"),
        ("promoted", "promoted"),
    ]
    run = runs_in(tmp_path)["r1"]
    assert (run.state, run.percent, run.detail, run.trigger) == ("promoted", 100, "about promoted", "person")
    assert (run.asked_at_ms, run.started_at_ms, run.ended_at_ms) == (5, 5, 5)


@pytest.mark.parametrize(
    ("script", "stage", "words"),
    [
        (REFUSED, "refused", "no labels yet"),
        (CRASHED, "crashed", "signal 9 during `fit`"),
        (NOISY, "crashed", "no space left"),
    ],
)
def test_a_run_that_is_refused_killed_or_broken_is_failed_with_its_reason_and_the_next_one_runs(
    tmp_path: Path, script: str, stage: str, words: str
) -> None:
    service, said = service_on(tmp_path, script)
    service.accept(asks("r1", 1))
    service.accept(asks("r2", 2))
    until_idle(service)
    assert [line[0] for line in said.lines if line[1] == "failed"] == ["r1", "r2"]
    _, state, said_stage, detail = said.lines[-1]
    assert (state, said_stage) == ("failed", stage)
    assert words in detail
    assert words in runs_in(tmp_path)["r1"].detail


def test_a_second_request_for_the_same_moment_joins_and_ends_as_the_first(tmp_path: Path) -> None:
    service, said = service_on(tmp_path, PROMOTED)
    service.accept(asks("r1"))
    service.step()
    joined = service.accept(asks("r2"))
    assert (joined.state, joined.joined) == ("queued", "r1")
    until_idle(service)
    assert [line[0] for line in said.lines if line[1] == "promoted"] == ["r1", "r2"]
    assert runs_in(tmp_path)["r2"].detail == runs_in(tmp_path)["r1"].detail


def test_requests_for_other_moments_wait_and_a_flood_is_refused_with_the_reason(tmp_path: Path) -> None:
    service, said = service_on(tmp_path, WAITS)
    service.accept(asks("r0", 1))
    service.step()
    for i in range(1, 6):
        service.accept(asks(f"r{i}", 1 + i))
    assert [line[:2] for line in said.lines] == [*[(f"r{i}", "queued") for i in range(5)], ("r5", "failed")]
    assert "ahead" in said.lines[1][3]
    assert runs_in(tmp_path)["r5"].detail == "4 requests wait already: ask again later"
    service.stop()
    assert (said.lines[-1][:2], service.run) == (("r0", "failed"), None)
    assert [runs_in(tmp_path)[f"r{i}"].state for i in range(1, 5)] == ["queued"] * 4


def test_the_same_request_again_is_the_same_request(tmp_path: Path) -> None:
    service, said = service_on(tmp_path, PROMOTED)
    for _ in range(2):
        service.accept(asks("r1"))
    until_idle(service)
    assert service.accept(asks("r1")).state == "promoted"
    assert [line[1] for line in said.lines].count("queued") == 1
    assert service.idle


def test_after_a_kill_the_run_is_marked_interrupted_and_what_waited_goes_on(tmp_path: Path) -> None:
    killed, _ = service_on(tmp_path, WAITS)
    killed.accept(asks("r1", 1))
    killed.step()
    killed.accept(asks("r1-joined", 1))
    killed.accept(asks("r2", 2))
    killed.accept(asks("r2-joined", 2))
    assert killed.run is not None
    killed.run.process.kill()
    killed.run.process.wait()
    after, said = service_on(tmp_path, PROMOTED)
    after.recover()
    assert [line[:3] for line in said.lines] == [
        ("r1", "failed", "interrupted"),
        ("r1-joined", "failed", "interrupted"),
    ]
    until_idle(after)
    states = {request_id: run.state for request_id, run in runs_in(tmp_path).items()}
    assert states == {"r1": "failed", "r1-joined": "failed", "r2": "promoted", "r2-joined": "promoted"}
    again, said = service_on(tmp_path, PROMOTED)
    again.recover()
    assert said.lines == []  # nothing is closed twice


def test_a_run_waits_until_the_lake_has_what_the_log_had_and_says_so(tmp_path: Path) -> None:
    now, shares = [0.0], [0.25, 0.5, 1.0]

    def mark() -> Callable[[], float | None]:
        return lambda: shares.pop(0)

    service, said = service_on(tmp_path, PROMOTED, clock=lambda: now[0], archive_mark=mark, archive_wait_s=60)
    service.accept(asks("r1"))
    for _ in range(4):
        service.step()
        now[0] += 1
    until_idle(service)
    archived = [line[3] for line in said.lines if line[2] == "archive"]
    assert archived == ["the lake has 25% of what the log has", "the lake has 50% of what the log has"]
    assert runs_in(tmp_path)["r1"].detail == "about promoted"


@pytest.mark.parametrize(("share", "note"), [(0.5, "had 50% of the log"), (None, "could not be asked")])
def test_a_lake_that_stays_behind_does_not_stop_the_run_but_stands_in_its_reason(
    tmp_path: Path, share: float | None, note: str
) -> None:
    now = [0.0]
    service, _ = service_on(
        tmp_path, PROMOTED, clock=lambda: now[0], archive_mark=lambda: lambda: share, archive_wait_s=10
    )
    service.accept(asks("r1"))
    service.step()
    now[0] += 11
    until_idle(service)
    run = runs_in(tmp_path)["r1"]
    assert run.state == "promoted"
    assert note in run.detail


def test_a_run_ends_with_the_service_that_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    run = start_run(Retrain("r1", 1_700_000_000_000, as_of_ms=1_700_000_000_000))
    assert run.process.stdin is not None
    run.process.stdin.close()  # what the kernel does when the service is killed
    code = run.process.wait(90)
    assert code in (3, 70), code  # refused before it noticed, or ended by the tether


def test_a_run_that_ends_by_itself_is_not_disturbed_by_its_tether(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    run = start_run(Retrain("r1", 1_700_000_000_000, as_of_ms=1_700_000_000_000))
    assert run.process.wait(90) == 3
