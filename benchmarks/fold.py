"""What one transaction costs in the fold: `python -m benchmarks.fold [--input FILE.parquet]`.

Rule 1. Numbers are printed with the machine and its load; those of CPU are minima over passes, since a busy neighbour only adds,
        the others medians.
Rule 2. Before anything is timed, the fold and the plain Python it is compared with must agree bit for bit.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import polars as pl
import typer

from benchmarks.machine import machine
from fraud.columns import TerminalColumns, known_hash
from fraud.features import FEATURE_HASH, NAMES
from fraud.fold import CardFold, TerminalFold
from fraud.transaction import id_hash
from fraud.windows import DAY_MS
from tests.parity.oracle import CardOracle, Paid, TerminalOracle
from trainer.backfill import backfill, card_columns, checked

FIRST_MS: Final = 1_522_540_800_000
PASSES: Final = 3
BAR_SIZE: Final = 500
LEAST_OF: Final = 15
WARM_SHARE: Final = 0.6  # of the rows are folded before micro-batches are timed: histories are then as long as they get


def made_rows(rows: int, seed: int = 1, entities: int = 5000, span_ms: int = 157 * DAY_MS) -> pl.DataFrame:
    """A log of 5,000 cards at 10,000 terminals over 157 days, 0.8 % fraud, labels known 7 days later: shaped as the Handbook's,
    with the merchants, devices and places of version 2 of the message. entities: cards, at twice as many terminals."""
    random = np.random.default_rng(seed)
    times = FIRST_MS + np.sort(random.integers(0, span_ms, rows))
    cards, terminals = random.integers(0, entities, rows), random.integers(0, 2 * entities, rows)
    return pl.DataFrame(
        {
            "transaction_id": [str(i) for i in range(rows)],
            "card_id": [f"c{i}" for i in cards],
            "terminal_id": [f"t{i}" for i in terminals],
            "amount_minor": random.lognormal(8.3, 0.8, rows).astype(np.int64),
            "occurred_at_ms": times,
            "label_is_fraud": random.random(rows) < 0.008,
            "label_known_at_ms": times + 7 * DAY_MS,
            "merchant_id": [f"m{i // 4}" for i in terminals],
            "device_id": [
                f"d{i * 3 + j}" if j < 3 else None for i, j in zip(cards, random.integers(0, 4, rows), strict=True)
            ],
            "country": [("DE", "DE", "DE", "FR", "NL")[i % 5] for i in terminals],
            "latitude_cdeg": 4700 + terminals % 800,
            "longitude_cdeg": 600 + terminals // 10 % 900,
        }
    )


def read_rows(path: Path) -> pl.DataFrame:
    """Rows of a file with the backfill's columns, or with the Handbook's."""
    table = pl.read_parquet(path)
    if "TX_DATETIME" not in table.columns:
        return table
    at_ms = pl.col("TX_DATETIME").dt.epoch("ms")
    return table.select(
        transaction_id=pl.col("TRANSACTION_ID").cast(pl.String),
        card_id=pl.col("CUSTOMER_ID").cast(pl.String),
        terminal_id=pl.col("TERMINAL_ID").cast(pl.String),
        amount_minor=(pl.col("TX_AMOUNT") * 100).round().cast(pl.Int64),
        occurred_at_ms=at_ms,
        label_is_fraud=pl.col("TX_FRAUD") == 1,
        label_known_at_ms=at_ms + 7 * DAY_MS,
    )


def median_us(rows: int, one_pass: Callable[[], object], clock: Callable[[], float]) -> float:
    """Median microseconds per row of a few passes, by time.process_time (CPU) or time.perf_counter (wall)."""
    seconds = []
    for _ in range(PASSES):
        start_s = clock()
        one_pass()
        seconds.append(clock() - start_s)
    return statistics.median(seconds) / rows * 1e6


def backfill_of_files(table: pl.DataFrame) -> str:
    """One line: the command `fraudstream features backfill` over the rows, from process start to file, the quickest of a few."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.parquet", Path(folder) / "out.parquet"
        table.write_parquet(source)
        command = [
            sys.executable,
            "-m",
            "trainer",
            "features",
            "backfill",
            "--input",
            str(source),
            "--output",
            str(target),
        ]
        runs = []
        for _ in range(PASSES):
            before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            took_s, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
            runs.append((took_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
        took_s, cpu_s = min(runs)
    return f"fraudstream features backfill   {took_s:9.1f} s from file to file (bar: 10), {cpu_s:.1f} s of CPU, {table.height:,} rows"


def least_us(stream: Stream, rows: int, size: int) -> float:
    """Microseconds of CPU per row of the quickest of many passes, each over the next rows: what the fold takes when no neighbour
    has the cache."""
    seconds = []
    for _ in range(LEAST_OF if size == BAR_SIZE else PASSES):
        start_s = time.process_time()
        stream.take(rows, size)
        seconds.append(time.process_time() - start_s)
    return min(seconds) / rows * 1e6


class Stream:
    """One fold as a stage runs it, from a table's rows: ids to slots, read and add; no Kafka, no Redis.

    with_changes: also what has to be stored is taken after each batch.
    """

    def __init__(self, fold: CardFold | TerminalFold, ids: list[str], columns: Any, with_changes: bool) -> None:
        self.fold, self.ids, self.columns, self.with_changes = fold, ids, columns, with_changes
        self.at = 0

    def take(self, rows: int, size: int) -> None:
        """Fold the next rows in batches of a size."""
        end = self.at + rows
        assert end <= len(self.ids), "the table has too few rows: give --rows more"
        for at in range(self.at, end, size):
            batch = slice(at, min(at + size, end))
            self.fold.apply(self.ids[batch], self.columns[batch])
            if self.with_changes:
                self.fold.take_changes()
        self.at = end


def streams(table: pl.DataFrame, with_changes: bool) -> list[Stream]:
    """The cards' and the terminals' stream of a table."""
    table = checked(table)
    cards, terminals = table["card_id"].to_list(), table["terminal_id"].to_list()
    paid, zeros = card_columns(table), np.zeros(table.height, np.uint8)
    hashes = np.array([known_hash(i) for i in cards], np.uint64)
    log = TerminalColumns(zeros, paid.transaction_hash, paid.occurred_at_ms, paid.amount_minor, hashes, zeros, zeros)
    return [
        Stream(CardFold(keep_changes=with_changes), cards, paid, with_changes),
        Stream(TerminalFold(keep_changes=with_changes), terminals, log, with_changes),
    ]


def plain_python(table: pl.DataFrame) -> list[bytes]:
    """Vectors of the naive oracle, without labels."""
    cards, terminals, vectors = CardOracle(), TerminalOracle(), []
    for row in checked(table).iter_rows(named=True):
        place = None if row["latitude_cdeg"] is None else (row["latitude_cdeg"], row["longitude_cdeg"])
        paid = Paid(
            row["occurred_at_ms"], row["amount_minor"], id_hash(row["transaction_id"]), row["card_id"],
            row["terminal_id"], row["merchant_id"], row["device_id"], row["country"], place,
        )  # fmt: skip
        _, card, _ = cards.apply(row["card_id"], paid)
        _, terminal, _ = terminals.apply(row["terminal_id"], replace(paid))
        assert card is not None
        assert terminal is not None
        vectors.append(card.tobytes() + terminal.tobytes())
    return vectors


def main(
    source: Annotated[Path | None, typer.Option("--input", help="Parquet file; default: made rows")] = None,
    rows: Annotated[int, typer.Option(help="how many rows are made without --input")] = 1_754_155,
    naive_rows: Annotated[int, typer.Option(help="how many rows the plain Python folds, of fewer cards")] = 10_000,
) -> None:
    """Print microseconds per transaction: plain Python, micro-batches, the whole backfill."""
    table = read_rows(source) if source else made_rows(rows)
    compare_with_plain_python(few_cards(table, naive_rows))
    both = streams(table, with_changes=False), streams(table, with_changes=True)
    for one in (*both[0], *both[1]):
        one.take(round(table.height * WARM_SHARE), 50_000)
    for size, limit in ((1, 5_000), (50, 50_000), (500, 20_000)):
        card, terminal, card_stored, terminal_stored = (least_us(one, limit, size) for one in (*both[0], *both[1]))
        typer.echo(
            f"micro-batches of {size:<4}          {card + terminal:9.2f} us of CPU per transaction (card {card:.2f}, terminal "
            f"{terminal:.2f}{', bar: 3' if size == BAR_SIZE else ''}); with changes taken to store {card_stored + terminal_stored:.2f}"
        )
    whole_us = median_us(table.height, partial(backfill, table), time.perf_counter)
    typer.echo(
        f"backfill in memory, {table.height:,} rows {whole_us:9.2f} us of time per transaction ({whole_us * table.height / 1e6:.1f} s)"
    )
    typer.echo(backfill_of_files(table))
    typer.echo(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    typer.echo(f"peak memory                     {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:9.0f} MiB")
    typer.echo(f"{len(NAMES)} features, {FEATURE_HASH}; on {machine('numpy')}")


def few_cards(table: pl.DataFrame, rows: int) -> pl.DataFrame:
    """About `rows` rows: all of some cards, so that each has the history that it has in the whole table. Without labels."""
    ids = table["card_id"].unique(maintain_order=True)
    kept = ids.head(max(1, round(len(ids) * rows / table.height)))
    return table.filter(pl.col("card_id").is_in(kept.implode())).drop(
        "label_is_fraud", "label_known_at_ms", strict=False
    )


def seconds_of(stream: Stream) -> float:
    """CPU seconds of a whole stream in micro-batches of 500, from no history on."""
    start_s = time.process_time()
    stream.take(len(stream.ids), 500)
    return time.process_time() - start_s


def compare_with_plain_python(table: pl.DataFrame) -> None:
    """Fold the same rows by plain Python and by micro-batches of 500, after both were found to give the same bits."""
    start_s = time.process_time()
    naive = plain_python(table)
    naive_us = (time.process_time() - start_s) / table.height * 1e6
    folded = np.ascontiguousarray(backfill(table).vectors.drop("transaction_id").to_numpy())
    assert [vector.tobytes() for vector in folded] == naive, "the fold and plain Python differ"
    passes = [sum(map(seconds_of, streams(table, with_changes=False))) for _ in range(PASSES)]
    fold_us = statistics.median(passes) / table.height * 1e6
    typer.echo(
        f"plain Python, {table.height:,} rows        {naive_us:9.2f} us of CPU per transaction; the fold of the same rows "
        f"{fold_us:.2f}: {naive_us / fold_us:.0f} times faster (bars: 20, 25), bit for bit the same"
    )


if __name__ == "__main__":
    typer.run(main)
