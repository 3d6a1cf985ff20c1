"""A control request: what a person asks of the running stack, as a message of the topic `control`.

Rule 1. A request has an id, so that its sender can follow it; the same id again is the same request.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fraud.wire import check_id, check_time, decode_strictly

RETRAIN: Final = "retrain"


class ControlRequest(msgspec.Struct, frozen=True, gc=False):
    """One request.

    kind: `retrain`. request_id: 1 .. 64 characters of A-Z a-z 0-9 . _ -, chosen by the sender.
    sent_at_ms: wall clock of the sender, epoch milliseconds.
    as_of_ms: the simulated moment to train for, epoch milliseconds; None: the newest that the lake allows.
    """

    kind: Literal["retrain"]
    request_id: str
    sent_at_ms: int
    as_of_ms: int | None = None

    def to_json(self) -> bytes:
        """The message as it stands in the `control` topic."""
        return _encode(self)


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(ControlRequest)
_QUOTES: Final = 2 * 4 + 2 * 2


def parse_control_request(raw: bytes | None) -> ControlRequest:
    """Decode and check one record of `control`. Raises BadMessageError with the reason."""
    request = decode_strictly(raw, _decoder, lambda _: _QUOTES)
    check_id("request_id", request.request_id)
    check_time("sent_at_ms", request.sent_at_ms)
    if request.as_of_ms is not None:
        check_time("as_of_ms", request.as_of_ms)
    return request
