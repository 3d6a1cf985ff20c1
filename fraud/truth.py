"""The truth about a fraud: which scenario made it. Only the world writes it, only the evaluation may read it.

Rule 1. Nothing on the way to a decision, and nothing that trains for it, reads this topic: a test looks for it.
Rule 2. There is one record for each transaction that a scenario made or changed, none for the others.
"""

from __future__ import annotations

import msgspec

from fraud.wire import check_id, check_time, decode_strictly


class Truth(msgspec.Struct, frozen=True, gc=False):
    """What the world knows of one transaction.

    scenario: name of the scenario. run_id: of a scenario that a person started, else None. occurred_at_ms: event time.
    """

    transaction_id: str
    card_id: str
    occurred_at_ms: int
    scenario: str
    run_id: str | None = None
    schema_version: int = 1

    def to_json(self) -> bytes:
        """The message as it stands in the `truth` topic."""
        return _encode(self)


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Truth)


def parse_truth(raw: bytes | None) -> Truth:
    """Decode and check one record of `truth`. Raises BadMessageError with the reason."""
    truth = decode_strictly(raw, _decoder, lambda _: -1)
    check_id("transaction_id", truth.transaction_id)
    check_time("occurred_at_ms", truth.occurred_at_ms)
    return truth
