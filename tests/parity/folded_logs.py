"""Logs of transactions and labels, as the fold and the oracle take them, and what each of them makes of one.

Rule 1. Both sides are told the same rows; what they say is compared as bytes: (outcome, vector, late) of each row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fraud.columns import NOWHERE_CDEG, CardColumns, TerminalColumns, country_code, known_hash
from fraud.fold import LABEL, TRANSACTION, CardFold, TerminalFold
from tests.parity.oracle import CardOracle, Paid, TerminalOracle

OUTCOMES = ["accepted", "duplicate", "too late", "label applied", "label unknown", "label expired"]
NO_PLACE = (NOWHERE_CDEG, NOWHERE_CDEG)


@dataclass(frozen=True)
class Row:
    """One line of a log; `other` is the terminal that a card pays at, the card that pays at a terminal."""

    entity: str
    id_hash: int
    t: int
    amount: int
    kind: int = TRANSACTION
    is_fraud: int = 0
    other: str = "t1"
    merchant: str | None = None
    device: str | None = None
    country: str | None = None
    place: tuple[int, int] | None = None
    is_striking: int = 0

    def paid(self) -> Paid:
        return Paid(
            self.t,
            self.amount,
            self.id_hash,
            self.other,
            self.other,
            self.merchant,
            self.device,
            self.country,
            self.place,
            bool(self.is_striking),
        )


Served = tuple[str, bytes | None, bool]
Fold = CardFold | TerminalFold


def card_columns(rows: list[Row]) -> CardColumns:
    return CardColumns(
        np.array([row.id_hash for row in rows], np.uint64),
        np.array([row.t for row in rows], np.int64),
        np.array([row.amount for row in rows], np.int64),
        *(np.array([known_hash(getattr(row, n)) for row in rows], np.uint64) for n in ("other", "merchant", "device")),
        np.array([country_code(row.country) for row in rows], np.int64),
        *(np.array([(row.place or NO_PLACE)[i] for row in rows], np.int64) for i in (0, 1)),
    )


def terminal_columns(rows: list[Row]) -> TerminalColumns:
    return TerminalColumns(
        np.array([row.kind for row in rows], np.uint8),
        np.array([row.id_hash for row in rows], np.uint64),
        np.array([row.t for row in rows], np.int64),
        np.array([row.amount for row in rows], np.int64),
        np.array([known_hash(row.other) for row in rows], np.uint64),
        np.array([row.is_fraud for row in rows], np.uint8),
        np.array([row.is_striking for row in rows], np.uint8),
    )


def fold_rows(fold: Fold, rows: list[Row]) -> list[Served]:
    """(outcome, vector bytes, late) of each row, from the fold."""
    ids = [row.entity for row in rows]
    if isinstance(fold, CardFold):
        return _served(fold.apply(ids, card_columns(rows)))
    return _served(fold.apply(ids, terminal_columns(rows)))


def _served(result: Any) -> list[Served]:
    assert np.isnan(result.vectors[result.outcome != 0]).all()
    return [
        (OUTCOMES[outcome], vector.tobytes() if outcome == 0 else None, bool(late))
        for outcome, vector, late in zip(result.outcome, result.vectors, result.late, strict=True)
    ]


def expect_cards(rows: list[Row]) -> list[Served]:
    oracle = CardOracle()
    expected = [oracle.apply(row.entity, row.paid()) for row in rows]
    return [(outcome, vector.tobytes() if vector is not None else None, late) for outcome, vector, late in expected]


def expect_terminals(rows: list[Row]) -> list[Served]:
    oracle, expected = TerminalOracle(), list[Served]()
    for row in rows:
        if row.kind == LABEL:
            expected.append((oracle.label(row.entity, row.id_hash, row.t, bool(row.is_fraud)), None, False))
        else:
            outcome, vector, late = oracle.apply(row.entity, row.paid())
            expected.append((outcome, vector.tobytes() if vector is not None else None, late))
    return expected


def in_batches(fold: Fold, rows: list[Row], sizes: list[int], between: Callable[[list[Row]], None]) -> list[Served]:
    """Fold `rows` in batches of the sizes, repeated; `between(next rows)` runs before each."""
    got, at, turn = list[Served](), 0, 0
    while at < len(rows):
        batch = rows[at : at + sizes[turn % len(sizes)]]
        between(batch)
        got += fold_rows(fold, batch)
        at, turn = at + len(batch), turn + 1
    return got


class Store:
    """Stores changes as the stream's state store does, and loads what is missing."""

    def __init__(self, fold: CardFold | TerminalFold, entities_max: int) -> None:
        self.fold, self.entities_max, self.logs, self.sets = fold, entities_max, dict[str, bytes](), 0

    def between(self, batch: list[Row]) -> None:
        for entity_id, operation, blob in self.fold.take_changes():
            self.logs[entity_id] = blob if operation == "set" else self.logs.get(entity_id, b"") + blob
            self.sets += operation == "set"
        self.fold.evict(self.entities_max)
        for entity_id in self.fold.missing(row.entity for row in batch):
            self.fold.load(entity_id, self.logs.get(entity_id, b""))
