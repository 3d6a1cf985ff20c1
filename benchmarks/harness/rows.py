"""The transactions of the load: a generated world, row after row, under ids that say which hold sent them.

Rule 1. Every subject gets the same rows in the same order, each from its own cursor, so that each sees whole histories.
Rule 2. A transaction's id is its hold and its number in it; nothing else about it is changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from adapters.kafka import partition_for
from fraud.windows import DAY_MS
from producer.messages import placed_transaction_values
from producer.world.days import DAYS_MAX
from producer.world.world import World

SEED = 1
APART_DAYS = 60


class WorldEndedError(ValueError):
    """The world has no more days."""


class RowCursor:
    """A position in a world of `cards` cards."""

    def __init__(self, cards: int, seed: int = SEED) -> None:
        self._world = World(seed, cards)
        self._day = 0
        self._left: list[pl.DataFrame] = []

    def take(self, rows: int) -> pl.DataFrame:
        """The next rows, by event time. Raises WorldEndedError."""
        have = sum(frame.height for frame in self._left)
        while have < rows:
            if self._day == DAYS_MAX:
                raise WorldEndedError("the world's 730 days are spent: give --cards more, or --seconds less")
            frame = self._world.frame(self._world.day(self._day))
            self._left.append(frame)
            have += frame.height
            self._day += 1
        whole = pl.concat(self._left)
        self._left = [whole.slice(rows)]
        return whole.head(rows)


def named(rows: pl.DataFrame, hold: str) -> pl.DataFrame:
    """The rows under the ids of a hold: HOLD-0, HOLD-1, ..."""
    return rows.with_columns(transaction_id=pl.format(f"{hold}-{{}}", pl.int_range(pl.len())))


def number_of(transaction_id: str, hold: str) -> int | None:
    """The number of a transaction of this hold; None for one of another."""
    of, _, number = transaction_id.rpartition("-")
    return int(number) if of == hold and number.isdecimal() else None


def of_hold(transaction_ids: Sequence[str], hold: str) -> tuple[list[int], list[int]]:
    """Which of the ids are this hold's, and their numbers."""
    numbers = [(place, number_of(told, hold)) for place, told in enumerate(transaction_ids)]
    mine = [(place, number) for place, number in numbers if number is not None]
    return [place for place, _ in mine], [number for _, number in mine]


def apart(cards: int, rows: int, hold: str) -> pl.DataFrame:
    """The first rows of a world of so many cards, whose cards and terminals are nobody else's.

    They lie before the load's: event time that had run ahead would make every row of the load a late one.
    """
    taken = RowCursor(cards).take(rows)
    renamed = {name: pl.format("apart-{}", name) for name in ("card_id", "terminal_id")}
    return named(taken.with_columns(pl.col("occurred_at_ms") - APART_DAYS * DAY_MS, **renamed), hold)


def messages(rows: pl.DataFrame, partitions: int) -> list[tuple[int, bytes, bytes]]:
    """(partition, key, value) of each row, as the producer would write it at its event time."""
    values = placed_transaction_values(rows.with_columns(clock_ms="occurred_at_ms"))
    cards = rows["card_id"].to_list()
    return [(partition_for(card, partitions), card.encode(), value) for card, value in zip(cards, values, strict=True)]
