"""The world's command, killed for real: what stands in the log is the plan, each message once.

Rule 1. The moments of the kills are drawn from a stated seed, by how much was written, never by time.
Rule 2. Two producers share one clock: the second joins it and catches up.
"""

from __future__ import annotations

import random
import signal
from pathlib import Path

import polars as pl

from adapters.backends import Server
from producer.world_commands import world_plan
from tests.integration.producer_runs import Log, end, environment, run, start, until

CARDS, DAYS, SEED = 300, 30, 4
END_MS_PLAN = 1_735_689_600_000 + DAYS * 86_400_000
STREAM = ["world", "stream", "--cards", str(CARDS), "--until-day", str(DAYS)]


def ids(log: Log) -> list[str]:
    return [message["transaction_id"] for message in log.read()]


def test_a_killed_producer_goes_on_without_a_gap_or_a_repeat(fresh_kafka: Server, tmp_path: Path) -> None:
    env = environment(fresh_kafka.address, tmp_path / "state")
    logs = {name: Log(fresh_kafka.address, name) for name in ("transactions", "labels", "truth")}
    planned = pl.concat(world_plan(0, CARDS).pieces(-1, END_MS_PLAN))
    generator = random.Random(SEED)
    interrupted = 0
    for number, speed in (("KILL", "max"), ("KILL", "1440"), ("TERM", "1440"), ("KILL", "max")):
        before = logs["transactions"].grown()
        goal = before + generator.randrange(2, planned.height // 6 if speed == "max" else 60)
        process = start("producer", [*STREAM, "--speed", speed], env, tmp_path / "producer.log")
        until(
            lambda goal=goal, p=process: logs["transactions"].grown() >= goal or p.poll() is not None,
            f"{goal} transactions",
        )
        end(process, signal.Signals[f"SIG{number}"])
        interrupted += before < logs["transactions"].grown() < planned.height
    assert interrupted >= 2, (tmp_path / "producer.log").read_text()
    done = run([*STREAM, "--speed", "max", "--json"], env)
    assert done.returncode == 0, done.stderr
    assert ids(logs["transactions"]) == planned["transaction_id"].to_list()
    frauds = planned.filter((pl.col("scenario") != "") & ~pl.col("is_copy"))["transaction_id"]
    assert sorted(ids(logs["truth"])) == sorted(frauds)
    assert len(ids(logs["labels"])) == len(set(ids(logs["labels"]))) > 0
    again = run([*STREAM, "--speed", "max", "--json"], env)
    assert '"sent": 0' in again.stdout, again.stdout


def test_a_producer_that_follows_joins_the_clock_and_catches_up(fresh_kafka: Server, tmp_path: Path) -> None:
    env = environment(fresh_kafka.address, tmp_path / "state")
    transactions = Log(fresh_kafka.address, "transactions")
    nobody = run([*STREAM, "--share", "2/2", "--follow"], env)
    assert nobody.returncode == 2 and "start one without --follow first" in nobody.stderr
    leader = start("producer", [*STREAM, "--share", "1/2"], env, tmp_path / "leader.log")
    try:
        until(lambda: transactions.grown() >= 20, "the leader's transactions")
        follower = start("producer", [*STREAM, "--share", "2/2", "--follow"], env, tmp_path / "follower.log")
        try:

            def both() -> bool:
                numbers = [int(message["card_id"][1:]) for message in transactions.read()]
                return sum(number % 2 == 0 for number in numbers) > 30 and sum(number % 2 for number in numbers) > 30

            until(both, "transactions of both shares")
        finally:
            assert end(follower) == 0, (tmp_path / "follower.log").read_text()
    finally:
        assert end(leader) == 0, (tmp_path / "leader.log").read_text()
    found = transactions.read()
    assert len({message["transaction_id"] for message in found}) == len(found)
    newest = {
        parity: max(m["occurred_at_ms"] for m in found if int(m["card_id"][1:]) % 2 == parity) for parity in (0, 1)
    }
    assert abs(newest[0] - newest[1]) < 6 * 3_600_000, (
        "both are at the same event time, give or take a quarter of a minute"
    )
