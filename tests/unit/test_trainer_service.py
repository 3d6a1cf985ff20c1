"""The training service: every request ends in a stated outcome.

Rule 1. Runs are real processes that print what a training prints; nothing sleeps, every wait has a deadline.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fraud.control import Retrain
from trainer.service import Progress, Run, TrainService, _pump, start_run

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


def asks(request_id: str) -> Retrain:
    return Retrain(request_id, sent_at_ms=1_700_000_000_000)


def runner(script: str) -> Callable[[Retrain], Run]:
    def start(request: Retrain) -> Run:
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        run = Run(request, process, 0.0)
        assert process.stdout is not None
        threading.Thread(target=_pump, args=(process.stdout, run.lines), daemon=True).start()
        return run

    return start


def until_idle(service: TrainService) -> None:
    deadline = time.monotonic() + 20
    service.step()
    while service.run is not None:
        assert time.monotonic() < deadline, "the run did not end"
        service.run.process.poll()
        service.step()


def outcome(script: str) -> tuple[str, str, str, str]:
    said = Said()
    service = TrainService(said, runner(script))
    service.accept(asks("r1"))
    until_idle(service)
    return said.lines[-1]


def test_a_run_is_told_from_queued_over_its_stages_to_promoted() -> None:
    said = Said()
    service = TrainService(said, runner(PROMOTED))
    service.accept(asks("r1"))
    until_idle(service)
    assert [(state, stage) for _, state, stage, _ in said.lines] == [
        ("queued", "queued"),
        ("running", "read"),
        ("running", "fit"),
        ("promoted", "promoted"),
    ]


@pytest.mark.parametrize(
    ("script", "stage", "words"),
    [
        (REFUSED, "refused", "no labels yet"),
        (CRASHED, "crashed", "signal 9 during `fit`"),
        (NOISY, "crashed", "no space left"),
    ],
)
def test_a_run_that_is_refused_killed_or_broken_is_failed_with_its_reason(script: str, stage: str, words: str) -> None:
    _, state, said_stage, detail = outcome(script)
    assert (state, said_stage) == ("failed", stage)
    assert words in detail


def test_a_second_request_waits_and_a_flood_is_refused() -> None:
    said = Said()
    service = TrainService(said, runner(WAITS))
    service.accept(asks("r0"))
    service.step()
    for i in range(1, 6):
        service.accept(asks(f"r{i}"))
    assert [line[:2] for line in said.lines] == [
        *[(f"r{i}", "queued") for i in range(5)],
        ("r5", "failed"),
    ]
    assert "ahead" in said.lines[1][3]
    service.stop()
    assert [line[:2] for line in said.lines[-5:]] == [(f"r{i}", "failed") for i in range(5)]
    assert service.run is None


def test_a_run_ends_with_the_service_that_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    run = start_run(Retrain("r1", 1_700_000_000_000, as_of_ms=1_700_000_000_000))
    assert run.process.stdin is not None
    run.process.stdin.close()  # what the kernel does when the service is killed
    code = run.process.wait(30)
    assert code in (3, 70), code  # refused before it noticed, or ended by the tether


def test_a_run_that_ends_by_itself_is_not_disturbed_by_its_tether(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    run = start_run(Retrain("r1", 1_700_000_000_000, as_of_ms=1_700_000_000_000))
    assert run.process.wait(30) == 3
