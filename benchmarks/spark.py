"""`python -m benchmarks.spark [--days N] [--tasks N] [--rounds N] [--vectors-only]`: the trainer, local and by Spark, on one lake.

Rule 1. Both run the trainer's own command in a process of its own, on the same logs, in turns; the quickest round of each counts.
Rule 2. CPU and memory are those of the command and all its descendants (the JVM, Spark's Python workers), sampled; CPU survives
        a busy machine better than time does.
Rule 3. Making the lake is not in the numbers; starting Spark is, and stands beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl
import psutil

from adapters.lake import Lake
from benchmarks.harness.result import machine
from cli.services import with_code_on_path
from fraud import topics
from fraud.windows import DAY_MS
from producer import handbook
from trainer.replay import slice_numbers

PARTITIONS: Final = 2
LABEL_DELAY_MS: Final = 7 * DAY_MS
FILE_ROWS: Final = 200_000
TRAIN_S_MAX: Final = 3_000
SAMPLE_S: Final = 0.1
_STAGES: Final = {"spark": "start", "read": "vectors and labels", "join": "checks", "fit": "fit", "evaluate": "evaluate",
                  "fit-final": "final fit", "publish": "publish"}  # fmt: skip
_ABSENT: Final = {"merchant_id": pl.String, "device_id": pl.String, "country": pl.String, "latitude_cdeg": pl.Int64,
                  "longitude_cdeg": pl.Int64, "refused": pl.String}  # fmt: skip


def write_logs(lake: Lake, world: pl.DataFrame) -> None:
    """Topics transactions, labels and terminal-log of PARTITIONS partitions, as far as training reads them."""
    sent = world.with_columns(
        origin_partition=slice_numbers(world["card_id"], PARTITIONS),
        terminal_partition=slice_numbers(world["terminal_id"], PARTITIONS),
        known_at_ms=pl.col("occurred_at_ms") + LABEL_DELAY_MS,
    ).with_columns(origin_offset=pl.int_range(pl.len()).over("origin_partition"))
    nothing = [pl.lit(None, dtype).alias(name) for name, dtype in _ABSENT.items()]
    last_ms = int(world["occurred_at_ms"].max())  # type: ignore[arg-type]
    at = ["terminal_partition", "terminal_id", "transaction_id", "occurred_at_ms"]
    log = pl.concat(
        [
            sent.select(
                *at, "amount_minor", "origin_partition", "origin_offset",
                origin_topic=pl.lit("transactions"), is_fraud=pl.lit(0, pl.UInt8), at_ms="occurred_at_ms", kind=1,
            ),
            sent.filter(pl.col("known_at_ms") <= last_ms).select(
                *at, pl.lit(None, pl.Int64).alias("amount_minor"), pl.lit(0, pl.Int32).alias("origin_partition"),
                pl.lit(0, pl.Int64).alias("origin_offset"), origin_topic=pl.lit("labels"),
                is_fraud=pl.col("is_fraud").cast(pl.UInt8), at_ms="known_at_ms", kind=0,
            ),
        ]
    ).sort("at_ms", "kind", maintain_order=True)  # fmt: skip
    labels = sent.select(
        "transaction_id", "card_id", "terminal_id", "occurred_at_ms", "is_fraud", "known_at_ms", "terminal_partition",
        source=pl.lit("benchmark"), refused=pl.lit(None, pl.String),
    )  # fmt: skip
    for partition in range(PARTITIONS):
        mine = sent.filter(pl.col("origin_partition") == partition).with_columns(*nothing, log_offset="origin_offset")
        _write(lake, topics.TRANSACTIONS.name, partition, mine)
        _write(lake, topics.TERMINAL_LOG.name, partition, log.filter(pl.col("terminal_partition") == partition))
        _write(lake, topics.LABELS.name, partition, labels.filter(pl.col("terminal_partition") == partition))


def _write(lake: Lake, topic: str, partition: int, rows: pl.DataFrame) -> None:
    for first in range(0, rows.height, FILE_ROWS):
        part = rows[first : first + FILE_ROWS]
        lake.write_chunk(topic, partition, (first, first + part.height), part, {})


@dataclass
class Used:
    """What a command and its descendants used; stages: seconds and CPU seconds of each. ap, auc: its model's promise."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    ap: float | None = None
    auc: float | None = None


