"""A transaction: one payment attempt, as an event.

Rule 1. Money is an integer in minor units of one ledger currency: amounts of two currencies cannot be summed.
Rule 2. `occurred_at_ms` is event time; `sent_at_ms` is the producer's clock, simulated or real, when it sent the message.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from fraud.dead_letters import BadMessageError, Reason
from fraud.wire import CLOCK_SKEW_MAX_MS, check_id, check_time, decode_strictly

SCHEMA_VERSION: Final = 1
LEDGER_CURRENCY: Final = "EUR"
AMOUNT_MINOR_MAX: Final = 10**12


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """One payment attempt.

    transaction_id, card_id, terminal_id: 1 .. 64 characters of A-Z a-z 0-9 . _ - (a token, never a card number).
    amount_minor: 0 .. 10^12, cents for EUR; 0 is a card verification. currency: the ledger's, ISO 4217.
    occurred_at_ms, sent_at_ms: epoch milliseconds.
    """

    transaction_id: str
    card_id: str
    terminal_id: str
    amount_minor: int
    currency: str
    occurred_at_ms: int
    sent_at_ms: int
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """The message as it stands in the `transactions` topic."""
        return _encode(self)


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Transaction)
_QUOTES: Final = 2 * 8 + 2 * 4


def parse_transaction(raw: bytes | None, key: bytes | None) -> Transaction:
    """Decode and check one record of `transactions`; its key must be the card's id.

    Raises BadMessageError with the reason for its dead letter.
    """
    transaction = decode_strictly(raw, _decoder, _QUOTES)
    if transaction.schema_version != SCHEMA_VERSION:
        raise BadMessageError(Reason.SCHEMA_UNKNOWN, f"schema_version is {transaction.schema_version}")
    check_id("transaction_id", transaction.transaction_id)
    check_id("card_id", transaction.card_id)
    check_id("terminal_id", transaction.terminal_id)
    if not 0 <= transaction.amount_minor <= AMOUNT_MINOR_MAX:
        raise BadMessageError(Reason.AMOUNT_OUT_OF_RANGE, f"amount_minor is {transaction.amount_minor}")
    if transaction.currency != LEDGER_CURRENCY:
        raise BadMessageError(
            Reason.CURRENCY_UNKNOWN, f"currency is {transaction.currency[:16]!r}, the ledger's is {LEDGER_CURRENCY}"
        )
    check_time("occurred_at_ms", transaction.occurred_at_ms)
    check_time("sent_at_ms", transaction.sent_at_ms)
    ahead_ms = transaction.occurred_at_ms - transaction.sent_at_ms
    if ahead_ms > CLOCK_SKEW_MAX_MS:
        raise BadMessageError(Reason.TIME_FROM_FUTURE, f"occurred_at_ms is {ahead_ms} ms after sent_at_ms")
    if key is None or key != transaction.card_id.encode():
        raise BadMessageError(
            Reason.KEY_MISMATCH, f"key is {key[:80] if key else key!r}, card_id {transaction.card_id}"
        )
    return transaction


def id_hash(transaction_id: str) -> int:
    """64-bit hash of a transaction id (BLAKE2b, first 8 bytes, little endian): the same on every machine and day."""
    return int.from_bytes(hashlib.blake2b(transaction_id.encode(), digest_size=8).digest(), "little")
