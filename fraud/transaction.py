"""A transaction: one payment attempt, as an event.

Rule 1. Money is an integer in minor units of one ledger currency: amounts of two currencies cannot be summed.
Rule 2. `occurred_at_ms` is event time; `sent_at_ms` is the producer's clock, simulated or real, when it sent the message.
Rule 3. Version 1 says who paid where and how much; version 2 adds the merchant, the place and the device. Both are read,
        for ever; in a message of version 1 the later fields count as absent.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal

import msgspec

from fraud.dead_letters import BadMessageError, Reason
from fraud.wire import CLOCK_SKEW_MAX_MS, check_id, check_time, decode_strictly

BARE_VERSION: Final = 1
PLACED_VERSION: Final = 2
LEDGER_CURRENCY: Final = "EUR"
AMOUNT_MINOR_MAX: Final = 10**12
LATITUDE_MAX_CDEG: Final = 90_00
LONGITUDE_MAX_CDEG: Final = 180_00
Channel = Literal["card_present", "online"]


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """One payment attempt.

    transaction_id, card_id, terminal_id: 1 .. 64 characters of A-Z a-z 0-9 . _ - (a token, never a card number).
    amount_minor: 0 .. 10^12, cents for EUR; 0 is a card verification. currency: the ledger's, ISO 4217.
    occurred_at_ms, sent_at_ms: epoch milliseconds.

    From version 2 on, None in version 1:
    merchant_id: who is paid, as the ids above. mcc: the merchant's category, ISO 18245, four digits.
    country: where the merchant sells, ISO 3166-1 alpha-2. channel: in a shop, or online.
    device_id: the device that was paid with, as the ids above; None where none was seen.
    latitude_cdeg, longitude_cdeg: where the payer was, in hundredths of a degree (about a kilometre: a coarse cell, no address);
    -9000 .. 9000 and -18000 .. 18000, both or neither.
    """

    transaction_id: str
    card_id: str
    terminal_id: str
    amount_minor: int
    currency: str
    occurred_at_ms: int
    sent_at_ms: int
    schema_version: int = BARE_VERSION
    merchant_id: str | None = None
    mcc: str | None = None
    country: str | None = None
    channel: Channel | None = None
    device_id: str | None = None
    latitude_cdeg: int | None = None
    longitude_cdeg: int | None = None

    def to_json(self) -> bytes:
        """The message as it stands in the `transactions` topic, with the fields of its version."""
        if self.schema_version == BARE_VERSION:
            return _encode({name: getattr(self, name) for name in BARE_FIELDS})
        return _encode(self)


FIELDS: Final = Transaction.__struct_fields__
BARE_FIELDS: Final = FIELDS[: FIELDS.index("schema_version") + 1]
PLACED_FIELDS: Final = FIELDS[len(BARE_FIELDS) :]
QUOTES_BARE: Final = 2 * len(BARE_FIELDS) + 2 * 4  # double quotes in a message with exactly its version's fields
QUOTES_PLACED: Final = 2 * len(FIELDS) + 2 * 8  # and two more with a device
_REQUIRED: Final = ("merchant_id", "mcc", "country", "channel")
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Transaction)
is_mcc = re.compile(r"\A[0-9]{4}\Z").match
is_country = re.compile(r"\A[A-Z]{2}\Z").match


def parse_transaction(raw: bytes | None, key: bytes | None) -> Transaction:
    """Decode and check one record of `transactions`; its key must be the card's id.

    Raises BadMessageError with the reason for its dead letter.
    """
    transaction = decode_transaction(raw)
    if key is None or key != transaction.card_id.encode():
        raise BadMessageError(
            Reason.KEY_MISMATCH, f"key is {key[:80] if key else key!r}, card_id {transaction.card_id}"
        )
    return transaction


def decode_transaction(raw: bytes | None) -> Transaction:
    """Decode and check one message that has no key, because it is asked about and not written to the log.

    Raises BadMessageError with the reason.
    """
    transaction = decode_strictly(raw, _decoder, _quotes)
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
    if transaction.schema_version == PLACED_VERSION:
        _check_place(transaction)
    elif any(getattr(transaction, name) is not None for name in PLACED_FIELDS):
        transaction = Transaction(*(getattr(transaction, name) for name in BARE_FIELDS))
    return transaction


def _check_place(transaction: Transaction) -> None:
    for name in _REQUIRED:
        if getattr(transaction, name) is None:
            raise BadMessageError(Reason.FIELD_MISSING, f"{name} is missing, version 2 has it")
    check_id("merchant_id", transaction.merchant_id or "")
    if transaction.device_id is not None:
        check_id("device_id", transaction.device_id)
    mcc, country = transaction.mcc or "", transaction.country or ""
    if is_mcc(mcc) is None:
        raise BadMessageError(Reason.PLACE_INVALID, f"mcc is {mcc[:16]!r}, four digits are expected")
    if is_country(country) is None:
        raise BadMessageError(Reason.PLACE_INVALID, f"country is {country[:16]!r}, two capitals are expected")
    latitude, longitude = transaction.latitude_cdeg, transaction.longitude_cdeg
    if latitude is None and longitude is None:
        return
    if latitude is None or longitude is None:
        raise BadMessageError(Reason.PLACE_INVALID, "one of latitude_cdeg and longitude_cdeg is missing")
    if abs(latitude) > LATITUDE_MAX_CDEG or abs(longitude) > LONGITUDE_MAX_CDEG:
        raise BadMessageError(Reason.PLACE_INVALID, f"latitude_cdeg is {latitude}, longitude_cdeg {longitude}")


def _quotes(transaction: Transaction) -> int:
    """Double quotes in a message with exactly its version's fields. Raises BadMessageError for another version."""
    if transaction.schema_version == BARE_VERSION:
        return QUOTES_BARE
    if transaction.schema_version != PLACED_VERSION:
        raise BadMessageError(Reason.SCHEMA_UNKNOWN, f"schema_version is {transaction.schema_version}")
    return QUOTES_PLACED if transaction.device_id is None else QUOTES_PLACED + 2


def id_hash(transaction_id: str) -> int:
    """64-bit hash of a transaction id (BLAKE2b, first 8 bytes, little endian): the same on every machine and day."""
    return int.from_bytes(hashlib.blake2b(transaction_id.encode(), digest_size=8).digest(), "little")
