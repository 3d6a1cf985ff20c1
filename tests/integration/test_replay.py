"""`python -m producer replay` on a real broker: what is written, what is refused, and what a wait ends with.

Rule 1. Every test counts from the ends that it found.
"""

from __future__ import annotations

import bisect
import json
from pathlib import Path

import polars as pl
import pytest

from adapters.backends import Server
from fraud.windows import DAY_MS, HOUR_MS
from tests.integration.producer_runs import Log, end, environment, run, start

BEGIN_MS = 1_522_540_800_000
ROWS = 3000


def world(rows: int = ROWS, prefix: str = "x") -> pl.DataFrame:
    """Ten days of transactions on few cards and terminals, every 97th a fraud."""
    return pl.DataFrame(
        {
            "transaction_id": [f"{prefix}{i}" for i in range(rows)],
            "card_id": [f"c{i % 41}" for i in range(rows)],
            "terminal_id": [f"t{i % 29}" for i in range(rows)],
            "amount_minor": [100 + i % 5000 for i in range(rows)],
            "occurred_at_ms": [BEGIN_MS + i * (10 * DAY_MS // rows) for i in range(rows)],
            "is_fraud": [i % 97 == 0 for i in range(rows)],
        }
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "world.parquet"
    world().write_parquet(path)
    return path


def test_a_file_is_sent_in_order_with_each_label_seven_days_later(kafka_bootstrap: str, tmp_path: Path, file: Path):
    transactions, labels = Log(kafka_bootstrap, "transactions"), Log(kafka_bootstrap, "labels")
    done = run(["replay", str(file), "--no-wait", "--json"], environment(kafka_bootstrap, tmp_path))
    assert done.returncode == 0, done.stderr
    sent, known = transactions.read(), labels.read()
    rows = world()
    due = rows.filter(pl.col("occurred_at_ms") + 7 * DAY_MS <= rows["occurred_at_ms"].max())
    assert [m["transaction_id"] for m in sent] == rows["transaction_id"].to_list()
    assert [m["sent_at_ms"] for m in sent] == rows["occurred_at_ms"].to_list()
    assert [m["transaction_id"] for m in known] == due["transaction_id"].to_list()
    assert [m["known_at_ms"] for m in known] == (due["occurred_at_ms"] + 7 * DAY_MS).to_list()
    assert [m["is_fraud"] for m in known] == due["is_fraud"].to_list()
    summary = json.loads(done.stdout)
    assert (summary["sent"], summary["labels_sent"]) == (ROWS, due.height)


def test_rows_until_and_no_labels_say_what_of_the_file_is_sent(kafka_bootstrap: str, tmp_path: Path, file: Path):
    env = environment(kafka_bootstrap, tmp_path)
    cases = [
        (["--rows", "500"], 500, 0),
        (["--until", "2018-04-09", "--no-labels"], 2400, 0),
        (["--until", str(BEGIN_MS + DAY_MS)], 300, 0),
        (["--rows", "300", "--label-delay-days", "0.25"], 300, 225),
    ]
    for arguments, rows, labels in cases:
        done = run(["replay", str(file), "--no-wait", "--json", *arguments], env)
        summary = json.loads(done.stdout)
        assert (summary["sent"], summary["labels_sent"]) == (rows, labels), arguments


def test_a_paced_replay_sends_the_same_messages_in_the_clocks_time(kafka_bootstrap: str, tmp_path: Path, file: Path):
    transactions, labels = Log(kafka_bootstrap, "transactions"), Log(kafka_bootstrap, "labels")
    ten_days_in_three_seconds = str(10 * DAY_MS / 3000)
    arguments = ["replay", str(file), "--no-wait", "--json", "--speed", ten_days_in_three_seconds]
    done = run(arguments, environment(kafka_bootstrap, tmp_path))
    assert done.returncode == 0, done.stderr
    sent, known = transactions.read(), labels.read()
    assert [m["transaction_id"] for m in sent] == world()["transaction_id"].to_list()
    assert [m["transaction_id"] for m in known] == world()["transaction_id"].to_list()[: len(known)]
    assert len(known) == 900
    assert all(m["sent_at_ms"] >= m["occurred_at_ms"] for m in sent)
    assert all(m["sent_at_ms"] >= m["known_at_ms"] for m in known)


def changed(column: str, row: int, value: int | None) -> dict[str, pl.Expr]:
    """`column` with another value in one row (the first is 1)."""
    return {column: pl.when(pl.col("transaction_id") == f"x{row - 1}").then(value).otherwise(pl.col(column))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("amount_minor", 2000, -1), "column amount_minor, row 2000 "),
        (changed("card_id", 8, None), "column card_id, row 8 "),
        ({"occurred_at_ms": pl.col("occurred_at_ms").cast(pl.Float64)}, "column occurred_at_ms, row 1: it has type"),
    ],
)
def test_of_a_bad_file_nothing_is_sent(kafka_bootstrap: str, tmp_path: Path, change: dict, message: str):
    path = tmp_path / "bad.parquet"
    world().with_columns(**change).write_parquet(path)
    transactions = Log(kafka_bootstrap, "transactions")
    done = run(["replay", str(path)], environment(kafka_bootstrap, tmp_path))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Nothing was sent" in done.stderr
    assert transactions.grown() == 0


@pytest.mark.parametrize("arguments", [["--speed", "0"], ["--speed", "fast"], ["--until", "tomorrow"], ["--rows", "0"]])
def test_an_impossible_argument_is_refused_by_name(
    kafka_bootstrap: str, tmp_path: Path, file: Path, arguments: list[str]
):
    done = run(["replay", str(file), *arguments], environment(kafka_bootstrap, tmp_path))
    assert done.returncode == 2
    assert arguments[0] in done.stderr


def test_without_a_worker_a_wait_ends_and_names_the_card_stage(
    kafka_bootstrap: str, redis_url: str, tmp_path: Path, file: Path
):
    env = environment(kafka_bootstrap, tmp_path, FRAUD_REDIS_URL=redis_url, FRAUD_STALL_SECONDS_MAX="2")
    done = run(["replay", str(file), "--rows", "10"], env)
    assert done.returncode == 1
    assert "no progress for 2 s with the fate of 10 of 10 transactions unknown; the card stage lags" in done.stderr


def test_other_partitions_than_the_settings_say_are_refused_with_the_remedy(
    kafka_bootstrap: str, tmp_path: Path, file: Path
):
    env = environment(kafka_bootstrap, tmp_path, FRAUD_PARTITIONS="4")
    done = run(["replay", str(file), "--no-wait"], env)
    assert done.returncode == 2
    assert "topic transactions has 1 partitions, FRAUD_PARTITIONS says 4: set it to 1" in done.stderr


def test_everything_sent_is_scored_dead_lettered_or_ignored_as_a_duplicate(
    fresh_kafka: Server, fresh_redis: Server, tmp_path: Path
):
    """One file with repeated ids (ignored) and with rows further behind than the longest window (dead letters)."""
    good = world()
    repeated = good.slice(1000, 300)
    too_late = world(prefix="late").head(5).with_columns(pl.col("occurred_at_ms") - 30 * DAY_MS)
    path = tmp_path / "mixed.parquet"
    pl.concat([good.head(2000), repeated, too_late, good.tail(1000)]).write_parquet(path)
    env = environment(fresh_kafka.address, tmp_path, FRAUD_REDIS_URL=fresh_redis.address)
    workers = [start(name, [], env, tmp_path / f"{name}.log") for name in ("stream_features", "scorer")]
    try:
        done = run(["replay", str(path), "--json"], env)
    finally:
        for worker in workers:
            end(worker)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["sent"] == ROWS + 305
    assert summary["scored"] == ROWS
    assert summary["dead_lettered"] == 5
    assert summary["duplicates_ignored"] == 300
    assert summary["scored_twice"] == 0


def test_a_label_is_never_early_and_at_most_a_chunk_late(kafka_bootstrap: str, tmp_path: Path, file: Path):
    transactions, labels = Log(kafka_bootstrap, "transactions"), Log(kafka_bootstrap, "labels")
    done = run(["replay", str(file), "--no-wait", "--label-delay-days", "1"], environment(kafka_bootstrap, tmp_path))
    assert done.returncode == 0, done.stderr
    sent = transactions.read()
    times = [m["occurred_at_ms"] for m in sent]
    for label in labels.read():
        before = bisect.bisect_left(times, label["known_at_ms"])  # transactions before the label's moment
        a_chunk_later = bisect.bisect_left(times, label["known_at_ms"] + HOUR_MS)
        assert sent[before - 1]["appended_at_ms"] <= label["appended_at_ms"]
        if a_chunk_later < len(sent):
            assert label["appended_at_ms"] <= sent[a_chunk_later]["appended_at_ms"]
