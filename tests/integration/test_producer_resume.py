"""The Handbook world streamed with stops and kills: every transaction and label once, in order, without a hole.

Rule 1. The moments of the kills are drawn from a stated seed, by how much was written, never by time.
"""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import polars as pl
import pytest

from adapters.backends import Server
from fraud.windows import DAY_MS
from producer import handbook as simulator
from tests.integration.producer_runs import Log, end, environment, run, start, until

DAYS = 9
SEED = 20


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short world under the name of the whole one: generating that takes longer than all the rest."""
    path = tmp_path_factory.mktemp("worlds") / f"handbook-0-{simulator.DAYS}.parquet"
    simulator.world(days=DAYS).write_parquet(path)
    return path


@pytest.fixture
def state(tmp_path: Path, world: Path) -> Path:
    folder = tmp_path / "state" / "worlds"
    folder.mkdir(parents=True)
    (folder / world.name).write_bytes(world.read_bytes())
    return folder.parent


def ids(log: Log) -> list[str]:
    return [message["transaction_id"] for message in log.read()]


def test_kills_and_stops_neither_lose_nor_double_a_transaction_or_a_label(
    fresh_kafka: Server, state: Path, world: Path, tmp_path: Path
):
    env = environment(fresh_kafka.address, state)
    transactions, labels = Log(fresh_kafka.address, "transactions"), Log(fresh_kafka.address, "labels")
    rows = pl.read_parquet(world)
    generator = random.Random(SEED)
    interrupted = 0
    for number, speed in (("KILL", "max"), ("TERM", "max"), ("KILL", "200000"), ("TERM", "200000"), ("KILL", "max")):
        goal = transactions.grown() + generator.randrange(500, 12_000)
        process = start("producer", ["handbook", "--speed", speed], env, tmp_path / "producer.log")
        until(lambda goal=goal, p=process: transactions.grown() >= goal or p.poll() is not None, f"{goal} transactions")
        code = end(process, signal.Signals[f"SIG{number}"])
        interrupted += transactions.grown() < rows.height
        assert code == (-signal.SIGKILL if number == "KILL" else 0), (tmp_path / "producer.log").read_text()
    assert interrupted >= 3
    done = run(["handbook", "--speed", "max", "--json"], env)
    assert done.returncode == 0, done.stderr
    due = rows.filter(pl.col("occurred_at_ms") + 7 * DAY_MS <= rows["occurred_at_ms"].max())
    assert ids(transactions) == rows["transaction_id"].to_list()
    assert ids(labels) == due["transaction_id"].to_list()

    (state / "producer.json").unlink()
    again = run(["handbook", "--speed", "max", "--json"], env)
    assert json.loads(again.stdout)["sent"] == json.loads(again.stdout)["labels_sent"] == 0


def test_a_position_of_another_log_is_not_believed(fresh_kafka: Server, state: Path):
    (state / "producer.json").write_text('{"worlds": {"handbook-0": {"rows": 5000, "labels": 0}}}')
    transactions = Log(fresh_kafka.address, "transactions")
    done = run(["handbook", "--until-day", "1", "--speed", "max", "--json"], environment(fresh_kafka.address, state))
    assert done.returncode == 0, done.stderr
    assert ids(transactions)[:3] == ["h0-0", "h0-1", "h0-2"]


def test_a_history_and_then_the_next_days_join_without_a_seam(fresh_kafka: Server, state: Path, world: Path):
    env = environment(fresh_kafka.address, state)
    transactions = Log(fresh_kafka.address, "transactions")
    for arguments in (["--until-day", "1", "--speed", "max"], ["--until", "2018-04-02T01:00:00", "--speed", "36000"]):
        done = run(["handbook", "--json", *arguments], env)
        assert done.returncode == 0, done.stderr
    rows = pl.read_parquet(world).filter(pl.col("occurred_at_ms") < simulator.BEGIN_MS + 25 * DAY_MS // 24)
    assert ids(transactions) == rows["transaction_id"].to_list()


def test_a_damaged_position_file_is_named_with_the_remedy(fresh_kafka: Server, state: Path):
    (state / "producer.json").write_text("{")
    done = run(["handbook", "--speed", "max"], environment(fresh_kafka.address, state))
    assert done.returncode == 2
    assert "producer.json is not a position file" in done.stderr
    assert "remove it" in done.stderr
