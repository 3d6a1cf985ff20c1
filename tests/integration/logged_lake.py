"""A lake of logs alone: forty days of two partitions, as producer, card stage, label service and archiver leave them.

Rule 1. Fraud is a card's burst of large payments at a few terminals, so that both stages of the fold and the labels tell of it.
Rule 2. There are tied, late, repeated and bad transactions; a label stands in the terminals' log when it became known.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from adapters.lake import Lake
from fraud.columns import CardColumns
from fraud.fold import ACCEPTED, CardFold
from fraud.labels import Label
from fraud.packed import OriginMarks
from fraud.transaction import Transaction, id_hash
from fraud.windows import DAY_MS, HOUR_MS
from trainer.chunk import LogRecord, chunk_for

BEGIN_MS = 17_622 * DAY_MS  # 2018-04-01
DAYS = 40
AS_OF_MS = BEGIN_MS + DAYS * DAY_MS
DELAY_MS = 7 * DAY_MS
PARTITIONS = 2
ROWS = 8_000
CARDS, TERMINALS = 160, 60
_FILE_RECORDS = 1_500


def transactions(seed: int = 11) -> list[tuple[Transaction, bool]]:
    """In order of arrival, each with whether it is fraud."""
    random = np.random.default_rng(seed)
    step_ms = DAYS * DAY_MS // ROWS
    made, burst_card, burst_left = list[tuple[Transaction, bool]](), 0, 0
    for i in range(ROWS):
        at_ms = BEGIN_MS + i * step_ms
        if burst_left == 0 and random.random() < 0.012:
            burst_card, burst_left = int(random.integers(CARDS)), 4
        is_fraud = burst_left > 0 and random.random() < 0.7
        burst_left -= is_fraud
        card = burst_card if is_fraud else int(random.integers(CARDS))
        terminal = int(random.integers(8)) if is_fraud else int(random.integers(TERMINALS))
        amount = int(random.gamma(2, 9_000 if is_fraud else 2_500))
        if i % 97 == 0:
            at_ms = max(BEGIN_MS, at_ms - int(random.integers(6)) * HOUR_MS)  # late, or tied with an earlier one
        place = (5_000 + terminal, 800 + terminal) if i % 5 else (None, None)
        made.append(
            (
                Transaction(
                    f"t{i}", f"c{card}", f"m{terminal}", amount, "EUR", at_ms, at_ms, 2, f"s{terminal % 20}", "5411",
                    ("DE", "FR")[card % 2], "online", f"d{card}", *place,
                ),
                is_fraud,
            )
        )  # fmt: skip
        if i % 211 == 0:
            made.append(made[-3 if i else -1])
    return made


def logged_lake(root: Path) -> Lake:
    """Topics transactions, labels and terminal-log."""
    lake = Lake(root)
    arrived = transactions()
    records: dict[int, list[tuple[bytes, bytes]]] = {p: [] for p in range(PARTITIONS)}
    origins = list[tuple[int, int]]()
    for i, (t, _) in enumerate(arrived):
        partition = partition_of(t.card_id)
        if i % 500 == 250:
            records[partition].append((b"c1", b"{not json"))
        origins.append((partition, len(records[partition])))
        records[partition].append((t.card_id.encode(), t.to_json()))
    for partition, of in records.items():
        _put(lake, "transactions", partition, of)
    _write_labelled_side(lake, arrived, origins)
    return lake


def rearranged(lake: Lake, root: Path, topic: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Lake:
    """A copy in which the rows of a file of partition 1 of a topic are others."""
    other = Lake(root)
    for name in lake.topics():
        for file in lake.files(name):
            frame = pl.read_parquet(file.path)
            turned = change(frame) if (name, file.partition, file.first) == (topic, 1, 0) else frame
            other.write_chunk(name, file.partition, (file.first, file.next), turned, {})
    return other


def partition_of(key: str) -> int:
    return id_hash(key) // 7 % PARTITIONS


def _write_labelled_side(lake: Lake, arrived: list[tuple[Transaction, bool]], origins: list[tuple[int, int]]) -> None:
    outcome = CardFold().apply([t.card_id for t, _ in arrived], CardColumns.of([t for t, _ in arrived])).outcome
    log: dict[int, list[dict[str, object]]] = {p: [] for p in range(PARTITIONS)}
    labels: dict[int, list[tuple[bytes, bytes]]] = {p: [] for p in range(PARTITIONS)}
    waiting = list[Label]()
    for (t, is_fraud), origin, became in zip(arrived, origins, outcome, strict=True):
        while waiting and waiting[0].known_at_ms <= t.occurred_at_ms:
            label = waiting.pop(0)
            partition = partition_of(label.terminal_id)
            log[partition].append(_row("labels", (partition, len(labels[partition])), label, None, int(label.is_fraud)))
            labels[partition].append((label.terminal_id.encode(), label.to_json()))
        if became == ACCEPTED:
            known_ms = t.occurred_at_ms + DELAY_MS
            waiting.append(
                Label(
                    t.transaction_id,
                    t.card_id,
                    t.terminal_id,
                    t.occurred_at_ms,
                    is_fraud,
                    known_ms,
                    "benchmark",
                    known_ms,
                )
            )
            log[partition_of(t.terminal_id)].append(_row("transactions", origin, t, t.amount_minor, 0))
    for partition, rows in log.items():
        frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col("is_fraud").cast(pl.UInt8))
        lake.write_chunk("terminal-log", partition, (0, len(rows)), frame, {})
        _put(lake, "labels", partition, labels[partition])


def _row(
    topic: str, origin: tuple[int, int], of: Transaction | Label, amount: int | None, fraud: int
) -> dict[str, object]:
    return {
        "origin_topic": topic, "origin_partition": origin[0], "origin_offset": origin[1], "terminal_id": of.terminal_id,
        "transaction_id": of.transaction_id, "occurred_at_ms": of.occurred_at_ms, "amount_minor": amount, "is_fraud": fraud,
    }  # fmt: skip


def _put(lake: Lake, topic: str, partition: int, records: list[tuple[bytes, bytes]]) -> None:
    for first in range(0, len(records), _FILE_RECORDS):
        chunk = chunk_for(topic, first, OriginMarks())
        some = enumerate(records[first : first + _FILE_RECORDS], first)
        chunk.take([LogRecord(offset, key, value, 0) for offset, (key, value) in some])
        lake.write_chunk(topic, partition, (chunk.first, chunk.next), chunk.frame(), {})
