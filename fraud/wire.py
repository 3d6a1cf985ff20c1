"""Reading public JSON messages strictly: the part that transactions and labels have in common.

Rule 1. One message is one flat JSON object; what is not, is refused with a reason, never repaired.
Rule 2. Unknown fields are ignored, so that a producer may add fields before its readers know them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from fraud.dead_letters import BadMessageError, Reason

MESSAGE_BYTES_MAX: Final = 16 * 1024
ID: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
ID_PATTERN: Final = rf"\A{ID}\Z"
TIME_MIN_MS: Final = 946_684_800_000  # 2000-01-01, so epoch seconds and zero are refused
TIME_MAX_MS: Final = 4_102_444_800_000  # 2100-01-01
CLOCK_SKEW_MAX_MS: Final = 5 * 60 * 1000

_is_id = re.compile(ID_PATTERN).match
_S = TypeVar("_S", bound=msgspec.Struct)


def decode_strictly(raw: bytes | None, decoder: msgspec.json.Decoder[_S], quotes_of: Callable[[_S], int]) -> _S:
    """Decode one message.

    `quotes_of` tells the number of double quotes in such a message with exactly the schema's fields and no escapes.
    A message with that many cannot have a repeated key (each repetition adds two), so only others pay for the slow look.

    Raises BadMessageError with the reason.
    """
    if raw is None:
        raise BadMessageError(Reason.NOT_JSON, "the record has no value")
    if len(raw) > MESSAGE_BYTES_MAX:
        raise BadMessageError(Reason.TOO_LARGE, f"{len(raw)} bytes, at most {MESSAGE_BYTES_MAX}")
    try:
        message = decoder.decode(raw)
    except msgspec.ValidationError as error:
        _refuse_repeated_keys(raw)
        raise BadMessageError(_reason_of(str(error)), str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessageError(Reason.NOT_JSON, str(error)) from error
    if raw.count(b'"') != quotes_of(message):
        _refuse_repeated_keys(raw)
    return message


def check_id(field: str, value: str) -> None:
    """Refuse an id that could be confused with another or break a key: see Reason.ID_INVALID."""
    if _is_id(value) is None:
        raise BadMessageError(Reason.ID_INVALID, f"{field} is {value[:80]!r}")


def check_time(field: str, value: int) -> None:
    """Refuse a time outside 2000 .. 2100, in epoch milliseconds."""
    if not TIME_MIN_MS <= value < TIME_MAX_MS:
        raise BadMessageError(Reason.TIME_OUT_OF_RANGE, f"{field} is {value}")


def _refuse_repeated_keys(raw: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise BadMessageError(Reason.DUPLICATE_KEY, f"{key!r} stands twice")
            seen[key] = value
        return seen

    try:
        json.loads(raw, object_pairs_hook=unique)
    except BadMessageError:
        raise
    except (ValueError, RecursionError) as error:  # in what msgspec skipped: broken, too deep, thousands of digits
        raise BadMessageError(Reason.NOT_JSON, str(error)) from error


def _reason_of(error: str) -> Reason:
    if "missing required field" in error:
        return Reason.FIELD_MISSING
    if "Expected `object`" in error and " - at " not in error:
        return Reason.NOT_JSON
    return Reason.FIELD_TYPE
