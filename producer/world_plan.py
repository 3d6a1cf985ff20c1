"""The plan of a world's stream: which message is due when. Pure: a function of the world, the day and the share.

Rule 1. A plan's moment is when a message is sent (clock_ms): of most transactions the moment at which they happen, of a late
        one later. Moments ascend; what a day sends late stands among the next day's rows.
Rule 2. What becomes known of a transaction by itself is drawn with its day, before shares and delays: every share of a
        producer, and every restart, plans the same.
Rule 3. A copy (the same transaction sent twice) has no truth and no label of its own.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import polars as pl

from fraud.simulation import ScenarioRun
from fraud.windows import DAY_MS, HOUR_MS
from producer.label_desk import WaitingLabel
from producer.world.label_delays import NEVER, REALISTIC, SOURCES, LabelDelays, known_later

ROWS_MAX: Final = 2000
RUN_PREFIX: Final = "run-"
_LABEL_STREAM: Final = 77
_CARD: Final = re.compile(r"\Ac[0-9]+\Z").match
_TRANSACTION: Final = (
    "transaction_id", "card_id", "terminal_id", "amount_minor", "occurred_at_ms", "merchant_id", "mcc", "country",
    "channel", "device_id", "latitude_cdeg", "longitude_cdeg",
)  # fmt: skip
PLAN: Final = (*_TRANSACTION, "clock_ms", "is_copy", "scenario", "source", "label_is_fraud", "known_at_ms")


class StreamedWorld(Protocol):
    """What the plan needs of a world.

    settings: tells worlds of one seed and size apart. Frames have a transaction's columns, is_fraud and scenario, by event time.
    """

    seed: int
    begin_ms: int
    days: int
    settings: str

    def day_frame(self, day: int) -> pl.DataFrame:
        """The transactions of one day, 0 .. days - 1."""

    def run_frame(self, run: ScenarioRun) -> pl.DataFrame:
        """The transactions of a scenario run. Raises ValueError for one that cannot be."""


Delivery = Callable[[pl.DataFrame, int], pl.DataFrame]  # adds clock_ms and is_copy to a day's rows


def in_time(rows: pl.DataFrame, day: int) -> pl.DataFrame:
    """The delivery without disorder."""
    return rows.with_columns(clock_ms="occurred_at_ms", is_copy=pl.lit(False))


@dataclass(frozen=True, slots=True)
class Share:
    """Which cards a producer streams: those whose number leaves `index` when divided by `of`."""

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ValueError(f"share {self.index + 1}/{self.of}: it must be 1/{self.of} .. {self.of}/{self.of}")

    def has(self, card_id: str) -> bool:
        """Whether a card is in the share."""
        return int(card_id[1:]) % self.of == self.index

    def of_rows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of the share."""
        if self.of == 1:
            return rows
        return rows.filter(pl.col("card_id").str.slice(1).cast(pl.Int64) % self.of == self.index)


