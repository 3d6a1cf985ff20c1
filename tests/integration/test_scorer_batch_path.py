"""The batch path as processes: the nightly command publishes to a real Redis, the scorer joins, and Redis may be absent.

Rule 1. The log is the session's; each test counts from the ends that it found (see test_scorer_process.Stage).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.backends import Server
from adapters.model_store import ModelStore
from adapters.snapshot_store import Entities, SnapshotStore, connect
from fraud.batch_features import CARD_COLUMNS, TERMINAL_COLUMNS, midnight_before
from tests.integration.test_scorer_process import WAIT_S, Stage, until
from tests.unit.test_scorer_batch_path import publish_batch
from tests.unit.test_trainer_batch_path import lake_of

AT_MS = 1_530_000_000_000  # of packed_rows
STOP_S = 30


@pytest.fixture
def stage(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(kafka_bootstrap, tmp_path)
    yield made
    made.producer.close()
    made.reader.close()


def snapshot_command(folder: Path, redis_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FRAUD_STATE_DIR": str(folder), "FRAUD_REDIS_URL": redis_url}
    command = [sys.executable, "-m", "trainer", "snapshot", *arguments]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=200)


def metas(stage: Stage, rows: int) -> list[dict[str, Any]]:
    """The metas of the records that hold so many rows, once they are there."""
    until(lambda: sum(batch.rows for _, batch in stage.read().scores) >= rows, f"{rows} rows are scored")
    return [dict(batch.meta) for _, batch in stage.scores]


def rows_until(stage: Stage, sent: int, wanted: Callable[[dict[str, Any]], bool]) -> int:
    """Send records until the newest score is as wanted; return how many rows were sent in all."""
    deadline = time.monotonic() + WAIT_S
    while True:
        stage.send(range(sent, sent + 10))
        sent += 10
        if wanted(metas(stage, sent)[-1]):
            return sent
        assert time.monotonic() < deadline, metas(stage, sent)[-1]


def test_the_nightly_command_publishes_and_the_scorer_joins_the_right_night(stage: Stage, fresh_redis: Server) -> None:
    lake_of(stage.folder)
    done = snapshot_command(stage.folder, fresh_redis.address, "--as-of", "latest", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    store = SnapshotStore(connect(fresh_redis.address, 5))
    (published,) = store.published()
    assert (told["cards"], told["terminals"]) == (published.cards, published.terminals)
    assert told["date"] == str(np.datetime64(published.midnight_ms, "ms").astype("datetime64[D]"))

    version = publish_batch(stage.models)
    ModelStore(stage.models).promote(version)
    scorer = stage.start(FRAUD_REDIS_URL=fresh_redis.address)
    try:
        stage.send(range(30))
        assert {(m["batch_version"], m["snapshot_date"]) for m in metas(stage, 30)} == {("batch-rules", None)}, "stale"
        night_ms = midnight_before(AT_MS)
        cards = Entities([f"c{i}" for i in range(7)], np.ones((7, len(CARD_COLUMNS)), np.float32))
        store.publish(night_ms, cards, Entities(["m1"], np.ones((1, len(TERMINAL_COLUMNS)), np.float32)))
        sent = rows_until(stage, 30, lambda meta: meta["batch_version"] == version)
        assert stage.scores[-1][1].meta["snapshot_date"] == "2018-06-26"
        fresh_redis.stop()
        sent = rows_until(stage, sent, lambda meta: meta["snapshot_date"] is None)
        assert stage.scores[-1][1].meta["batch_version"] == "batch-rules", "away"
        until(lambda: len(stage.scored()) == sent, "the streaming path goes on")
    finally:
        scorer.terminate()
        scorer.wait(STOP_S)


def test_a_night_that_cannot_be_made_is_refused_with_the_reason(tmp_path: Path, redis_url: str) -> None:
    done = snapshot_command(tmp_path, redis_url)
    assert (done.returncode, "no transaction yet" in done.stderr) == (3, True), done.stderr
    lake_of(tmp_path)
    done = snapshot_command(tmp_path, redis_url, "--as-of", "2019-01-01")
    assert (done.returncode, "has not passed 2019-01-01 yet" in done.stderr) == (3, True), done.stderr
    done = snapshot_command(tmp_path, redis_url, "--as-of", "tomorrow")
    assert (done.returncode, "is no time" in done.stderr) == (2, True), done.stderr
    done = snapshot_command(tmp_path, "redis://127.0.0.1:1/0")
    assert (done.returncode, "Redis at redis://127.0.0.1:1/0" in done.stderr) == (70, True), done.stderr
