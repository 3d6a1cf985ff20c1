"""The label desk: who learns what of a transaction, and when. Pure: it is told what happened and asked what is due.

Rule 1. A declined transaction never yields a label: it did not happen. One that is under review gets the analyst's verdict.
Rule 2. Every verdict and delay is drawn from the transaction's id: a desk that starts again decides alike.
Rule 3. A label that says what an earlier one has said is not sent; one that says otherwise corrects it.
Rule 4. What a person says (a disposition) counts at once, and instead of the simulated analyst.
Rule 5. What must survive a restart is told by changes(): the store keeps it in one step with the stream's position.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp
from statistics import NormalDist
from typing import Final, Literal

from fraud.alert import Alert
from fraud.disposition import Disposition
from fraud.labels import Label, LabelSource
from fraud.windows import DAY_MS, MINUTE_MS

REMEMBERED_MS: Final = 130 * DAY_MS  # longer than any label takes
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Analysts:
    """The simulated analysts.

    per_day_max: reviews of one day of event time; what is over it stays without a verdict. minutes_median, minutes_sigma:
    of the log-normal time to a verdict. minutes_max: it never takes longer. error_share: verdicts that are wrong.
    """

    per_day_max: int = 200
    minutes_median: float = 45.0
    minutes_sigma: float = 1.0
    minutes_max: float = 720.0
    error_share: float = 0.03

    def __post_init__(self) -> None:
        if self.per_day_max < 0:
            raise ValueError(f"per_day_max is {self.per_day_max}, it must be 0 or more")
        if not 0 <= self.error_share <= 1:
            raise ValueError(f"error_share is {self.error_share}, it must be 0 .. 1")
        if not (0 < self.minutes_median <= self.minutes_max and self.minutes_sigma > 0):
            raise ValueError("minutes_median must be above 0 and at most minutes_max, minutes_sigma above 0")


@dataclass(frozen=True, slots=True, order=True)
class WaitingLabel:
    """A label that will be sent when event time reaches due_ms; all times epoch milliseconds."""

    due_ms: int
    transaction_id: str
    source: LabelSource
    card_id: str
    terminal_id: str
    occurred_at_ms: int
    is_fraud: bool
    known_at_ms: int

    def label(self, sent_at_ms: int) -> Label:
        """The label as it is sent."""
        return Label(
            self.transaction_id, self.card_id, self.terminal_id, self.occurred_at_ms, self.is_fraud,
            self.known_at_ms, self.source, sent_at_ms,
        )  # fmt: skip


@dataclass(slots=True)
class Memory:
    """What the desk must remember, by transaction id, with the transaction's event time.

    frauds: as the world knows them. declined: censored. told: what the labels sent so far said.
    reviewed: reviews by day of event time.
    """

    waiting: dict[tuple[str, str], WaitingLabel] = field(default_factory=dict)
    frauds: dict[str, int] = field(default_factory=dict)
    declined: dict[str, int] = field(default_factory=dict)
    told: dict[str, tuple[int, bool]] = field(default_factory=dict)
    reviewed: dict[int, int] = field(default_factory=dict)


class LabelDesk:
    """The desk over what it remembers."""

    def __init__(self, analysts: Analysts | None = None, memory: Memory | None = None) -> None:
        self._analysts = analysts or Analysts()
        self.memory = memory or Memory()
        self._heap: list[WaitingLabel] = list(self.memory.waiting.values())
        heapq.heapify(self._heap)

    def happened(self, frauds: Iterable[tuple[str, int]], known_later: Iterable[WaitingLabel]) -> None:
        """Transactions happen: (id, event time) of those that are fraud, and what becomes known by itself."""
        for transaction_id, occurred_at_ms in frauds:
            self.memory.frauds[transaction_id] = occurred_at_ms
        for label in known_later:
            if label.transaction_id not in self.memory.declined:
                self._wait(label)

    def decided(self, alert: Alert) -> None:
        """The scorer has raised an alert."""
        if alert.decision == "decline":
            self.memory.declined[alert.transaction_id] = alert.occurred_at_ms
            for source in ("customer_report", "chargeback"):
                self.memory.waiting.pop((alert.transaction_id, source), None)
            return
        day = alert.occurred_at_ms // DAY_MS
        if self.memory.reviewed.get(day, 0) >= self._analysts.per_day_max or self._has_verdict(alert.transaction_id):
            return
        self.memory.reviewed[day] = self.memory.reviewed.get(day, 0) + 1
        known_at_ms = alert.occurred_at_ms + self._review_ms(alert.transaction_id)
        wrong = _draw(alert.transaction_id, "verdict") < self._analysts.error_share
        is_fraud = (alert.transaction_id in self.memory.frauds) != wrong
        self._wait(
            WaitingLabel(
                known_at_ms, alert.transaction_id, "analyst", alert.card_id, alert.terminal_id,
                alert.occurred_at_ms, is_fraud, known_at_ms,
            )
        )  # fmt: skip

    def disposed(self, disposition: Disposition, now_ms: int) -> None:
        """A person has given a verdict, at `now_ms` of event time."""
        told = self.memory.told.get(disposition.transaction_id)
        is_fraud = disposition.verdict == "confirmed"
        if told is not None and told[1] == is_fraud:
            return
        known_at_ms = max(now_ms, disposition.occurred_at_ms)
        self._wait(
            WaitingLabel(
                known_at_ms, disposition.transaction_id, "analyst", disposition.card_id, disposition.terminal_id,
                disposition.occurred_at_ms, is_fraud, known_at_ms,
            )
        )  # fmt: skip

    def next_due_ms(self) -> int | None:
        """When the next label is due, epoch milliseconds; None when none waits."""
        while self._heap and self.memory.waiting.get(_key(self._heap[0])) != self._heap[0]:
            heapq.heappop(self._heap)
        return self._heap[0].due_ms if self._heap else None

    def due(self, until_ms: int) -> list[WaitingLabel]:
        """The labels due at or before `until_ms`, in their order; they wait no longer."""
        labels: list[WaitingLabel] = []
        while (next_ms := self.next_due_ms()) is not None and next_ms <= until_ms:
            label = heapq.heappop(self._heap)
            del self.memory.waiting[_key(label)]
            told = self.memory.told.get(label.transaction_id)
            if told is None or told[1] != label.is_fraud:
                self.memory.told[label.transaction_id] = (label.occurred_at_ms, label.is_fraud)
                labels.append(label)
        return labels

    def forget(self, before_ms: int) -> None:
        """Forget transactions that happened before `before_ms`."""
        memory = self.memory
        for kept in (memory.frauds, memory.declined):
            for transaction_id in [each for each, at_ms in kept.items() if at_ms < before_ms]:
                del kept[transaction_id]
        for transaction_id in [each for each, (at_ms, _) in memory.told.items() if at_ms < before_ms]:
            del memory.told[transaction_id]
        for day in [day for day in memory.reviewed if day < before_ms // DAY_MS]:
            del memory.reviewed[day]

    def _wait(self, label: WaitingLabel) -> None:
        self.memory.waiting[_key(label)] = label
        heapq.heappush(self._heap, label)

    def _has_verdict(self, transaction_id: str) -> bool:
        return (transaction_id, "analyst") in self.memory.waiting or transaction_id in self.memory.told

    def _review_ms(self, transaction_id: str) -> int:
        spread = _NORMAL.inv_cdf(min(max(_draw(transaction_id, "minutes"), 1e-12), 1 - 1e-12))
        minutes = self._analysts.minutes_median * exp(self._analysts.minutes_sigma * spread)
        return int(min(minutes, self._analysts.minutes_max) * MINUTE_MS)


def _key(label: WaitingLabel) -> tuple[str, str]:
    return label.transaction_id, label.source


def _draw(transaction_id: str, purpose: Literal["verdict", "minutes"]) -> float:
    """A number in [0, 1) that belongs to a transaction and a purpose."""
    digest = hashlib.blake2b(transaction_id.encode(), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "little") / 2**64
