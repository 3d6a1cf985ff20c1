"""The trainer as a process on a real broker: three simulated nights in quick succession, killed in the middle of the second.

Rule 1. The lake is made by hand and grows by whole days; what the trainer knows of time it has from there.
Rule 2. Every wait has a deadline; the history and the registry are read as anyone reads them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from kafka import KafkaProducer

from adapters.lake import Lake
from adapters.model_store import ModelStore
from adapters.ports import free_ports
from adapters.run_history import TrainingRun, read_runs
from fraud import topics
from fraud.control import Retrain
from fraud.features import FEATURE_HASH, NAMES
from fraud.windows import DAY_MS
from tests.unit.labelled_lake import BEGIN_MS, table

WAIT_S = 240.0


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {what()}"
        time.sleep(0.05)


def night_id(day: int) -> str:
    return f"night-{BEGIN_MS + day * DAY_MS}"


class Trainer:
    """`python -m trainer serve` on a lake that the test lets grow."""

    def __init__(self, bootstrap: str, redis_url: str, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self._rows = table()
        self._lake = Lake(folder / "lake")
        self._days = 0
        self._environment = {
            **os.environ,
            "FRAUD_KAFKA_BOOTSTRAP": bootstrap,
            "FRAUD_REDIS_URL": redis_url,
            "FRAUD_STATE_DIR": str(folder),
            "FRAUD_METRICS_PORT": str(self.port),
            "FRAUD_TRAIN_SETTLE_S": "0",
            "FRAUD_TRAIN_SHARE_MAX": "1",
            "FRAUD_TRAIN_ARCHIVE_WAIT_S": "0",
            "FRAUD_TRAIN_NICENESS": "0",  # the test waits for it, and the machine may be busy
            "OMP_NUM_THREADS": "1",
        }

    def lake_reaches(self, day: float) -> None:
        """Let the lake have all vectors before a day, and the labels that are known by then."""
        until_ms = BEGIN_MS + round(day * DAY_MS)
        begun, ended = BEGIN_MS + self._days * DAY_MS, until_ms
        new = self._rows.filter(pl.col("occurred_at_ms").is_between(begun, ended, closed="left"))
        known = self._rows.filter(pl.col("known_at_ms").is_between(begun, ended, closed="left"))
        span = (self._days, int(day) + 1)
        self._lake.write_chunk(
            "labels",
            0,
            span,
            known.select("transaction_id", "card_id", "is_fraud", "known_at_ms", refused=pl.lit(None, pl.String)),
            {},
        )
        vectors = new.select("transaction_id", "card_id", "occurred_at_ms", *NAMES)
        self._lake.write_chunk("features", 0, span, vectors, {}, FEATURE_HASH)
        self._days = int(day) + 1

    def start(self) -> None:
        with (self.folder / "trainer.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainer", "serve"], env=self._environment, stdout=log, stderr=log
            )

    def runs(self) -> dict[str, TrainingRun]:
        return {run.request_id: run for run in read_runs(self.folder / "trainer" / "runs.sqlite", 100)}

    def await_run(self, request_id: str, good: Callable[[TrainingRun], bool]) -> TrainingRun:
        """Wait until a run is as wanted; the process must live meanwhile."""

        def is_good() -> bool:
            assert self.process.poll() is None, self.log()
            return request_id in self.runs() and good(self.runs()[request_id])

        until(is_good, lambda: f"{request_id}: {self.runs()}\n{self.log()}")
        return self.runs()[request_id]

    def log(self) -> str:
        return (self.folder / "trainer.log").read_text()[-3000:]


@pytest.mark.timeout(900)
def test_three_nights_one_of_them_killed_are_trained_marked_and_caught_up(
    kafka_bootstrap: str, redis_url: str, tmp_path: Path
) -> None:
    trainer = Trainer(kafka_bootstrap, redis_url, tmp_path)
    trainer.lake_reaches(34.5)
    trainer.start()
    try:
        first = trainer.await_run(night_id(34), lambda run: run.state in ("promoted", "rejected", "failed"))
        assert first.state == "promoted", first
        store = ModelStore(tmp_path / "models")
        champion = store.champion()
        assert champion is not None
        assert store.changes()[-1].by == "gate"

        trainer.lake_reaches(35.5)
        trainer.await_run(night_id(35), lambda run: run.state == "running" and run.stage not in ("queued", "archive"))
        trainer.process.send_signal(signal.SIGKILL)
        trainer.process.wait()
        trainer.lake_reaches(38.5)
        trainer.start()
        caught_up = trainer.await_run(night_id(38), lambda run: run.state in ("promoted", "rejected", "failed"))
        killed = trainer.runs()[night_id(35)]
        assert (killed.state, killed.stage) == ("failed", "interrupted")
        assert "was killed" in killed.detail
        assert caught_up.state in ("promoted", "rejected"), caught_up
        assert caught_up.why == "stands for 2 missed nights too"
        assert set(trainer.runs()) >= {night_id(34), night_id(35), night_id(38)}
        assert night_id(36) not in trainer.runs()

        with urllib.request.urlopen(f"http://127.0.0.1:{trainer.port}/runs", timeout=60) as response:
            told = json.load(response)["runs"]
        assert told[0]["request_id"] == max(trainer.runs(), key=lambda name: trainer.runs()[name].asked_at_ms)
        _a_person_may_ask_beside_the_nights(trainer, kafka_bootstrap)
    finally:
        trainer.process.terminate()
        trainer.process.wait(60)


def _a_person_may_ask_beside_the_nights(trainer: Trainer, bootstrap: str) -> None:
    """A request through `control` for a moment that is too early ends with the reason, and blocks nothing."""
    request = Retrain(f"test-{os.getpid()}", int(time.time() * 1000), BEGIN_MS + 10 * DAY_MS)
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(topics.CONTROL.name, request.to_json()).get(timeout=60)
    producer.close()
    refused = trainer.await_run(request.request_id, lambda run: run.state == "failed")
    assert refused.stage == "refused"
    assert "refused to train" in refused.detail
