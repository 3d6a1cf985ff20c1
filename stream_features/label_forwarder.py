"""The label forwarder: `labels` into the log of the terminal, where their place among the transactions is decided.

Rule 1. A label enters terminal-log only when the card stage has passed its `known_at_ms` in event time, or has taken all
        that `transactions` holds. So a replay at full speed is as honest about what was known as the live stream.
Rule 2. No wall clock decides: both conditions are read from the logs and from the state.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from adapters.state_store import Effect, StageState
from fraud import packed, topics
from fraud.dead_letters import BadMessageError
from fraud.labels import Label, parse_label
from fraud.transaction import id_hash
from stream_features.stage import (
    Clock,
    Refused,
    Step,
    dead_letter_writes,
    packed_writes,
    target_partitions,
    wall_clock_ms,
)


@dataclass(slots=True)
class Labels:
    """Decoded labels in the order of the log: (offset, label), or (offset, refusal)."""

    next: int
    entries: list[tuple[int, Label | Refused]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entries)

    def split(self, count: int) -> tuple[Labels, Labels]:
        """The first `count` entries, and the rest."""
        if count == len(self.entries):
            return self, Labels(self.next)
        return Labels(self.entries[count][0], self.entries[:count]), Labels(self.next, self.entries[count:])


class LabelForwarder:
    """Forwards the labels of one partition of `labels`. `partitions`: of terminal-log."""

    name: Final = "labels"
    source: Final = topics.LABELS

    def __init__(self, partition: int, partitions: int, state: StageState, clock: Clock = wall_clock_ms) -> None:
        self.state = state
        self._partition = partition
        self._partitions = partitions
        self._clock = clock

    def decode(self, records: Sequence[Any]) -> Labels:
        """Parse the records; a bad one becomes a dead letter."""
        labels = Labels(records[-1].offset + 1)
        for record in records:
            try:
                labels.entries.append((record.offset, parse_label(record.value, record.key)))
            except BadMessageError as error:
                source = (self.source.name, self._partition, record.offset)
                labels.entries.append((record.offset, Refused(error, record.key, record.value, source)))
        return labels

    def missing(self, decoded: Labels) -> list[str]:
        """The forwarder keeps no entities."""
        return []

    def load(self, logs: Sequence[tuple[str, bytes]]) -> None:
        """The forwarder keeps no entities."""

    def step(self, decoded: Labels) -> Step:
        """Forward the good ones."""
        good = [(offset, entry) for offset, entry in decoded.entries if isinstance(entry, Label)]
        refused = [entry for _, entry in decoded.entries if isinstance(entry, Refused)]
        writes = dead_letter_writes(self.source, refused)
        newest = self.state.event_time_ms
        if good:
            labels = [label for _, label in good]
            newest = max(newest, *(label.known_at_ms for label in labels))
            columns: dict[str, packed.Column] = {
                "origin_partition": np.full(len(good), self._partition, np.int32),
                "origin_offset": np.array([offset for offset, _ in good], np.int64),
                "transaction_id": [label.transaction_id for label in labels],
                "transaction_hash": np.array([id_hash(label.transaction_id) for label in labels], np.uint64),
                "terminal_id": [label.terminal_id for label in labels],
                "occurred_at_ms": np.array([label.occurred_at_ms for label in labels], np.int64),
                "known_at_ms": np.array([label.known_at_ms for label in labels], np.int64),
                "is_fraud": np.array([label.is_fraud for label in labels], np.uint8),
            }
            targets = target_partitions([label.terminal_id for label in labels], self._partitions)
            writes += packed_writes(topics.TERMINAL_LOG, packed.LABELS, targets, columns, self._clock())
        effect = Effect(
            first=self.state.next,
            next=decoded.next,
            event_time_ms=newest,
            marks={},
            counters={"forwarded": len(good), "dead_letters": len(refused)},
            changes=(),
        )
        return Step(writes, effect, refused)

    def settle(self, effect: Effect) -> None:
        """The effect stands in the state: move on."""
        self.state = replace(self.state, next=effect.next, event_time_ms=effect.event_time_ms)

    def cached(self) -> int:
        """The forwarder keeps no entities."""
        return 0


class EventTimeGate:
    """Says how many labels may pass: see rule 1.

    progress: reads the card stage's state of every partition of `transactions`. ends: reads the log's end offsets,
    0 for a partition that holds nothing: without a state, too, there is nothing to wait for.
    """

    def __init__(
        self, progress: Callable[[], Awaitable[Sequence[StageState]]], ends: Callable[[], Awaitable[Sequence[int]]]
    ) -> None:
        self._progress = progress
        self._ends = ends
        self._reached_ms = 0  # event time that every partition has passed: it only grows

    async def released(self, labels: Labels) -> int:
        """The number of entries at the head of `labels` that may pass now."""
        count = _known_by(labels, self._reached_ms)
        return count if count == len(labels) else _known_by(labels, await self._look())

    async def _look(self) -> float:
        ends = (
            await self._ends()
        )  # before the progress, so that a label already read is after all that counts as caught up
        states = await self._progress()
        self._reached_ms = min(state.event_time_ms for state in states)
        return min(
            (state.event_time_ms for state, end in zip(states, ends, strict=True) if (state.next or 0) < end),
            default=math.inf,
        )


def _known_by(labels: Labels, at_ms: float) -> int:
    for count, (_, entry) in enumerate(labels.entries):
        if isinstance(entry, Label) and entry.known_at_ms > at_ms:
            return count
    return len(labels)
