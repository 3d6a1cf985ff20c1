"""A disposition: an analyst's verdict on an alert.

Rule 1. The first disposition of a transaction counts; it becomes a label of the source `analyst`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fraud.wire import check_id, check_time, decode_strictly


class Disposition(msgspec.Struct, frozen=True, gc=False):
    """One verdict.

    verdict: `confirmed` (it is fraud) or `dismissed` (it is not). occurred_at_ms: the transaction's event time.
    sent_at_ms: wall clock of the sender. Both epoch milliseconds.
    """

    transaction_id: str
    card_id: str
    terminal_id: str
    occurred_at_ms: int
    verdict: Literal["confirmed", "dismissed"]
    sent_at_ms: int
    schema_version: int = 1

    def to_json(self) -> bytes:
        """The message as it stands in the `dispositions` topic."""
        return _encode(self)


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Disposition)


def parse_disposition(raw: bytes | None) -> Disposition:
    """Decode and check one record of `dispositions`. Raises BadMessageError with the reason."""
    disposition = decode_strictly(raw, _decoder, lambda _: -1)
    for name in ("transaction_id", "card_id", "terminal_id"):
        check_id(name, getattr(disposition, name))
    check_time("occurred_at_ms", disposition.occurred_at_ms)
    check_time("sent_at_ms", disposition.sent_at_ms)
    return disposition
