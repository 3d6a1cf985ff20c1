"""The alerts that the console keeps: the newest ones, with what became known of each.

Rule 1. An alert that was written again after a crash is kept once: its id is its origin.
Rule 2. A place in the stream is the next offset of every partition of `alerts`, so that a browser can resume also from a
        console that was started again. What lies between and is no longer kept, is counted and said.
Rule 3. Everything is bounded: by `kept` alerts, and by KNOWN_MAX labels and verdicts, which may come before their alert.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from fraud.alert import Alert
from fraud.disposition import Disposition

KNOWN_MAX: Final = 50_000
SHOWN_AT_FIRST: Final = 100
SIMILAR_MAX: Final = 5
JUDGED_MAX: Final = 2_000  # as many alerts as a page keeps
_SAME_CARD, _SAME_TERMINAL = 1.0, 0.5

Places = dict[int, int]


@dataclass(frozen=True, slots=True)
class Told:
    """What a label says of a transaction. known_at_ms: event time."""

    is_fraud: bool
    source: str
    known_at_ms: int


@dataclass(slots=True)
class Entry:
    """An alert and where it stands in `alerts`."""

    alert: Alert
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a browser gets first. from_scratch: it must forget what it has. lost: alerts between that are no longer kept."""

    entries: list[Entry]
    from_scratch: bool
    lost: int


