"""Replay: the vectors that this code would have served, from the logs in the lake. For features whose definition has changed.

Rule 1. The order is the logs' own: cards by `transactions`, terminals by `terminal-log`, partition by partition, as the stream
        and the parity meter have it. Nothing is sorted by time.
Rule 2. The fold is the stream's own (fraud/fold.py).
Rule 3. What the lake does not hold yet, or not any more, is left out; a gap in it is refused by the lake.
Rule 4. Entities know nothing of each other: a slice of the cards or terminals of a partition, folded alone, gets equal vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from adapters.lake import Lake
from fraud import topics
from fraud.columns import TerminalColumns, known_hash, transaction_hashes
from fraud.features import CARD_NAMES, FEATURE_HASH, NAMES, REQUEST_NAMES
from fraud.fold import ACCEPTED, LABEL, TRANSACTION, CardFold, TerminalFold, is_striking
from fraud.model import Floats
from trainer.backfill import COLUMNS, LABELS, card_columns, checked
from trainer.dataset import without_switched

CHUNK_ROWS: Final = 100_000
_TRANSACTION: Final = [name for name in COLUMNS if name not in LABELS]
_LOG: Final = [
    "origin_topic", "origin_partition", "origin_offset", "terminal_id", "transaction_id", "occurred_at_ms", "amount_minor", "is_fraud",
]  # fmt: skip
_IDENTITY: Final = {"transaction_id": pl.String, "card_id": pl.String, "occurred_at_ms": pl.Int64}

CARD_COLUMNS: Final = len(REQUEST_NAMES) + len(CARD_NAMES)

Int64s = npt.NDArray[np.int64]


class NothingToReplayError(RuntimeError):
    """The lake has no transactions."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A share of the entities of a log: those whose id hashes to `number` of `of`; by default all."""

    number: int = 0
    of: int = 1

    def rows(self, frame: pl.DataFrame, id_column: str) -> pl.DataFrame:
        """The rows of these entities, in their order."""
        return frame if self.of == 1 else frame.filter(slice_numbers(frame[id_column], self.of) == self.number)


EVERY: Final = Slice()


def slice_numbers(ids: pl.Series, of: int) -> pl.Series:
    """The slice that each id is in, 0 <= number < of; null for no id. The same on every machine."""
    distinct = ids.unique()
    numbers = pl.Series("number", [None if each is None else known_hash(each) % of for each in distinct], pl.Int32)
    by_id = pl.DataFrame([distinct.alias("id"), numbers])
    return ids.alias("id").to_frame().join(by_id, on="id", how="left", maintain_order="left")["number"]


@dataclass(frozen=True, slots=True)
class Cards:
    """The accepted transactions of one partition, by offset, which ascends. vectors: float32 [rows, CARD_COLUMNS]."""

    offsets: Int64s
    card_ids: pl.Series
    terminal_ids: pl.Series
    vectors: Floats


def replayed(lake: Lake, from_ms: int = 0, to_ms: int = 1 << 62) -> pl.DataFrame:
    """transaction_id, card_id, occurred_at_ms and NAMES of what is served with event time from <= t < to, in log order.

    Every log is read from its beginning on: what happened before from_ms is part of a vector. Raises NothingToReplayError,
    LakeGapError.
    """
    cards = {p: fold_cards(lake, p) for p in lake.partitions(topics.TRANSACTIONS.name)}
    if not any(len(each.offsets) for each in cards.values()):
        raise NothingToReplayError(f"the lake {lake.root} has no transactions: let some stream first")
    return fold_every_terminal(lake, cards, from_ms, to_ms)


def served_or_replayed(lake: Lake, from_ms: int, to_ms: int) -> pl.LazyFrame:
    """As replayed(), but what was served with these very features, and under no break-it switch, is taken as it was served."""
    columns = [*_IDENTITY, *NAMES]
    try:
        time = pl.col("occurred_at_ms")
        whole, _ = without_switched(lake.scan(topics.FEATURES.name, FEATURE_HASH))
        scanned = whole.filter((time >= from_ms) & (time < to_ms))
        served = scanned.select(columns).collect()
    except FileNotFoundError:
        return replayed(lake, from_ms, to_ms).lazy()
    again = replayed(lake, from_ms, to_ms).join(served, on=["transaction_id", "card_id"], how="anti")
    return pl.concat([again, served]).lazy()


