"""What a stage is: a deterministic step from fetched records to writes and one effect on the state.

Rule 1. A stage does no I/O: it decodes, folds in memory and says what to write; stream_features/lane_runner.py acts.
Rule 2. From the same state and the same records a stage says the same writes, whatever the size of its batches.
Rule 3. A stage whose step did not take effect is thrown away: its memory is ahead of the stored state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from adapters import state_store
from adapters.kafka import Record, dead_letter, partition_for
from adapters.state_store import Effect, StageState
from fraud.dead_letters import BadMessageError
from fraud.features import FEATURE_HASH
from fraud.packed import ROWS_MAX, Column, pack
from fraud.switches import META
from fraud.topics import Topic, dead_letter_topic

Write = tuple[str, int, Sequence[Record]]
D = TypeVar("D")


class FeatureHashMismatchError(RuntimeError):
    """A record was written under another feature definition than this program has."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One dead letter to be: its reason, and the record's key, bytes and source (topic, partition, offset)."""

    error: BadMessageError
    key: bytes | None
    raw: bytes | None
    source: tuple[str, int, int]


@dataclass(slots=True)
class Step:
    """What one batch of records asks for: writes, then one effect. `late`: rows behind their entity's newest."""

    writes: list[Write]
    effect: Effect
    refused: list[Refused] = field(default_factory=list)
    late: int = 0


class Stage(Protocol[D]):
    """One stage of one source partition. `next` is the offset after the last record that took effect."""

    name: Final[state_store.Stage]  # type: ignore[misc]  # a protocol cannot assign it
    source: Final[Topic]  # type: ignore[misc]  # a protocol cannot assign it
    state: StageState

    def decode(self, records: Sequence[Any]) -> D:
        """Decode consecutive records of the source partition."""

    def missing(self, decoded: D) -> list[str]:
        """Entities of the batch that are not in memory."""

    def load(self, logs: Sequence[tuple[str, bytes]]) -> None:
        """Put the entities' stored histories into memory: (entity id, append log)."""

    def step(self, decoded: D) -> Step:
        """Fold the batch in memory."""

    def settle(self, effect: Effect) -> None:
        """The effect stands in the state: move on."""

    def cached(self) -> int:
        """Entities in memory."""


def dead_letter_writes(topic: Topic, refused: Sequence[Refused]) -> list[Write]:
    """The records of the dead-letter topic of `topic`."""
    if not refused:
        return []
    return [(dead_letter_topic(topic).name, 0, [dead_letter(r.error, r.key, r.raw, r.source) for r in refused])]


def packed_writes(
    topic: Topic,
    kind: str,
    partitions: Sequence[int],
    columns: dict[str, Column],
    now_ms: int,
    switches: Sequence[str] = (),
) -> list[Write]:
    """Pack rows into records of at most ROWS_MAX rows; partitions: the target partition of each row.

    switches: under which any of the vectors was computed; named in the meta of each record.
    """
    meta: dict[str, Any] = {"feature_hash": FEATURE_HASH, "stage_at_ms": now_ms}
    if switches:
        meta[META] = list(switches)
    writes: list[Write] = []
    for target in sorted(set(partitions)):
        mine = columns
        if partitions.count(target) != len(partitions):
            mine = take_rows(columns, np.flatnonzero(np.asarray(partitions) == target))
        starts = range(0, len(mine["origin_offset"]), ROWS_MAX)
        chunks = ({name: c[at : at + ROWS_MAX] for name, c in mine.items()} for at in starts)
        writes.append((topic.name, target, [(None, pack(kind, chunk, meta), []) for chunk in chunks]))
    return writes


def take_rows(columns: dict[str, Column], rows: np.ndarray[Any, Any]) -> dict[str, Column]:
    """The rows at the given indices of every column."""
    picked = rows.tolist()
    return {name: [c[i] for i in picked] if isinstance(c, list) else c[rows] for name, c in columns.items()}


def target_partitions(terminal_ids: Sequence[str], partitions: int) -> list[int]:
    """Where the terminals' rows go in `terminal-log`."""
    return [0] * len(terminal_ids) if partitions == 1 else [partition_for(t, partitions) for t in terminal_ids]


def wall_clock_ms() -> int:
    """Epoch milliseconds now: only for the stage times in a packed record's meta, which no feature reads."""
    return int(time.time() * 1000)


Clock = Callable[[], int]
