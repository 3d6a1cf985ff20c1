"""`python -m benchmarks.simulator [--days N]`: rows per second of the simulator, of reading and checking, and of encoding.

Rule 1. It measures what the producer runs, without a broker; its numbers stand beside the machine's line.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from producer import handbook
from producer.chunks import chunks
from producer.messages import label_writes, transaction_writes
from producer.transaction_file import TransactionFile


def line(what: str, rows: int, seconds: float) -> None:
    """Print one result."""
    print(f"{what:44} {rows:>10,} rows  {seconds:>7.2f} s  {rows / seconds:>12,.0f} rows/s")


def encode(file: TransactionFile, partitions: int) -> tuple[int, int]:
    """Make every message of the file as a replay at full speed does; return transactions and labels."""
    transactions = labels = 0
    for chunk in chunks(file.slices(0, file.height)):
        transactions += sum(len(records) for _, records in transaction_writes(chunk.transactions, partitions))
        labels += sum(len(records) for _, records in label_writes(chunk.labels, partitions))
    return transactions, labels


def measure(world: pl.DataFrame, folder: Path) -> None:
    """Read, check and encode the world."""
    path = folder / "world.parquet"
    world.write_parquet(path, row_group_size=100_000)
    file = TransactionFile(path)
    begin_s = time.perf_counter()
    file.check()
    line("read and check", world.height, time.perf_counter() - begin_s)
    for partitions in (1, 4):
        begin_s = time.perf_counter()
        transactions, labels = encode(file, partitions)
        seconds = time.perf_counter() - begin_s
        line(f"read and encode, {partitions} partition(s), labels too", transactions + labels, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}, polars {pl.__version__}")
    begin_s = time.perf_counter()
    world = handbook.world(days=arguments.days, processes=arguments.processes)
    seconds = time.perf_counter() - begin_s
    line(f"simulate {arguments.days} days in {arguments.processes} process(es)", world.height, seconds)
    with tempfile.TemporaryDirectory() as folder:
        measure(world, Path(folder))


if __name__ == "__main__":
    main()
