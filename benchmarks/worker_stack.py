"""A broker, a state store and one feature worker, for the benchmarks that time the worker as a process.

Rule 1. What is timed is `python -m stream_features` as it runs in the stack; the servers are real, and this benchmark's own.
Rule 2. CPU is user and system time from /proc, told for each process, because it survives a busy machine; so is the load.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from adapters import backends
from adapters.kafka import AsyncWriter, Record, partition_for
from adapters.kafka_admin import ensure_topics
from adapters.ports import free_ports
from adapters.state_store import StateReader
from fraud import topics
from fraud.features import FEATURE_HASH
from producer.messages import placed_transaction_values

PARTITION: Final = 0
WAIT_SECONDS_MAX: Final = 600.0
POLL_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class WorkerStack:
    """Addresses of the servers, the folder of this benchmark, and the partitions of each data topic."""

    bootstrap: str
    redis_url: str
    folder: Path
    partitions: int = 1

    def send(self, rows: pl.DataFrame) -> None:
        """Write the rows of benchmarks.fold.made_rows to `transactions`, as messages of version 2."""
        told = rows.with_columns(clock_ms="occurred_at_ms", mcc=pl.lit("5411"), channel=pl.lit("card_present"))
        cards = rows["card_id"].to_list()
        records: dict[int, list[Record]] = {partition: [] for partition in range(self.partitions)}
        for card, value in zip(cards, placed_transaction_values(told), strict=True):
            records[partition_for(card, self.partitions)].append((card.encode(), value, []))
        asyncio.run(self._write(records))

    async def _write(self, records: Mapping[int, Sequence[Record]]) -> None:
        writer = AsyncWriter(self.bootstrap, "benchmark")
        await writer.start()
        try:
            for partition, own in records.items():
                for at in range(0, len(own), 20_000):
                    await writer.write(topics.TRANSACTIONS.name, partition, own[at : at + 20_000])
        finally:
            await writer.stop()

    @contextmanager
    def worker(self, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """A feature worker that has just been started; killed in the end. `settings`: more of its environment."""
        environment = {
            **os.environ, "FRAUD_KAFKA_BOOTSTRAP": self.bootstrap, "FRAUD_REDIS_URL": self.redis_url,
            "FRAUD_STATE_DIR": str(self.folder), "FRAUD_METRICS_PORT": str(free_ports(1)[0]),
            "FRAUD_PARTITIONS": str(self.partitions), **settings,
        }  # fmt: skip
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "stream_features"], stdout=log, stderr=log, env=environment
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def wait_for(self, process: subprocess.Popen[bytes], is_so: Callable[[], bool]) -> float:
        """The time (perf_counter) when it was so. Raises RuntimeError with the worker's last words when it ended or took too long."""
        deadline_s = time.perf_counter() + WAIT_SECONDS_MAX
        while not is_so():
            if process.poll() is not None or time.perf_counter() > deadline_s:
                words = (self.folder / "worker.log").read_text()[-2000:]
                raise RuntimeError(f"the feature worker (exit code {process.poll()}) is not done:\n{words}")
            time.sleep(POLL_SECONDS)
        return time.perf_counter()

    @contextmanager
    def progress(self) -> Iterator[Callable[[], int]]:
        """How many transactions the terminal stages are done with, by their exact counters: vectors in `features`, and what was
        refused as too late."""
        reader = StateReader(self.redis_url, FEATURE_HASH)

        def done() -> int:
            counters = reader.counters("terminal", range(self.partitions))
            return counters.get("accepted", 0) + counters.get("dead_letters", 0)

        try:
            yield done
        finally:
            reader.close()


@contextmanager
def worker_stack(folder: Path, partitions: int = 1) -> Iterator[WorkerStack]:
    """The servers, with all data topics of so many partitions."""
    with backends.kafka(folder / "kafka") as broker, backends.redis(folder / "redis") as store:
        ensure_topics(broker.address, partitions)
        print(f"broker: {broker.description}; state store: {store.description}", flush=True)
        yield WorkerStack(broker.address, store.address, folder, partitions)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """CPU time of the whole machine so far, all processes."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4] - fields[7]) / os.sysconf("SC_CLK_TCK")