@dataclass(slots=True)
class AlertBook:
    """The newest `kept` alerts, in order of arrival."""

    kept: int
    places: Places = field(default_factory=dict)
    _entries: deque[Entry] = field(default_factory=deque)
    _by_id: dict[str, Entry] = field(default_factory=dict)
    _by_transaction: dict[str, Entry] = field(default_factory=dict)
    _labels: OrderedDict[str, Told] = field(default_factory=OrderedDict)
    _verdicts: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _other_scores: OrderedDict[str, dict[str, float]] = field(default_factory=OrderedDict)

    def add(self, alert: Alert, partition: int, offset: int) -> Entry | None:
        """Keep an alert; None when it is kept already."""
        self.places[partition] = max(self.places.get(partition, 0), offset + 1)
        if alert.alert_id in self._by_id:
            return None
        entry = Entry(alert, partition, offset)
        self._entries.append(entry)
        self._by_id[alert.alert_id] = self._by_transaction[alert.transaction_id] = entry
        if len(self._entries) > self.kept:
            oldest = self._entries.popleft().alert
            self._by_id.pop(oldest.alert_id, None)
            self._by_transaction.pop(oldest.transaction_id, None)
        return entry

    def label(self, transaction_id: str, told: Told) -> bool:
        """Note a label; whether it belongs to a kept alert and says something new."""
        return _note(self._labels, transaction_id, told) and transaction_id in self._by_transaction

    def verdict(self, disposition: Disposition) -> bool:
        """Note a verdict, the first of a transaction counts; whether it belongs to a kept alert."""
        if disposition.transaction_id in self._verdicts:
            return False
        _note(self._verdicts, disposition.transaction_id, disposition.verdict)
        return disposition.transaction_id in self._by_transaction

    def other_scores(self, alert_id: str, scores: dict[str, float]) -> bool:
        """Note what else scored an alert's transaction, by who did; whether the alert is kept."""
        return _note(self._other_scores, alert_id, scores) and alert_id in self._by_id

    def get(self, alert_id: str) -> Entry | None:
        """An alert that is kept."""
        return self._by_id.get(alert_id)

    def newest(self) -> Iterable[Entry]:
        """The kept alerts, newest first."""
        return reversed(self._entries)

    def values(self, entry: Entry) -> dict[str, Any]:
        """An alert as browsers get it."""
        alert = entry.alert
        told = self._labels.get(alert.transaction_id)
        return {
            "alert_id": alert.alert_id,
            "transaction_id": alert.transaction_id,
            "card_id": alert.card_id,
            "terminal_id": alert.terminal_id,
            "amount_minor": alert.amount_minor,
            "currency": alert.currency,
            "occurred_at_ms": alert.occurred_at_ms,
            "scored_at_ms": alert.scored_at_ms,
            "score": alert.score,
            "decision": alert.decision,
            "reason_codes": alert.reason_codes,
            "model_version": alert.model_version,
            "other_scores": self._other_scores.get(alert.alert_id),
            "is_fraud": None if told is None else told.is_fraud,
            "label_source": None if told is None else told.source,
            "verdict": self._verdicts.get(alert.transaction_id),
        }

    def known(self, transaction_ids: Iterable[str]) -> list[dict[str, Any]]:
        """What is known of some alerts, to be laid over what a browser has."""
        entries = [self._by_transaction[each] for each in transaction_ids if each in self._by_transaction]
        names = ("alert_id", "other_scores", "is_fraud", "label_source", "verdict")
        return [{name: self.values(entry)[name] for name in names} for entry in entries]

    def judged(self) -> list[dict[str, Any]]:
        """What is known of those of the newest alerts that have a label or a verdict."""
        newest = (entry.alert.transaction_id for entry in islice(self.newest(), JUDGED_MAX))
        return self.known(each for each in newest if each in self._labels or each in self._verdicts)

    def place(self) -> str:
        """The place after everything that is kept, as an event's id: `partition:next,...`."""
        return ",".join(f"{partition}:{at}" for partition, at in sorted(self.places.items()))

    def since(self, place: str | None) -> Resumed:
        """What came after a place; the newest ones for a browser that has none, or one of another log."""
        seen = None if place is None else _parsed(place)
        if seen is None or any(at > self.places.get(partition, 0) for partition, at in seen.items()):
            return Resumed(list(self._entries)[-SHOWN_AT_FIRST:], True, 0)
        fresh = [entry for entry in self._entries if entry.offset >= seen.get(entry.partition, 0)]
        return Resumed(fresh, False, self._lost(seen))

    def _lost(self, seen: Mapping[int, int]) -> int:
        """Offsets between a place and the oldest kept alert of each partition."""
        if len(self._entries) < self.kept:
            return 0  # nothing was ever let go
        oldest: Places = {}
        for entry in self._entries:
            oldest.setdefault(entry.partition, entry.offset)
        return sum(max(0, oldest.get(partition, at) - seen.get(partition, 0)) for partition, at in self.places.items())

    def similar(self, entry: Entry) -> list[dict[str, Any]]:
        """The kept alerts most like this one: by shared reasons (Jaccard), the same card, the same terminal."""
        likeness = ((_likeness(entry.alert, other.alert), other) for other in self._entries if other is not entry)
        found = sorted((pair for pair in likeness if pair[0] > 0), key=lambda pair: -pair[0])[:SIMILAR_MAX]
        return [self.values(other) for _, other in found]


def _likeness(one: Alert, other: Alert) -> float:
    mine, theirs = set(one.reason_codes), set(other.reason_codes)
    shared = len(mine & theirs) / len(mine | theirs) if mine | theirs else 0.0
    return (
        shared
        + (_SAME_CARD if one.card_id == other.card_id else 0)
        + (_SAME_TERMINAL if one.terminal_id == other.terminal_id else 0)
    )


def _note(notes: OrderedDict[str, Any], key: str, value: Any) -> bool:
    """Keep a value; whether it is another than before. The oldest goes when there are too many."""
    before = notes.pop(key, None)
    notes[key] = value
    if len(notes) > KNOWN_MAX:
        notes.popitem(last=False)
    return bool(before != value)


def _parsed(place: str) -> Places | None:
    """The next offsets by partition of an event's id; None when it is none."""
    try:
        pairs = [part.split(":") for part in place.split(",") if part]
        return {int(partition): int(at) for partition, at in pairs}
    except ValueError:
        return None
