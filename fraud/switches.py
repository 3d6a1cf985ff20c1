"""The switches of "Break it": ways of being wrong on purpose, and which of them are on, folded from the topic `control`.

Rule 1. A switch is data: its name, whose rule it replaces, what will happen, and which panel shows it. Nothing is on by itself.
Rule 2. Whoever reads `control` from its beginning gets the same switches on, after a restart too. What is already so stays so.
Rule 3. A switch changes what is sent, compared or learned; the state of cards and terminals is right whatever is on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fraud.control import ControlRequest, SetSwitch


class Side(StrEnum):
    """Whose rule a switch replaces: the feature worker's, the parity meter's, or the trainer's."""

    SERVING = "serving"
    METER = "meter"
    TRAINING = "training"


@dataclass(frozen=True, slots=True)
class Switch:
    """One way of being wrong. effect: what will happen; panel: where it shows; both for people."""

    name: str
    side: Side
    effect: str
    panel: str

    @property
    def guide(self) -> str:
        """Where docs/ tells more."""
        return f"docs/break-it.md#{self.name}"


WALL_CLOCK: Final = Switch(
    "wall-clock",
    Side.SERVING,
    "Windows end at the server's clock instead of the transaction's own time: whenever the two are apart, in a simulated world or "
    "in a backlog, histories look empty or a month too long.",
    "Health: parity meter, nearly every feature",
)
HOPPING_WINDOWS: Final = Switch(
    "hopping-windows",
    Side.SERVING,
    "Windows end at the last full five minutes: what happened since is in none of them, so a burst of small payments is over "
    "before its count begins to rise.",
    "Health: parity meter, the features of windows",
)
FLOAT_SUMS: Final = Switch(
    "float-sums",
    Side.SERVING,
    "Sums are kept as 32-bit floating-point euros instead of whole cents: small errors that grow with a card's history, and nobody "
    "gets the same bits again.",
    "Health: parity meter, sums, means and deviations",
)
LATE_DROPPED: Final = Switch(
    "late-events-dropped",
    Side.SERVING,
    "A transaction that arrives behind its card's newest is scored, and then forgotten: later windows do not count it.",
    "Health: parity meter, once a late transaction has come (Health: late)",
)
EVENT_TIME_REPLAY: Final = Switch(
    "event-time-replay",
    Side.METER,
    "The offline computation sorts the transactions by event time instead of taking the log's order: it counts late ones for "
    "transactions that were scored before they had arrived, which serving can never do.",
    "Health: parity meter, once a late transaction has come (Health: late)",
)
LABELS_AT_ONCE: Final = Switch(
    "labels-known-at-once",
    Side.TRAINING,
    "The next training takes every label as known when its transaction happened, and what has none as genuine: it is judged on "
    "days whose frauds nobody has reported yet.",
    "Models: promised beside delivered, of the version that is marked",
)
RANDOM_SPLIT: Final = Switch(
    "random-split",
    Side.TRAINING,
    "The next training judges itself on transactions drawn at random from the days that it learns from: the same attack stands on "
    "both sides, and the promise is too good.",
    "Models: promised beside delivered, of the version that is marked",
)
SWITCHES: Final = (
    WALL_CLOCK,
    HOPPING_WINDOWS,
    FLOAT_SUMS,
    LATE_DROPPED,
    EVENT_TIME_REPLAY,
    LABELS_AT_ONCE,
    RANDOM_SPLIT,
)
BY_NAME: Final = {switch.name: switch for switch in SWITCHES}
_AND: Final = "+"
META: Final = "switches"  # in the meta of a packed record, and the lake's column: the names that were in force


class UnknownSwitchError(ValueError):
    """There is no switch of that name; the message lists those that there are."""


def switch_named(name: str) -> Switch:
    """The switch of a name. Raises UnknownSwitchError."""
    found = BY_NAME.get(name)
    if found is None:
        raise UnknownSwitchError(f"there is no switch {name[:80]!r}: choose one of {', '.join(BY_NAME)}")
    return found


@dataclass(frozen=True, slots=True)
class TurnedOn:
    """Since when a switch is on: the append time and the offset of its request in `control`."""

    since_ms: int
    offset: int


class SwitchBoard:
    """The fold.

    >>> board = SwitchBoard()
    >>> board.apply(SetSwitch("a", 0, "float-sums", True), 1_000, 7)
    >>> board.names(Side.SERVING), board.on["float-sums"].offset
    (('float-sums',), 7)
    """

    def __init__(self) -> None:
        self.on: dict[str, TurnedOn] = {}

    def apply(self, request: ControlRequest, appended_at_ms: int, offset: int) -> None:
        """Take the next request; a switch of another release, that this one does not have, is passed over."""
        if not isinstance(request, SetSwitch) or request.name not in BY_NAME:
            return
        if request.on:
            self.on.setdefault(request.name, TurnedOn(appended_at_ms, offset))
        else:
            self.on.pop(request.name, None)

    def names(self, *sides: Side) -> tuple[str, ...]:
        """What is on of these sides, in the order of SWITCHES."""
        return tuple(switch.name for switch in SWITCHES if switch.name in self.on and switch.side in sides)


def names_in(words: str) -> tuple[str, ...]:
    """The names in a column of the lake."""
    return tuple(words.split(_AND))


def in_words(names: Iterable[str]) -> str:
    """Names as they stand in one column of the lake."""
    return _AND.join(names)
