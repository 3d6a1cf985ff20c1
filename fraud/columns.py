"""What the fold takes of transactions and labels: columns of numbers, and events, which are rows of 64-bit words.

Rule 1. An id counts as its 64-bit hash, a country as the two bytes of its code; 0 says that there is none.
Rule 2. An event is what an entity's log keeps of a transaction: the words of CARD_EVENT or TERMINAL_EVENT, little endian, in that
        order; with an amount stands whether it is striking, with a place what the amount was beside the card's typical one.
Rule 3. Transactions of version 1 have no merchant, device, country and place; nothing else tells them from version 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from fraud.transaction import AMOUNT_MINOR_MAX, LATITUDE_MAX_CDEG, LONGITUDE_MAX_CDEG, Transaction, id_hash

Int64s = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

CARD_EVENT: Final = (
    "occurred_at_ms", "amount_minor", "transaction_hash", "terminal_hash", "merchant_hash", "device_hash", "place",
)  # fmt: skip
TERMINAL_EVENT: Final = ("occurred_at_ms", "amount_minor", "transaction_hash", "card_hash")

TRANSACTION: Final = 0
LABEL: Final = 1
STRIKING_SHIFT: Final = 62  # of the bit in a terminal's word of the amount; amounts take 40
NOWHERE_CDEG: Final = -32768  # in both coordinates, where there is no place
_HASHES_KEPT: Final = 1 << 18  # 40 MB

_C = TypeVar("_C", "CardColumns", "TerminalColumns")


class _KnownHashes(dict[str | None, int]):
    """The hashes of ids that were met; forgotten all at once when they are too many. A plain dict: looked up without Python code."""

    def __missing__(self, known_id: str | None) -> int:
        if len(self) >= _HASHES_KEPT:
            self.clear()
        hashed = self[known_id] = 0 if known_id is None else id_hash(known_id) or 1
        return hashed


_KNOWN: Final = _KnownHashes()


def known_hash(known_id: str | None) -> int:
    """The hash of an id that comes again and again (card, terminal, merchant, device): never 0, but for None."""
    return _KNOWN[known_id]


def known_hashes(ids: Sequence[str | None]) -> Hashes:
    """known_hash of each id."""
    return np.fromiter(map(_KNOWN.__getitem__, ids), np.uint64, len(ids))


def transaction_hashes(ids: Sequence[str]) -> Hashes:
    """fraud.transaction.id_hash of each id, in half the time."""
    digests = b"".join([blake2b(i.encode(), digest_size=8).digest() for i in ids])
    return np.frombuffer(digests, "<u8").astype(np.uint64)


@lru_cache(1024)
def country_code(country: str | None) -> int:
    """The two bytes of a country's code as a number, 0 for none."""
    return 0 if country is None else int.from_bytes(country.encode(), "big")


