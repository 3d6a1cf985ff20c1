"""`python -m benchmarks.retrain [--rounds 3]`: latency of scoring before, during and after a retrain, and during a swap, in one run.

Rule 1. The load is the world itself, live through the whole stack; the phases take turns, so that what the machine does beside
        them falls on all alike. What counts is the ratio to the phases in which nothing is asked for.
Rule 2. Latency is from the broker's taking a transaction to its taking the score (both its own clock, to the millisecond).
Rule 3. A swap is a change of the champion by rollback: loading and checking in the scorer's child process are part of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from kafka import KafkaConsumer, TopicPartition

from adapters.backends.child import polled
from adapters.model_store import ModelStore
from adapters.ports import free_ports
from benchmarks.harness.result import machine
from cli.services import with_code_on_path
from cli.stack_state import StackFolder
from fraud import topics
from fraud.packed import SCORES, unpack

BAR: Final = 2.0
SETTLE_S: Final = 10.0
SWAP_S: Final = 8.0
WAIT_S: Final = 600.0
QUIET, RETRAIN, BATCH, SWAP = (
    "before, nothing asked for",
    "during a retrain",
    "batch path's training after it",
    "during a swap",
)
SETTINGS: Final = {"FRAUD_TRAIN_EVERY_DAYS": "0", "FRAUD_DRIFT_RETRAIN": "false", "FRAUD_PARITY_EVERY_S": "0"}


class BenchmarkFailedError(RuntimeError):
    """A command of the stack failed, or something did not happen in time; the message has its last words."""


@dataclass
class Bench:
    """A stack in a folder of its own, and when which phase was: [(name, from, to)], epoch seconds."""

    folder: Path
    cards: int
    environment: dict[str, str]
    phases: list[tuple[str, float, float]] = field(default_factory=list)

    def fraudstream(self, *arguments: str) -> str:
        """Run a command; what it printed. Raises BenchmarkFailedError."""
        done = self._run(arguments)
        if done.returncode:
            raise BenchmarkFailedError(f"fraudstream {' '.join(arguments)}: {(done.stdout + done.stderr)[-1500:]}")
        return done.stdout

    def retrain(self) -> None:
        """Ask for a training and wait until its version is promoted or rejected: both are a whole training."""
        done = self._run(("retrain", "--json"))
        lines = done.stdout.splitlines()
        if not lines or json.loads(lines[-1])["state"] not in ("promoted", "rejected"):
            raise BenchmarkFailedError(f"fraudstream retrain: {(done.stdout + done.stderr)[-1500:]}")

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note a phase."""
        begin_s = time.time()
        yield
        self.phases.append((name, begin_s, time.time()))
        print(
            f"  {name}: {self.phases[-1][2] - begin_s:.0f} s, load {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
            flush=True,
        )

    @contextmanager
    def live(self) -> Iterator[None]:
        """The world, live at a simulated day a minute."""
        with (self.folder / "live.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", "world", "stream", "--cards", str(self.cards), "--speed", "1440"],
                env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)

    def address(self, server: str) -> str:
        """Of Kafka or Redis."""
        state = StackFolder(self.folder).read()
        assert state is not None, "up() first"
        return state.servers[server].address

    def trains_batch_path(self) -> bool:
        """Whether the trainer's process has a training of the batch path beside it."""
        state = StackFolder(self.folder).read()
        assert state is not None, "up() first"
        process = state.services["trainer"].process
        if process is None:
            return False
        commands = [_command(child) for child in psutil.Process(process.pid).children(recursive=True)]
        return any("train" in command and "batch" in command for command in commands)


def _command(process: psutil.Process) -> list[str]:
    try:
        found: list[str] = process.cmdline()
        return found
    except psutil.Error:
        return []


def _until(condition: Callable[[], bool], what: str) -> None:
    if not any(condition() for _ in polled(WAIT_S, 0.2)):
        raise BenchmarkFailedError(f"not within {WAIT_S:.0f} s: {what}")


