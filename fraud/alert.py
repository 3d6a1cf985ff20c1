"""An alert: a decision that is sent to a person, with the reasons for it.

Rule 1. An alert is named by the origin of its transaction (`<partition>-<offset>` in `transactions`): written again after
        a crash it has the same name, and readers keep the first.
Rule 2. A reason code is derived, never typed: a feature's name in capitals, or `RULE_` and the rule's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from fraud.features import NAMES
from fraud.wire import check_id, check_time, decode_strictly

SCHEMA_VERSION: Final = 1
FEATURE_REASONS_MAX: Final = 4


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert.

    score: in [0, 1], of the model or the rules that decided. model_version: `rules` before any model.
    reason_codes: features by falling contribution to the score, then the rules that fired.
    occurred_at_ms: event time. scored_at_ms: wall clock of the scorer. Both epoch milliseconds.
    """

    alert_id: str
    transaction_id: str
    card_id: str
    terminal_id: str
    amount_minor: int
    currency: str
    occurred_at_ms: int
    score: float
    decision: Literal["review", "decline"]
    reason_codes: tuple[str, ...]
    model_version: str
    scored_at_ms: int
    origin_partition: int
    origin_offset: int
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """The message as it stands in the `alerts` topic."""
        return _encode(self)


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Alert)


def parse_alert(raw: bytes | None) -> Alert:
    """Decode and check one record of `alerts`. Raises BadMessageError with the reason."""
    alert = decode_strictly(raw, _decoder, lambda _: -1)
    check_id("card_id", alert.card_id)
    check_time("occurred_at_ms", alert.occurred_at_ms)
    return alert


def alert_id_of(origin_partition: int, origin_offset: int) -> str:
    """The name of the alert for the transaction at this place of `transactions`."""
    return f"{origin_partition}-{origin_offset}"


def feature_reasons(contributions: npt.NDArray[np.float32], names: Sequence[str] = NAMES) -> tuple[str, ...]:
    """Codes of the features that raised the score most.

    contributions: of one row in log-odds, one per name; what follows them (XGBoost's bias) is left out.

    >>> feature_reasons(np.array([0.1, -2.0, 0.7, 9.0], np.float32), ("amount_minor", "hour", "card_count_1h"))
    ('CARD_COUNT_1H', 'AMOUNT_MINOR')
    """
    own = contributions[: len(names)]
    order = np.argsort(-own, kind="stable")[:FEATURE_REASONS_MAX]
    return tuple(names[i].upper() for i in order.tolist() if own[i] > 0)
