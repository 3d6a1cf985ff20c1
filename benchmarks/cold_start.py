"""A worker that starts with full histories in Redis: `python -m benchmarks.cold_start [--cards N]`.

Rule 1. Every card and terminal has its history in the store, as a worker left it; memory and the file cache of the log are cold.
Rule 2. The clock runs from the start of the process to the first batch of vectors that stands in `features`: imports, machine code,
        joining the group, the watermark, and the histories of the batch's cards and terminals.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import polars as pl
import redis
import typer

from adapters.state_store import Change, Effect, Stage, StateStore
from benchmarks.fold import FIRST_MS
from benchmarks.machine import machine
from benchmarks.worker_stack import PARTITION, WorkerStack, cpu_seconds, worker_stack
from fraud.columns import CardColumns, TerminalColumns
from fraud.features import FEATURE_HASH, NAMES
from fraud.fold import CardFold, TerminalFold
from fraud.windows import DAY_MS

BAR_SECONDS: Final = 3.0
DAYS: Final = 30
ENTITIES_AT_ONCE: Final = 5_000
QUEUED: Final = 50_000  # more than the starts take before they are ended


def histories(stage: Stage, entities: int, per_day: float) -> Iterator[list[Change]]:
    """The stored logs of entities with `per_day` transactions a day for 30 days, some thousand entities at a time."""
    random = np.random.default_rng(1)
    for first in range(0, entities, ENTITIES_AT_ONCE):
        count = min(ENTITIES_AT_ONCE, entities - first)
        rows = int(count * per_day * DAYS)
        times = FIRST_MS + np.sort(random.integers(0, DAYS * DAY_MS, rows))
        hashes, amounts = random.integers(1, 2**63, rows).astype(np.uint64), random.integers(1, 20_000, rows)
        others, zeros = random.integers(1, 10_000, rows).astype(np.uint64), np.zeros(rows, np.uint8)
        ids = [f"{stage[0]}{i}" for i in (first + random.integers(0, count, rows)).tolist()]
        if stage == "card":
            cards = CardFold()
            cards.apply(ids, CardColumns.bare(hashes, times, amounts, others))
            yield cards.take_changes()
        else:
            terminals = TerminalFold()
            terminals.apply(ids, TerminalColumns(zeros, hashes, times, amounts, others, zeros, zeros))
            yield terminals.take_changes()


async def store_histories(stack: WorkerStack, cards: int, per_day: float) -> None:
    """Put the cards' and twice as many terminals' histories into the store, as of offset 0 of both logs."""
    store = StateStore(stack.redis_url, FEATURE_HASH)
    await store.start()
    try:
        for stage, entities, often in (("card", cards, per_day), ("terminal", 2 * cards, per_day / 2)):
            first: int | None = None
            for changes in histories(stage, entities, often):  # type: ignore[arg-type]  # the literals of a tuple
                newest = FIRST_MS + DAYS * DAY_MS
                await store.apply(stage, PARTITION, Effect(first, 0, newest, {}, {}, changes))  # type: ignore[arg-type]
                first = 0
    finally:
        await store.stop()


def queued(cards: int) -> pl.DataFrame:
    """Transactions of the day after, of random cards at random terminals."""
    random = np.random.default_rng(2)
    card, terminal = random.integers(0, cards, QUEUED), random.integers(0, 2 * cards, QUEUED)
    return pl.DataFrame(
        {
            "transaction_id": [f"q{i}" for i in range(QUEUED)],
            "card_id": [f"c{i}" for i in card],
            "terminal_id": [f"t{i}" for i in terminal],
            "amount_minor": random.integers(1, 20_000, QUEUED),
            "occurred_at_ms": FIRST_MS + DAYS * DAY_MS + np.arange(QUEUED) * 1000,
            "merchant_id": [f"m{i // 4}" for i in terminal],
            "device_id": [f"d{i}" for i in card],
            "country": "DE",
            "latitude_cdeg": 4700 + terminal % 800,
            "longitude_cdeg": 600 + terminal // 10 % 900,
        }
    )


def measure(stack: WorkerStack, starts: int) -> str:
    """One line: seconds to the first vectors of each start."""
    took_s, cpu_s, rows = [], [], []
    with stack.progress() as served:
        for _ in range(starts):
            before, began_s = served(), time.perf_counter()
            # One batch of 500 for each start: the next start finds transactions that nobody took.
            with stack.worker(FRAUD_BATCH_RECORDS_MAX="500") as worker:
                took_s.append(stack.wait_for(worker, lambda: served() > before) - began_s)  # noqa: B023 (asked in this round)
                cpu_s.append(cpu_seconds(worker.pid))
                rows.append(served() - before)
    first, later = took_s[0], took_s[1:]
    return (
        f"first vector of a cold worker  {min(later or took_s):.2f} s (bar: {BAR_SECONDS:.0f}), {min(cpu_s):.2f} s of CPU; first start "
        f"{first:.2f} s, then {', '.join(f'{s:.2f}' for s in later)}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    )


def main(
    cards: Annotated[int, typer.Option(min=1000, help="cards with a history; twice as many terminals")] = 100_000,
    per_day: Annotated[float, typer.Option(help="transactions of a card in a day")] = 0.5,
    starts: Annotated[int, typer.Option(min=1, max=8, help="how often the worker is started")] = 4,
) -> None:
    """Fill the store, start a worker, and print the time to its first vector."""
    with tempfile.TemporaryDirectory() as folder, worker_stack(Path(folder)) as stack:
        asyncio.run(store_histories(stack, cards, per_day))
        stack.send(queued(cards))
        with redis.Redis.from_url(stack.redis_url) as client:
            keys, memory = client.dbsize(), client.info("memory")["used_memory"]  # type: ignore[index]  # redis-py types both clients at once
        typer.echo(
            f"{cards:,} cards and {2 * cards:,} terminals: {keys:,} keys, {memory / 2**20:,.0f} MiB in the store"
        )
        typer.echo(measure(stack, starts))
        typer.echo(f"{len(NAMES)} features, {FEATURE_HASH}; on {machine('numpy')}")


if __name__ == "__main__":
    typer.run(main)