@contextmanager
def stack(folder: Path, cards: int) -> Iterator[Bench]:
    """A stack, up; ended at exit."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("FRAUD_") or name == "FRAUD_BACKEND"
    }
    api, console = free_ports(2)
    ports = {"FRAUD_API_PORT": str(api), "FRAUD_CONSOLE_PORT": str(console)}
    environment = {**with_code_on_path(clean), **SETTINGS, **ports, "FRAUD_STATE_DIR": str(folder)}
    bench = Bench(folder, cards, environment)
    try:
        bench.fraudstream("up")
        yield bench
    finally:
        bench.fraudstream("down")


def two_versions(bench: Bench, days: int) -> None:
    """A history and two versions to swap between, whatever the gate thinks of them."""
    bench.fraudstream(
        "world", "stream", "--cards", str(bench.cards), "--until-day", str(days), "--speed", "max", "--wait"
    )
    bench.retrain()
    first = ModelStore(bench.folder / "models").versions()[-1]
    bench.fraudstream(
        "world", "stream", "--cards", str(bench.cards), "--until-day", str(days + 1), "--speed", "max", "--wait"
    )
    bench.retrain()
    store = ModelStore(bench.folder / "models")
    second = next(
        v for v in reversed(store.versions()) if v != first and store.manifest(v).kind == store.manifest(first).kind
    )
    for version in (first, second):
        if store.champion() != version:
            bench.fraudstream("models", "promote", version, "--force", "--reason", "a benchmark of swaps")
    _until(lambda: not bench.trains_batch_path(), "the batch path's training")


def rounds(bench: Bench, count: int, quiet_s: float) -> None:
    """The phases, in turns."""
    store = ModelStore(bench.folder / "models")
    for number in range(count):
        print(f"round {number + 1} of {count}", file=sys.stderr)
        _wait(SETTLE_S)
        with bench.phase(QUIET):
            _wait(quiet_s)
        with bench.phase(RETRAIN):
            bench.retrain()
        with bench.phase(BATCH):
            _until(lambda: not bench.trains_batch_path(), "the batch path's training")
        _wait(SETTLE_S)
        for _ in range(2):
            with bench.phase(SWAP):
                store.rollback(reason="a benchmark of swaps")
                _wait(SWAP_S)


def _wait(seconds: float) -> None:
    time.sleep(seconds)  # the load runs meanwhile; nothing is waited for


def latencies(bootstrap: str, since: dict[TopicPartition, int]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """When the log took each transaction (epoch seconds), the latency of its score (seconds), and who decided."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    taken, latency, versions = [], [], []
    try:
        consumer.assign(list(since))
        for place, offset in since.items():
            consumer.seek(place, offset)
        ends = consumer.end_offsets(list(since))
        while any(consumer.position(place) < ends[place] for place in since):
            for record in [each for batch in consumer.poll(timeout_ms=1000).values() for each in batch]:
                batch = unpack(record.value, (SCORES,))
                taken.append(batch.array("ingested_at_ms") / 1e3)
                latency.append(record.timestamp / 1e3 - batch.array("ingested_at_ms") / 1e3)
                versions += [str(batch.meta["model_version"])] * batch.rows
    finally:
        consumer.close()
    return np.concatenate(taken), np.concatenate(latency), versions


def table(phases: list[tuple[str, float, float]], taken: np.ndarray, latency: np.ndarray) -> list[dict[str, Any]]:
    """Median and 99th percentile of each phase, all rounds together, and the ratio of the latter to the quiet phase's."""
    rows, quiet = [], 0.0
    for name in (QUIET, RETRAIN, BATCH, SWAP):
        mine = np.zeros(len(taken), np.bool_)
        for phase, begin_s, end_s in phases:
            mine |= (taken >= begin_s) & (taken < end_s) if phase == name else False
        if not mine.any():
            continue
        p50, p99 = (float(value) * 1e3 for value in np.quantile(latency[mine], [0.5, 0.99]))
        quiet = quiet or p99
        rows.append(
            {"phase": name, "transactions": int(mine.sum()), "p50_ms": p50, "p99_ms": p99, "ratio": p99 / quiet}
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the phases; default 3")
    parser.add_argument("--quiet-seconds", type=float, default=30, help="length of the phase before; default 30")
    parser.add_argument(
        "--cards", type=int, default=5000, help="cards of the world: 5000 are some 170 transactions a second"
    )
    parser.add_argument("--days", type=int, default=40, help="days of history that a retrain learns from; at least 30")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, stack(Path(name), arguments.cards) as bench:
        two_versions(bench, arguments.days)
        consumer = KafkaConsumer(bootstrap_servers=bench.address("kafka"))
        places = [
            TopicPartition(topics.SCORES.name, p) for p in consumer.partitions_for_topic(topics.SCORES.name) or ()
        ]
        since = dict(consumer.end_offsets(places))
        consumer.close()
        with bench.live():
            rounds(bench, arguments.rounds, arguments.quiet_seconds)
        taken, latency, versions = latencies(bench.address("kafka"), since)
    told = {
        "machine": machine(),
        "load": [round(load_before, 1), round(os.getloadavg()[0], 1)],
        "rate": round(len(taken) / float(taken.max() - taken.min()), 1),
        "swaps_seen": sum(a != b for a, b in itertools.pairwise(versions)),
        "bar": BAR,
        "phases": table(bench.phases, taken, latency),
    }
    print(json.dumps(told, indent=1) if arguments.json else as_text(told))


def as_text(told: dict[str, Any]) -> str:
    """For a terminal."""
    before, after = told["load"]
    lines = [
        f"{told['machine']}; load {before} before, {after} after",
        f"{told['rate']} transactions/s, {told['swaps_seen']} swaps seen in the scores; "
        f"bar: p99 at most {told['bar']:g} times that of before",
    ]
    for row in told["phases"]:
        times = f"p50 {row['p50_ms']:>6.0f} ms  p99 {row['p99_ms']:>6.0f} ms  {row['ratio']:.2f} times"
        lines.append(f"{row['phase']:<32}{row['transactions']:>8,} transactions  {times}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
