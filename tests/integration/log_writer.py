"""Test data for archiver and trainer tests: small logs of every topic, with stated vectors.

Rule 1. What is written is a function of the seed; repeated batches are byte for byte the first ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from adapters.kafka import AsyncWriter, Record
from fraud import packed
from fraud.features import FEATURE_HASH, NAMES
from fraud.labels import Label
from fraud.transaction import Transaction
from fraud.windows import DAY_MS

BEGIN_MS = 1_522_540_800_000  # 2018-04-01


def transaction(i: int, at_ms: int) -> Transaction:
    return Transaction(f"t{i}", f"c{i % 97}", f"m{i % 53}", 100 + i % 1000, "EUR", at_ms, at_ms)


def label(of: Transaction, is_fraud: bool) -> Label:
    known = of.occurred_at_ms + 7 * DAY_MS
    return Label(of.transaction_id, of.card_id, of.terminal_id, of.occurred_at_ms, is_fraud, known, "benchmark", known)


def vectors_of(transactions: Sequence[Transaction], seed: int = 1) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    values = np.random.default_rng(seed).normal(size=(len(transactions), len(NAMES))).astype(np.float32)
    values[:, 0] = [t.amount_minor for t in transactions]
    values[::7, 5] = np.nan
    return values


def identity_columns(transactions: Sequence[Transaction], first_origin: int) -> dict[str, packed.Column]:
    """What every packed record says of its transactions, all of partition 0."""
    return {
        "origin_partition": np.zeros(len(transactions), np.int32),
        "origin_offset": np.arange(first_origin, first_origin + len(transactions)),
        "transaction_id": [t.transaction_id for t in transactions],
        "card_id": [t.card_id for t in transactions],
        "terminal_id": [t.terminal_id for t in transactions],
        "amount_minor": np.array([t.amount_minor for t in transactions]),
        "occurred_at_ms": np.array([t.occurred_at_ms for t in transactions]),
        "ingested_at_ms": np.array([t.occurred_at_ms for t in transactions]),
    }


def packed_vectors(
    transactions: Sequence[Transaction], first_origin: int, seed: int = 1, rows: int = 500
) -> list[Record]:
    """The transactions as records of `features`, `rows` to a record, origins counted from `first_origin`."""
    vectors = vectors_of(transactions, seed)
    records: list[Record] = []
    for at in range(0, len(transactions), rows):
        part = transactions[at : at + rows]
        columns = identity_columns(part, first_origin + at) | {"vector": vectors[at : at + rows]}
        records.append((None, packed.pack(packed.VECTORS, columns, {"feature_hash": FEATURE_HASH}), []))
    return records


def write(bootstrap: str, topic: str, partition: int, records: Sequence[Record]) -> None:
    """Append the records and wait for their acknowledgement."""

    async def run() -> None:
        writer = AsyncWriter(bootstrap, "test")
        await writer.start()
        try:
            await writer.write(topic, partition, records)
        finally:
            await writer.stop()

    asyncio.run(run())
