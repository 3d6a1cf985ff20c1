"""A small lake as the archiver would leave it: thirty days of a few cards, through the archiver's own chunks.

Rule 1. Every row is a function of its number; a file of each topic holds a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapters.lake import Lake
from fraud import packed
from fraud.alert import Alert
from fraud.decision import APPROVE, DECLINE
from fraud.packed import OriginMarks
from fraud.transaction import Transaction
from fraud.windows import HOUR_MS
from tests.integration.log_writer import BEGIN_MS, label, packed_vectors, transaction
from trainer.chunk import LogRecord, chunk_for

DAYS = 30
PER_DAY = 24


def transactions() -> list[Transaction]:
    return [transaction(i, BEGIN_MS + i * HOUR_MS) for i in range(DAYS * PER_DAY)]


def small_lake(root: Path, days: int = DAYS) -> Lake:
    """Topics transactions, labels, features, scores, alerts; every 50th is declined, every 100th is fraud."""
    lake = Lake(root)
    for day in range(days):
        rows = transactions()[day * PER_DAY : (day + 1) * PER_DAY]
        first = day * PER_DAY
        put(lake, "transactions", [(t.card_id.encode(), t.to_json()) for t in rows], first)
        labels = [label(t, (first + i) % 100 == 0) for i, t in enumerate(rows)]
        put(lake, "labels", [(each.terminal_id.encode(), each.to_json()) for each in labels], first)
        put(lake, "features", [(None, value) for _, value, _ in packed_vectors(rows, first)], day)
        put(lake, "scores", [(None, scores_of(rows, first))], day)
        alerts = [alert_of(t, first + i) for i, t in enumerate(rows) if is_declined(first + i)]
        at = lake.next_offset("alerts", 0) or 0
        # A scorer that crashed has written its last alert again.
        put(lake, "alerts", [(each.card_id.encode(), each.to_json()) for each in [*alerts, *alerts[-1:]]], at)
    return lake


def is_declined(number: int) -> bool:
    return number % 50 == 0


def put(lake: Lake, topic: str, records: Sequence[tuple[bytes | None, bytes | None]], first: int) -> None:
    """One file from the records of a topic."""
    if not records:
        return
    chunk = chunk_for(topic, first, OriginMarks())
    chunk.take([LogRecord(first + i, key, value, BEGIN_MS) for i, (key, value) in enumerate(records)])
    lake.write_chunk(topic, 0, (chunk.first, chunk.next), chunk.frame(), chunk.marks.marks, chunk.feature_hash)


def scores_of(rows: Sequence[Transaction], first: int) -> bytes:
    numbers = range(first, first + len(rows))
    columns: dict[str, packed.Column] = {
        name: [getattr(t, name) for t in rows] if dtype == packed.TEXT else np.zeros(len(rows), np.dtype(dtype))
        for name, dtype in packed.COLUMNS[packed.SCORES].items()
    }
    columns |= {
        "origin_offset": np.array(numbers),
        "amount_minor": np.array([t.amount_minor for t in rows]),
        "occurred_at_ms": np.array([t.occurred_at_ms for t in rows]),
        "score": np.array([n % 10 / 10 for n in numbers], np.float32),
        "decision": np.array([DECLINE if is_declined(n) else APPROVE for n in numbers], np.uint8),
    }
    return packed.pack(packed.SCORES, columns, {"model_version": "m1"})


def alert_of(t: Transaction, number: int) -> Alert:
    return Alert(
        alert_id=f"a{number}", transaction_id=t.transaction_id, card_id=t.card_id, terminal_id=t.terminal_id,
        amount_minor=t.amount_minor, currency="EUR", occurred_at_ms=t.occurred_at_ms, score=0.9, decision="decline",
        reason_codes=("RULE_X",), model_version="m1", scored_at_ms=t.occurred_at_ms, origin_partition=0, origin_offset=number,
    )  # fmt: skip
