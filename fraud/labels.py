"""A label: fraud or not, and the moment it became known.

Rule 1. `known_at_ms` is event time: nothing before it may use the label, in training or in a feature.
Rule 2. A label names its transaction's terminal and time, so that the terminal's log can find it.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fraud.dead_letters import BadMessageError, Reason
from fraud.wire import CLOCK_SKEW_MAX_MS, check_id, check_time, decode_strictly

SCHEMA_VERSION: Final = 1
LabelSource = Literal["benchmark", "analyst", "customer_report", "chargeback"]


class Label(msgspec.Struct, frozen=True, gc=False):
    """What became known of one transaction.

    occurred_at_ms: the transaction's event time. known_at_ms: event time from which the label may be used,
    not before occurred_at_ms and at most 5 minutes after sent_at_ms, the sender's clock. All epoch milliseconds.
    """

    transaction_id: str
    card_id: str
    terminal_id: str
    occurred_at_ms: int
    is_fraud: bool
    known_at_ms: int
    source: LabelSource
    sent_at_ms: int
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """The message as it stands in the `labels` topic."""
        return _encode(self)


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Label)
_QUOTES: Final = 2 * 9 + 2 * 4


def parse_label(raw: bytes | None, key: bytes | None) -> Label:
    """Decode and check one record of `labels`; its key must be the terminal's id.

    Raises BadMessageError with the reason for its dead letter.
    """
    label = decode_strictly(raw, _decoder, lambda _: _QUOTES)
    if label.schema_version != SCHEMA_VERSION:
        raise BadMessageError(Reason.SCHEMA_UNKNOWN, f"schema_version is {label.schema_version}")
    check_id("transaction_id", label.transaction_id)
    check_id("card_id", label.card_id)
    check_id("terminal_id", label.terminal_id)
    check_time("occurred_at_ms", label.occurred_at_ms)
    check_time("known_at_ms", label.known_at_ms)
    check_time("sent_at_ms", label.sent_at_ms)
    if label.known_at_ms < label.occurred_at_ms:
        raise BadMessageError(Reason.TIME_OUT_OF_RANGE, "known_at_ms is before occurred_at_ms")
    if label.known_at_ms - label.sent_at_ms > CLOCK_SKEW_MAX_MS:
        raise BadMessageError(
            Reason.TIME_FROM_FUTURE, "known_at_ms is after sent_at_ms: what is not known yet cannot be sent"
        )
    if key is None or key != label.terminal_id.encode():
        raise BadMessageError(
            Reason.KEY_MISMATCH, f"key is {key[:80] if key else key!r}, terminal_id {label.terminal_id}"
        )
    return label
