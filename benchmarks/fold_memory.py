"""What an entity takes in memory and in the store: `python -m benchmarks.fold_memory [--cards N ...] [--per-day F]`.

Rule 1. Every card pays `--per-day` times a day, at random times, for 90 days: longer than events are kept (60 days of a card's, 70 of a
        terminal's), so that what is measured has come to rest. There are two terminals for a card.
Rule 2. Memory is that of the chunks and tables in use, used rows or not; stored bytes are those of the logs as they would stand in
        the store; loading is what a worker does after a restart.
"""

from __future__ import annotations

import time
from typing import Annotated, Final

import numpy as np
import typer

from benchmarks.fold import FIRST_MS
from benchmarks.machine import machine
from fraud.columns import NOWHERE_CDEG, CardColumns, TerminalColumns
from fraud.fold import CardFold, TerminalFold
from fraud.windows import DAY_MS

DAYS: Final = 90
BATCH_ROWS: Final = 100_000
FIRST_VECTOR_OF: Final = 500


class Stored:
    """The logs of entities, as the store has them."""

    def __init__(self, fold: CardFold | TerminalFold) -> None:
        self.fold, self.logs = fold, dict[str, list[bytes]]()

    def take(self) -> None:
        """Store what changed."""
        for entity_id, operation, blob in self.fold.take_changes():
            if operation == "set":
                self.logs[entity_id] = [blob]
            else:
                self.logs.setdefault(entity_id, []).append(blob)

    def line(self, what: str) -> str:
        """Bytes in memory and stored, and how long loading takes."""
        whole = [(entity_id, b"".join(parts)) for entity_id, parts in self.logs.items()]
        stored = sum(len(log) for _, log in whole)
        type(self.fold)(keep_changes=False).load_many(whole[:1])  # the machine code is loaded before the clock starts
        begin_s = time.perf_counter()
        type(self.fold)(keep_changes=False).load_many(whole[:FIRST_VECTOR_OF])
        first_s = time.perf_counter() - begin_s
        count = len(self.fold)
        return (
            f"{count:>9,} {what:<9} {self.fold.used_bytes / count:>7,.0f} bytes in memory, {stored / count:>6,.0f} stored, each; "
            f"{self.fold.memory_bytes / 2**20:,.0f} MiB in all; {FIRST_VECTOR_OF} loaded in {first_s * 1000:.0f} ms"
        )


def measure(cards: int, per_day: float) -> None:
    """Fold 90 days of that many cards and print what is left."""
    random = np.random.default_rng(1)
    card_store, terminal_store = Stored(CardFold()), Stored(TerminalFold())
    rows, events = 0, int(cards * per_day * DAYS)
    while rows < events:
        size = min(BATCH_ROWS, events - rows)
        times = FIRST_MS + (rows + np.arange(size)) * (DAYS * DAY_MS) // events
        of_card, of_terminal = random.integers(0, cards, size), random.integers(0, 2 * cards, size)
        paid = columns(rows, times, of_card, of_terminal, random)
        card_store.fold.apply([f"c{i}" for i in of_card.tolist()], paid)  # type: ignore[arg-type, call-arg]  # a CardFold
        log = TerminalColumns(
            np.zeros(size, np.uint8), paid.transaction_hash, times, paid.amount_minor, of_card.astype(np.uint64) + 1,
            np.zeros(size, np.uint8), np.zeros(size, np.uint8),
        )  # fmt: skip
        terminal_store.fold.apply([f"t{i}" for i in of_terminal.tolist()], log)  # type: ignore[arg-type]  # a TerminalFold
        card_store.take()
        terminal_store.take()
        rows += size
    typer.echo(card_store.line("cards"))
    typer.echo(terminal_store.line("terminals"))


def columns(
    first: int, times: np.ndarray, of_card: np.ndarray, of_terminal: np.ndarray, random: np.random.Generator
) -> CardColumns:
    """Transactions of version 2 with every field but a place."""
    size = len(times)
    nowhere = np.full(size, NOWHERE_CDEG)
    return CardColumns(
        (first + np.arange(size)).astype(np.uint64), times, random.integers(1, 20_000, size),
        of_terminal.astype(np.uint64) + 1, (of_terminal // 4).astype(np.uint64) + 1, of_card.astype(np.uint64) + 1,
        np.full(size, 0x4445), nowhere, nowhere,
    )  # fmt: skip


def main(
    cards: Annotated[list[int] | None, typer.Option(help="how many cards; may be given several times")] = None,
    per_day: Annotated[float, typer.Option(help="transactions of a card in a day")] = 0.5,
) -> None:
    """Print bytes per card and per terminal."""
    for count in cards or [10_000, 100_000]:
        measure(count, per_day)
    typer.echo(f"{per_day} transactions a day and card, {DAYS} days; on {machine('numpy')}")


if __name__ == "__main__":
    typer.run(main)