class WorldPlan:
    """The plan of one world for one share of its cards."""

    def __init__(
        self,
        world: StreamedWorld,
        delays: LabelDelays = REALISTIC,
        delivery: Delivery = in_time,
        share: Share | None = None,
    ) -> None:
        self.world = world
        self.share = share or Share()
        self._delays = delays
        self._delivery = delivery

    def begins_after(self, clock_ms: int, settings: str) -> int:
        """The moment to go on after, when the world was streamed up to clock_ms with other or the same settings.

        With others from the next midnight on: within a day, one id would name two transactions.
        """
        if clock_ms < 0 or settings == self.world.settings:
            return clock_ms
        return clock_ms + DAY_MS - 1 - (clock_ms - self.world.begin_ms) % DAY_MS

    def is_ours(self, transaction_id: str, card_id: str) -> bool:
        """Whether a transaction is one of this plan: of this world or of a run, and of a card of the share."""
        known = transaction_id.startswith((f"w{self.world.seed}-", RUN_PREFIX))
        return known and _CARD(card_id) is not None and self.share.has(card_id)

    @property
    def end_ms(self) -> int:
        """Where the world ends, epoch milliseconds."""
        return self.world.begin_ms + self.world.days * DAY_MS

    def pieces(self, after_ms: int, until_ms: int) -> Iterator[pl.DataFrame]:
        """Rows with the columns of PLAN whose moment is after_ms < clock_ms < until_ms, cut at each hour and at
        ROWS_MAX rows; no moment stands in two pieces."""
        first = max(0, (after_ms + 1 - self.world.begin_ms) // DAY_MS)
        carried = self._day(first - 1) if first else None
        for day in range(first, self.world.days):
            day_begin_ms = self.world.begin_ms + day * DAY_MS
            if day_begin_ms >= until_ms:
                return
            rows = self._day(day) if carried is None else pl.concat([carried, self._day(day)])
            carried = rows.filter(pl.col("clock_ms") >= day_begin_ms + DAY_MS)
            low, high = max(after_ms + 1, day_begin_ms), min(until_ms, day_begin_ms + DAY_MS)
            yield from _cut(_in_order(rows.filter(pl.col("clock_ms").is_between(low, high - 1))))

    def run_rows(self, run: ScenarioRun) -> pl.DataFrame:
        """The rows of a scenario run, by moment. Raises ValueError for one that cannot be."""
        rows = self._known_later(self.world.run_frame(run), zlib.crc32(run.run_id.encode()))
        return _in_order(self.share.of_rows(in_time(rows, 0).select(PLAN)))

    def _day(self, day: int) -> pl.DataFrame:
        rows = self._known_later(self.world.day_frame(day), day)
        return self.share.of_rows(self._delivery(rows, day).select(PLAN))

    def _known_later(self, rows: pl.DataFrame, stream: int) -> pl.DataFrame:
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.world.seed, _LABEL_STREAM, stream])))
        known = known_later(random, rows["is_fraud"].to_numpy(), rows["occurred_at_ms"].to_numpy(), self._delays)
        return rows.with_columns(
            source=pl.Series(known.source),
            label_is_fraud=pl.Series(known.is_fraud),
            known_at_ms=pl.Series(known.known_at_ms),
        )


def frauds_of(rows: pl.DataFrame) -> list[tuple[str, int]]:
    """(transaction id, event time) of the frauds, copies left out."""
    frauds = rows.filter((pl.col("scenario") != "") & ~pl.col("is_copy"))
    return list(zip(frauds["transaction_id"].to_list(), frauds["occurred_at_ms"].to_list(), strict=True))


def labels_of(rows: pl.DataFrame) -> list[WaitingLabel]:
    """What becomes known of the rows by itself; due when known, or when sent where that is later."""
    known = rows.filter((pl.col("source") != NEVER) & ~pl.col("is_copy"))
    columns = known.select(
        pl.max_horizontal("known_at_ms", "clock_ms").alias("due_ms"), "transaction_id", "source", "card_id", "terminal_id",
        "occurred_at_ms", "label_is_fraud", "known_at_ms",
    )  # fmt: skip
    return [
        WaitingLabel(due, transaction, SOURCES[source], card, terminal, occurred, is_fraud, known_at)  # type: ignore[arg-type]  # SOURCES holds label sources
        for due, transaction, source, card, terminal, occurred, is_fraud, known_at in columns.iter_rows()
    ]


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("clock_ms", "transaction_id", "is_copy")


def _cut(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Pieces of at most about ROWS_MAX rows within one hour; equal moments stay together."""
    clock = rows["clock_ms"].to_numpy()
    first = 0
    while first < len(clock):
        hour_end = int(np.searchsorted(clock, (clock[first] // HOUR_MS + 1) * HOUR_MS))
        end = min(hour_end, first + ROWS_MAX)
        if end < hour_end:
            end = int(np.searchsorted(clock, clock[end - 1], side="right"))
        yield rows.slice(first, end - first)
        first = end
