"""Why a message is refused: stable reason codes, and the exception that carries one.

Rule 1. A refusal depends on the message and the log alone, never on a wall clock: a replay refuses the same messages.
Rule 2. Every reason has one code and one sentence that tells a person what to mend.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Code of a refusal, as it stands in the `reason` header of a dead letter."""

    TOO_LARGE = "TOO_LARGE"
    NOT_JSON = "NOT_JSON"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    SCHEMA_UNKNOWN = "SCHEMA_UNKNOWN"
    FIELD_MISSING = "FIELD_MISSING"
    FIELD_TYPE = "FIELD_TYPE"
    ID_INVALID = "ID_INVALID"
    AMOUNT_OUT_OF_RANGE = "AMOUNT_OUT_OF_RANGE"
    CURRENCY_UNKNOWN = "CURRENCY_UNKNOWN"
    PLACE_INVALID = "PLACE_INVALID"
    TIME_OUT_OF_RANGE = "TIME_OUT_OF_RANGE"
    TIME_FROM_FUTURE = "TIME_FROM_FUTURE"
    KEY_MISMATCH = "KEY_MISMATCH"
    TOO_LATE = "TOO_LATE"
    LABEL_UNKNOWN_TRANSACTION = "LABEL_UNKNOWN_TRANSACTION"
    PACKED_INVALID = "PACKED_INVALID"


MEANING: dict[Reason, str] = {
    Reason.TOO_LARGE: "the message is longer than 16 KiB",
    Reason.NOT_JSON: "the bytes are not one JSON object in UTF-8",
    Reason.DUPLICATE_KEY: "a key stands twice in the JSON object, so its meaning is open",
    Reason.SCHEMA_UNKNOWN: "schema_version is not one that this release reads",
    Reason.FIELD_MISSING: "a required field is missing",
    Reason.FIELD_TYPE: "a field has another type than the schema says",
    Reason.ID_INVALID: "an id is empty, longer than 64 characters or has characters outside A-Z a-z 0-9 . _ -",
    Reason.AMOUNT_OUT_OF_RANGE: "amount_minor is outside 0 .. 10^12",
    Reason.CURRENCY_UNKNOWN: "the currency is not the ledger's: convert the amount before it is sent",
    Reason.PLACE_INVALID: "mcc, country or the coordinates do not have the form of version 2",
    Reason.TIME_OUT_OF_RANGE: "a time is outside 2000 .. 2100 in epoch milliseconds (seconds instead of milliseconds?)",
    Reason.TIME_FROM_FUTURE: "occurred_at_ms (of a label: known_at_ms) is more than 5 minutes after sent_at_ms",
    Reason.KEY_MISMATCH: "the record's key is missing or is not the entity's id, so its partition cannot be trusted",
    Reason.TOO_LATE: "the transaction is further behind its entity's newest than the longest window",
    Reason.LABEL_UNKNOWN_TRANSACTION: "no transaction of this terminal has the label's transaction_id",
    Reason.PACKED_INVALID: "a record of an internal topic is not a packed batch of the expected kind",
}


class BadMessageError(ValueError):
    """A message that goes to the dead-letter topic: `reason` for machines, `detail` for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