def run(folder: Path, engine: str, tasks: int, memory_mib: int, vectors_only: bool) -> Used:
    """Train once, or until the labelled rows are there. Raises RuntimeError with the command's last words when it fails."""
    environment = with_code_on_path(dict(os.environ)) | {
        "FRAUD_STATE_DIR": str(folder / engine),
        "FRAUD_LAKE_DIR": str(folder / "lake"),
        "FRAUD_SPARK_MASTER": f"local[{tasks}]",
        "FRAUD_SPARK_MEMORY_MIB": str(memory_mib),
    }
    command = [
        sys.executable,
        "-m",
        "trainer",
        "train",
        "--as-of",
        "latest",
        "--replay",
        "--json-progress",
        "--engine",
        engine,
    ]
    used, began_s = Used(), time.perf_counter()
    with (folder / f"{engine}.stderr").open("w+") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        tree = Tree(process.pid)
        name, since_s, since_cpu_s = "process start", began_s, 0.0
        assert process.stdout is not None
        for line in process.stdout:
            now_s, now_cpu_s = time.perf_counter(), tree.cpu_s()
            used.stages[name] = (now_s - since_s, now_cpu_s - since_cpu_s)
            name, since_s, since_cpu_s = _STAGES.get(json.loads(line)["stage"], "end"), now_s, now_cpu_s
            if vectors_only and name == "checks":
                process.terminate()
                break
        code = process.wait(TRAIN_S_MAX)
        used.seconds, used.cpu_s, used.peak_mib = since_s - began_s, since_cpu_s, tree.end()
        if code and not vectors_only:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {code}: {errors.read()[-2_000:]}")
    if not vectors_only:
        newest = max((folder / engine / "models").glob("*/metrics.json"), key=lambda path: path.stat().st_mtime)
        promise = json.loads(newest.read_bytes())["promise"]
        used.ap, used.auc = promise["ap"], promise["auc"]
    return used


class Tree:
    """A process and all its descendants, sampled: CPU seconds of all that ever were, and the most memory at once."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._seconds: dict[tuple[int, float], float] = {}
        self._peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        self._sample()
        return sum(list(self._seconds.values()))

    def end(self) -> float:
        """Stop sampling; the most memory at once, MiB."""
        self._ended.set()
        self._thread.join()
        return self._peak_bytes / 2**20

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        resident = 0
        with suppress(psutil.NoSuchProcess):
            for each in [self._root, *self._root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    times = each.cpu_times()
                    self._seconds[each.pid, each.create_time()] = times.user + times.system
                    resident += each.memory_info().rss
        self._peak_bytes = max(self._peak_bytes, resident)


def main() -> None:
    """Print the table of docs/scale-out.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory-mib", type=int, default=2048)
    parser.add_argument("--vectors-only", action="store_true", help="end each run when its labelled rows are there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = handbook.world(0, asked.days)
        write_logs(Lake(Path(folder) / "lake"), world)
        runs: dict[str, list[Used]] = {"local": [], "spark": []}
        for _ in range(asked.rounds):
            for engine, done in runs.items():
                done.append(run(Path(folder), engine, asked.tasks, asked.memory_mib, asked.vectors_only))
    best = {engine: min(done, key=lambda used: used.cpu_s) for engine, done in runs.items()}
    print(f"{world.height:,} transactions, {PARTITIONS} partitions, local[{asked.tasks}], {machine()}\n")
    print("| | local | spark |\n|---|---|---|")
    rows = [
        ("CPU", [f"{u.cpu_s:.1f} s" for u in best.values()]),
        ("time", [f"{u.seconds:.1f} s" for u in best.values()]),
        (
            "memory, peak (resident, shared pages counted in each process)",
            [f"{u.peak_mib:,.0f} MiB" for u in best.values()],
        ),
    ]
    if not asked.vectors_only:
        rows.append(("AP, AUC of the model", [f"{u.ap:.4f}, {u.auc:.4f}" for u in best.values()]))
    for stage in dict.fromkeys([*best["spark"].stages, *best["local"].stages]):
        told = [u.stages.get(stage) for u in best.values()]
        rows.append((f"CPU, time: {stage}", ["" if t is None else f"{t[1]:.1f} s, {t[0]:.1f} s" for t in told]))
    for name, values in rows:
        print(f"| {name} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
