"""The dead letters that the console keeps, and their replay.

Rule 1. A replay writes the original bytes, with their key, to the partition that they came from; a message that is still
        wrong comes back as a new dead letter.
Rule 2. Only public topics are replayed: what stands on an internal one is written again by the stage before it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from fraud import topics
from fraud.dead_letters import MEANING, Reason

KEPT_MAX: Final = 500
SHOWN_BYTES_MAX: Final = 16 * 1024
REPLAYED: Final = frozenset({topics.TRANSACTIONS.name, topics.LABELS.name})


class ReplayRefusedError(ValueError):
    """A dead letter that cannot be replayed; the message says why."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter. letter_id: `<topic>-<partition>-<offset>` of its own record."""

    letter_id: str
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    raw: bytes
    refused_at_ms: int


class DeadLetters:
    """The newest KEPT_MAX dead letters."""

    def __init__(self) -> None:
        self._letters: OrderedDict[str, DeadLetter] = OrderedDict()

    def add(self, record: Any) -> dict[str, Any]:
        """Keep a record of a dead-letter topic; give it as browsers get it."""
        headers = {name: value.decode(errors="replace") for name, value in record.headers}
        letter = DeadLetter(
            letter_id=f"{record.topic}-{record.partition}-{record.offset}",
            reason=headers.get("reason", ""),
            detail=headers.get("detail", ""),
            topic=headers.get("topic", ""),
            partition=_number(headers.get("partition")),
            offset=_number(headers.get("offset")),
            key=record.key,
            raw=record.value or b"",
            refused_at_ms=record.timestamp,
        )
        self._letters[letter.letter_id] = letter
        if len(self._letters) > KEPT_MAX:
            self._letters.popitem(last=False)
        return _row(letter)

    def rows(self) -> list[dict[str, Any]]:
        """All, newest first."""
        return sorted((_row(each) for each in self._letters.values()), key=lambda row: -row["refused_at_ms"])

    def get(self, letter_id: str) -> DeadLetter | None:
        """One that is kept."""
        return self._letters.get(letter_id)


def opened(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter with its bytes as text."""
    known = letter.reason in Reason.__members__.values()
    return {
        **_row(letter),
        "meaning": MEANING[Reason(letter.reason)] if known else "",
        "bytes": len(letter.raw),
        "text": letter.raw[:SHOWN_BYTES_MAX].decode(errors="backslashreplace"),
        "key": None if letter.key is None else letter.key[:200].decode(errors="backslashreplace"),
    }


def check_replay(letter: DeadLetter) -> None:
    """Raise ReplayRefusedError when it cannot be replayed."""
    if letter.topic not in REPLAYED:
        raise ReplayRefusedError(
            f"{letter.topic or 'its topic'} is internal: the stage before it writes again what is missing there"
        )
    if letter.partition < 0:
        raise ReplayRefusedError("its headers do not say which partition it came from")


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "letter_id": letter.letter_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "refused_at_ms": letter.refused_at_ms,
        "replayable": letter.topic in REPLAYED and letter.partition >= 0,
    }


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else -1