@dataclass(frozen=True, slots=True)
class CardColumns:
    """Transactions as the cards' fold takes them, one row each.

    transaction_hash: fraud.transaction.id_hash. terminal_hash, merchant_hash, device_hash: known_hash, 0 for none.
    country: country_code, 0 for none. latitude_cdeg, longitude_cdeg: hundredths of a degree, both NOWHERE_CDEG for no place.
    """

    transaction_hash: Hashes
    occurred_at_ms: Int64s
    amount_minor: Int64s
    terminal_hash: Hashes
    merchant_hash: Hashes
    device_hash: Hashes
    country: Int64s
    latitude_cdeg: Int64s
    longitude_cdeg: Int64s

    @classmethod
    def of(cls, transactions: Sequence[Transaction]) -> CardColumns:
        """The columns of decoded messages."""
        return cls(
            transaction_hashes([t.transaction_id for t in transactions]),
            np.array([t.occurred_at_ms for t in transactions], np.int64),
            np.array([t.amount_minor for t in transactions], np.int64),
            known_hashes([t.terminal_id for t in transactions]),
            known_hashes([t.merchant_id for t in transactions]),
            known_hashes([t.device_id for t in transactions]),
            np.array([country_code(t.country) for t in transactions], np.int64),
            np.array([NOWHERE_CDEG if t.latitude_cdeg is None else t.latitude_cdeg for t in transactions], np.int64),
            np.array([NOWHERE_CDEG if t.longitude_cdeg is None else t.longitude_cdeg for t in transactions], np.int64),
        )

    @classmethod
    def bare(
        cls, transaction_hash: Any, occurred_at_ms: Any, amount_minor: Any, terminal_hash: Any = None
    ) -> CardColumns:
        """The columns of transactions of version 1; without terminals where none are told."""
        rows = len(occurred_at_ms)
        none, nowhere = np.zeros(rows, np.uint64), np.full(rows, NOWHERE_CDEG, np.int64)
        terminals = none if terminal_hash is None else np.asarray(terminal_hash, np.uint64)
        return cls(
            np.asarray(transaction_hash, np.uint64), np.asarray(occurred_at_ms, np.int64), np.asarray(amount_minor, np.int64),
            terminals, none, none, none.astype(np.int64), nowhere, nowhere,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.occurred_at_ms)

    def __getitem__(self, rows: slice | Int64s) -> CardColumns:
        return _rows_of(self, rows)

    def events(self) -> Int64s:
        """int64 [rows, CARD_EVENT]. Raises ValueError for columns of unequal length and numbers out of their range."""
        _check_lengths(self)
        _check_amounts(self.amount_minor)
        place = _packed_place(self.country, self.latitude_cdeg, self.longitude_cdeg)
        return _words(
            self.occurred_at_ms, self.amount_minor, self.transaction_hash,
            self.terminal_hash, self.merchant_hash, self.device_hash, place,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TerminalColumns:
    """Rows of a terminals' log as their fold takes them.

    kind: TRANSACTION or LABEL. occurred_at_ms of a label is its transaction's. amount_minor, card_hash (known_hash) and is_striking
    (fraud.fold.is_striking, 0 or 1) count for transactions, is_fraud (0 or 1) for labels.
    """

    kind: Bytes
    transaction_hash: Hashes
    occurred_at_ms: Int64s
    amount_minor: Int64s
    card_hash: Hashes
    is_fraud: Bytes
    is_striking: Bytes

    def __len__(self) -> int:
        return len(self.occurred_at_ms)

    def __getitem__(self, rows: slice | Int64s) -> TerminalColumns:
        return _rows_of(self, rows)

    def events(self) -> Int64s:
        """int64 [rows, TERMINAL_EVENT]. Raises ValueError for columns of unequal length and numbers out of their range."""
        _check_lengths(self)
        _check_amounts(self.amount_minor)
        told = self.amount_minor | (self.is_striking == 1).astype(np.int64) << STRIKING_SHIFT
        return _words(self.occurred_at_ms, told, self.transaction_hash, self.card_hash)


def _rows_of(columns: _C, rows: slice | Int64s) -> _C:
    return type(columns)(*(getattr(columns, field.name)[rows] for field in fields(columns)))


def _check_lengths(columns: CardColumns | TerminalColumns) -> None:
    lengths = [len(getattr(columns, field.name)) for field in fields(columns)]
    if len(set(lengths)) != 1:
        raise ValueError(f"columns of a batch have lengths {lengths}; they must be equal")


def _check_amounts(amounts: Int64s) -> None:
    if len(amounts) and not (amounts.min() >= 0 and amounts.max() <= AMOUNT_MINOR_MAX):
        raise ValueError(f"amount_minor is outside 0 .. {AMOUNT_MINOR_MAX}; refuse such transactions before the fold")


def _packed_place(country: Int64s, latitude: Int64s, longitude: Int64s) -> Int64s:
    """country in bits 0 .. 15, latitude in 16 .. 31, longitude in 32 .. 47, the two as 16-bit two's complement.

    What the fold finds of the amount when the transaction arrives takes the bits above: fraud/fold_kernel.py.
    """
    placed = (latitude != NOWHERE_CDEG) | (longitude != NOWHERE_CDEG)
    outside = placed & ((np.abs(latitude) > LATITUDE_MAX_CDEG) | (np.abs(longitude) > LONGITUDE_MAX_CDEG))
    if outside.any() or np.any((country < 0) | (country > 0xFFFF)):
        raise ValueError(
            "a place is outside the earth, or half of it is missing; refuse such transactions before the fold"
        )
    packed: Int64s = country | (latitude & 0xFFFF) << 16 | (longitude & 0xFFFF) << 32
    return packed


def _words(*columns: npt.NDArray[Any]) -> Int64s:
    words = np.empty((len(columns[0]), len(columns)), np.int64)
    for i, column in enumerate(columns):
        words[:, i] = column.view(np.int64) if column.dtype == np.uint64 else column
    return words