def fold_cards(lake: Lake, partition: int, keys: Slice = EVERY) -> Cards:
    """The card stage over a partition of `transactions`. Raises LakeGapError."""
    fold = CardFold(keep_changes=False)
    offsets: list[Int64s] = [np.empty(0, np.int64)]
    ids = [pl.DataFrame(schema={"card_id": pl.String, "terminal_id": pl.String})]
    vectors: list[Floats] = [np.empty((0, CARD_COLUMNS), np.float32)]
    for frame in _chunks(lake, topics.TRANSACTIONS.name, partition, ["log_offset", "refused", *_TRANSACTION]):
        good = keys.rows(frame.filter(pl.col("refused").is_null()), "card_id")
        table = checked(good.select(_TRANSACTION))
        told = card_columns(table)
        result = fold.apply(table["card_id"].to_list(), told)
        kept = result.outcome == ACCEPTED
        offsets.append(good["log_offset"].to_numpy()[kept])
        ids.append(table.select("card_id", "terminal_id").filter(pl.Series(kept)))
        vectors.append(result.vectors[kept])
    of = pl.concat(ids)
    return Cards(np.concatenate(offsets), of["card_id"], of["terminal_id"], np.concatenate(vectors))


def fold_every_terminal(
    lake: Lake, cards: Mapping[int, Cards], from_ms: int, to_ms: int, keys: Slice = EVERY
) -> pl.DataFrame:
    """The terminal stage over all partitions of `terminal-log`; returns what replayed() does. Raises LakeGapError.

    cards: what fold_cards gave, by partition of `transactions`.
    """
    parts = [
        part
        for partition in lake.partitions(topics.TERMINAL_LOG.name)
        for part in _fold_terminals(lake, partition, cards, from_ms, to_ms, keys)
    ]
    empty = pl.DataFrame(schema={**_IDENTITY, **dict.fromkeys(NAMES, pl.Float32)})
    return pl.concat([empty, *parts])


def _fold_terminals(
    lake: Lake, partition: int, cards: Mapping[int, Cards], from_ms: int, to_ms: int, keys: Slice
) -> Iterator[pl.DataFrame]:
    fold = TerminalFold(keep_changes=False)
    for every in _chunks(lake, topics.TERMINAL_LOG.name, partition, _LOG):
        frame = keys.rows(every, "terminal_id")
        is_label = (frame["origin_topic"] == topics.LABELS.name).to_numpy()
        origins, at = frame["origin_partition"].to_numpy(), _places(frame, is_label, cards)
        known = np.flatnonzero(is_label | (at >= 0))
        log, is_label, origins, at = frame[known], is_label[known], origins[known], at[known]
        card_ids = np.full(len(log), "", object)
        vectors = np.full((len(log), CARD_COLUMNS), np.nan, np.float32)
        for origin, of in cards.items():
            mine = np.flatnonzero(~is_label & (origins == origin))
            card_ids[mine], vectors[mine] = of.card_ids.gather(at[mine]).to_numpy(), of.vectors[at[mine]]
        amounts = log["amount_minor"].fill_null(0).to_numpy()
        told = TerminalColumns(
            np.where(is_label, LABEL, TRANSACTION).astype(np.uint8),
            transaction_hashes(log["transaction_id"].to_list()),
            log["occurred_at_ms"].to_numpy(),
            amounts,
            np.array([known_hash(card or None) for card in card_ids], np.uint64),
            log["is_fraud"].fill_null(0).to_numpy(),
            is_striking(vectors, amounts),
        )
        result = fold.apply(log["terminal_id"].to_list(), told)
        times = told.occurred_at_ms
        wanted = np.flatnonzero(~is_label & (result.outcome == ACCEPTED) & (times >= from_ms) & (times < to_ms))
        whole = np.concatenate([vectors[wanted], result.vectors[wanted]], axis=1)
        identity = [log["transaction_id"].gather(wanted), pl.Series("card_id", card_ids[wanted], pl.String)]
        columns = [pl.Series(name, np.ascontiguousarray(whole[:, i])) for i, name in enumerate(NAMES)]
        yield pl.DataFrame([*identity, pl.Series("occurred_at_ms", times[wanted]), *columns])


def _places(frame: pl.DataFrame, is_label: npt.NDArray[np.bool_], cards: Mapping[int, Cards]) -> Int64s:
    """Where each transaction of the log stands among the cards' accepted ones; -1 for labels and what is not there."""
    origins, offsets = frame["origin_partition"].to_numpy(), frame["origin_offset"].to_numpy()
    places = np.full(len(offsets), -1, np.int64)
    for origin, of in cards.items():
        mine = np.flatnonzero(~is_label & (origins == origin))
        if not len(of.offsets):
            continue
        found = np.minimum(np.searchsorted(of.offsets, offsets[mine]), len(of.offsets) - 1)
        places[mine] = np.where(of.offsets[found] == offsets[mine], found, -1)
    return places


def _chunks(lake: Lake, topic: str, partition: int, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The rows of a partition in log order, at most CHUNK_ROWS at once."""
    for file in lake.files(topic, partition):
        if file.rows:
            yield from pl.read_parquet(file.path, columns=columns, glob=False).iter_slices(CHUNK_ROWS)
