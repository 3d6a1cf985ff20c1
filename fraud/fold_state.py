"""The state of entities: which are in memory, where their events stand, what changed since it was last stored.

Rule 1. The truth about an entity is its log of events (fraud/columns.py: 56 bytes for a card's, 32 for a terminal's); everything in
        memory is rebuilt from it.
Rule 2. A logged event is a transaction (amount_minor >= 0) or what became known of one (amount_minor -1: fraud, -2: genuine).
Rule 3. Memory is a cache: evicting an entity whose changes were taken, and loading its log again, changes no later vector.
Rule 4. Events expire by event time alone: those two spans behind their entity's newest are dropped, in memory and in the log.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

from fraud import fold_kernel as kernel
from fraud.columns import Int64s

ROWS_AT_START: Final = 4096
NOT_IN_MEMORY: Final = -1
LOG_SLACK: Final = 16
CACHE_LINE_BYTES: Final = 64

Change = tuple[str, Literal["append", "set"], bytes]


def _aligned(rows: int, words: int) -> Int64s:
    """An empty array int64 [rows, words] that begins where a cache line does: a row then spans as few lines as it can."""
    room = np.empty(rows * words + CACHE_LINE_BYTES // 8, np.int64)
    skip = -room.ctypes.data % CACHE_LINE_BYTES // 8
    return room[skip : skip + rows * words].reshape(rows, words)


class EntityState(ABC):
    """The events of the entities in memory. Its subclasses, the two folds, say what is read from them.

    rows: events that there is memory for at start; it grows as needed.
    keep_changes: whether take_changes() will be called; a backfill has nothing to store.
    """

    words: ClassVar[int]  # of a row of the pool
    event: ClassVar[tuple[str, ...]]  # the words of an event, which a row begins with
    span_ms: ClassVar[int]
    table_words: ClassVar[int]  # of what the table holds of an entity
    windows_ms: ClassVar[Int64s]  # the last is the span

    def __init__(self, *, rows: int = ROWS_AT_START, keep_changes: bool = True) -> None:
        self._pool = _aligned(rows, self.words)
        self._space = np.full(1 + kernel.CLASSES, -1, np.int64)
        self._space[0] = 0
        self._table = np.zeros((0, self.table_words), np.int64)
        self._last_used = np.zeros(0, np.int64)
        self._logged = np.zeros(0, np.int64)
        self._logged_max = np.zeros(0, np.int64)
        self._ids: list[str | None] = []
        self._unused: list[int] = []
        self._slot_of: dict[str, int] = {}
        self._uses = 0
        self._keep_changes = keep_changes
        self._changes: list[tuple[Int64s, Int64s]] = []

    def __len__(self) -> int:
        """Entities in memory."""
        return len(self._slot_of)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the events in memory and what is known of their entities are given, used or not."""
        return self._pool.nbytes + self._table.nbytes

    @property
    def used_bytes(self) -> int:
        """Those of memory_bytes that are in the chunks of entities."""
        classes = self._table[: len(self._ids), kernel.CLASS]
        rows = int(np.left_shift(1, classes[classes >= 0]).sum())
        return rows * self.words * 8 + len(self._slot_of) * self._table.shape[1] * 8

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` that are not in memory, each once, in order."""
        unique = dict.fromkeys(ids)
        absent = set(unique).difference(self._slot_of)
        return [i for i in unique if i in absent] if absent else []

    def slots(self, ids: Sequence[str]) -> Int64s:
        """The slot of each id; an entity that is not in memory begins there without events. Valid until evict()."""
        found = np.fromiter(map(self._slot_of.get, ids, repeat(NOT_IN_MEMORY)), np.int64, len(ids))
        if len(found) and found.min() == NOT_IN_MEMORY:
            self._add(self.missing(ids))
            found = np.fromiter(map(self._slot_of.__getitem__, ids), np.int64, len(ids))
        return found

    def load(self, entity_id: str, blob: bytes) -> None:
        """Put an entity's stored log in memory, in place of what memory has of it; b"" for one without history."""
        self.load_many([(entity_id, blob)])

    def load_many(self, logs: Sequence[tuple[str, bytes]]) -> None:
        """load() for many entities, each at most once. Raises ValueError for a log that is not whole events; nothing is loaded."""
        for entity_id, blob in logs:
            if len(blob) % self.event_bytes():
                raise ValueError(
                    f"log of {entity_id!r}: {len(blob)} bytes are not whole events of {self.event_bytes()}; delete it and replay"
                )
        slots = self.slots([entity_id for entity_id, _ in logs])
        self._use(slots)
        for slot in slots[self._table[slots, kernel.CLASS] >= 0].tolist():
            self._forget_events(slot)
        sizes = np.array([len(blob) // self.event_bytes() for _, blob in logs], np.int64)
        self._logged[slots] = sizes
        self._logged_max[slots] = LOG_SLACK
        words = np.frombuffer(b"".join(blob for _, blob in logs), "<i8").astype(np.int64)
        self._replay(np.repeat(slots, sizes), words.reshape(-1, len(self.event)))

    def extend(self, entity_id: str, blob: bytes) -> None:
        """Add what an entity's stored log has gained at its end since it was loaded: no change to be stored, as in load().

        Raises ValueError for bytes that are not whole events; nothing is added.
        """
        if len(blob) % self.event_bytes():
            raise ValueError(f"log of {entity_id!r}: {len(blob)} bytes are not whole events of {self.event_bytes()}")
        slots = self.slots([entity_id])
        self._use(slots)
        events = np.frombuffer(blob, "<i8").astype(np.int64).reshape(-1, len(self.event))
        self._logged[slots] += len(events)
        self._replay(np.repeat(slots, len(events)), events)

    def history(self, entity_id: str) -> Int64s:
        """The events of an entity in memory by (event time, arrival), a log that load() would take: int64 [events, words]."""
        slot = self._slot_of.get(entity_id)
        if slot is None:
            return np.empty((0, len(self.event)), np.int64)
        start, _, length = self._table[slot, : kernel.TAIL].tolist()
        return self._events(self._pool[start : start + length]).copy()  # the pool moves

    @classmethod
    def event_bytes(cls) -> int:
        """Bytes of one logged event."""
        return 8 * len(cls.event)

    def take_changes(self) -> list[Change]:
        """What must be stored of every entity changed since the last call, one change each.

        ("append", bytes): add to the entity's log. ("set", bytes): put in place of the log, which had grown to more than
        twice of what is needed. A log built in this way is what load() takes.
        """
        if not self._changes:
            return []
        slots = np.concatenate([slots for slots, _ in self._changes])
        events = np.concatenate([events for _, events in self._changes])
        self._changes = []
        order = np.argsort(slots, kind="stable")
        data = events[order].astype("<i8").tobytes()
        slots = slots[order]
        begins = np.ones(len(slots), np.bool_)
        np.not_equal(slots[1:], slots[:-1], out=begins[1:])
        starts = begins.nonzero()[0]
        touched, counts = slots[starts], np.diff(starts, append=len(slots))
        self._logged[touched] += counts
        ids: Any = map(self._ids.__getitem__, touched.tolist())
        size = self.event_bytes()
        begin, end = (starts * size).tolist(), ((starts + counts) * size).tolist()
        changes: list[Change] = [(i, "append", data[a:b]) for i, a, b in zip(ids, begin, end, strict=True)]
        for row in np.flatnonzero(self._logged[touched] > self._logged_max[touched]).tolist():
            compact = self._compacted(int(touched[row]))
            if compact is not None:
                changes[row] = (changes[row][0], "set", compact)
        return changes

    def evict(self, entities_max: int) -> int:
        """Forget the least recently used entities until at most `entities_max` are in memory; returns how many were forgotten.

        Raises ValueError while changes are untaken: they would be lost.
        """
        excess = len(self._slot_of) - entities_max
        if excess <= 0:
            return 0
        if self._changes:
            raise ValueError("evict: changes are not stored yet; call take_changes() and store them first")
        living = np.fromiter(self._slot_of.values(), np.int64, len(self._slot_of))
        oldest = living[np.argsort(self._last_used[living], kind="stable")[:excess]]
        for slot in oldest.tolist():
            entity_id = self._ids[slot]
            assert entity_id is not None
            self._forget_events(slot)
            del self._slot_of[entity_id]
            self._ids[slot] = None
            self._unused.append(slot)
        return excess

    @abstractmethod
    def _replay(self, slots: Int64s, events: Int64s) -> None:
        """Add logged events to the entities at `slots`."""

    def _table_of(self, entity_id: str, time_ms: int) -> tuple[Int64s, int]:
        """(table, slot) to read an entity at time_ms; a blank one for an entity that is not in memory."""
        slot = self._slot_of.get(entity_id)
        if slot is None:
            blank = np.zeros((1, self._table.shape[1]), np.int64)
            blank[0, kernel.CLASS] = -1
            return blank, 0
        start, _, length = self._table[slot, : kernel.TAIL].tolist()
        if length and time_ms < self._pool[start + length - 1, kernel.TIME] - self.span_ms:
            raise ValueError(
                f"{entity_id!r} at {time_ms} ms: further behind its newest transaction than {self.span_ms} ms"
            )
        return self._table, slot

    def _use(self, slots: Int64s) -> None:
        self._uses += 1
        self._last_used[slots] = self._uses

    def _note(self, slots: Int64s, events: Int64s, changed: npt.NDArray[np.bool_]) -> None:
        if self._keep_changes and changed.any():
            self._changes.append((slots, events) if changed.all() else (slots[changed], events[changed]))

    def _add(self, entity_ids: Sequence[str]) -> None:
        """Give entities that are not in memory a slot each, without events."""
        slots = [self._unused.pop() for _ in entity_ids[: len(self._unused)]]
        slots += range(len(self._ids), len(self._ids) + len(entity_ids) - len(slots))
        self._ids += [None] * (max(slots) + 1 - len(self._ids))
        while len(self._ids) > len(self._table):
            self._lengthen_tables()
        for entity_id, slot in zip(entity_ids, slots, strict=True):
            self._ids[slot] = entity_id
            self._slot_of[entity_id] = slot
        self._clear(slots)
        self._logged[slots] = 0
        self._logged_max[slots] = LOG_SLACK

    def _lengthen_tables(self) -> None:
        more = max(64, len(self._table) // 2)
        self._table = np.concatenate([self._table, np.zeros((more, self._table.shape[1]), np.int64)])
        self._last_used, self._logged, self._logged_max = (
            np.concatenate([column, np.zeros(more, np.int64)])
            for column in (self._last_used, self._logged, self._logged_max)
        )

    def _forget_events(self, slot: int) -> None:
        start, size_class = self._table[slot, : kernel.LENGTH].tolist()
        if size_class >= 0:
            kernel.free_chunk(self._pool, self._space, start, size_class)
        self._clear(slot)

    def _clear(self, slots: int | list[int]) -> None:
        self._table[slots] = 0
        self._table[slots, kernel.CLASS] = -1

    def _grow(self) -> None:
        """A bigger pool, with the chunks side by side: also where freed chunks of sizes that nobody needs are reclaimed."""
        classes = self._table[: len(self._ids), kernel.CLASS]
        if classes.max(initial=0) == kernel.CLASSES - 1:
            raise MemoryError(
                f"an entity has {2 ** (kernel.CLASSES - 1)} transactions within two spans: more are not meant"
            )
        sizes = np.left_shift(1, classes[classes >= 0])
        used = int(sizes.sum())
        largest = int(sizes.max(initial=1 << kernel.SMALLEST_CLASS))
        pool = _aligned(used + max(used // 2, 2 * largest), self.words)
        self._space[:] = -1
        self._space[0] = kernel.repack(self._pool, pool, self._table, len(self._ids))
        self._pool = pool

    def _compacted(self, slot: int) -> bytes | None:
        """The shortest log of an entity, or None if its log is at most twice as long; then it is asked again later."""
        first = kernel.first_needed(self._pool, self._table, slot, 2 * self.span_ms)
        start, _, length = self._table[slot, : kernel.TAIL].tolist()
        events = self._events(self._pool[start + first : start + length])
        size = len(events)
        self._logged_max[slot] = 2 * size + LOG_SLACK
        if self._logged[slot] <= self._logged_max[slot]:
            return None
        self._logged[slot] = size
        return events.astype("<i8").tobytes()

    def _events(self, rows: Int64s) -> Int64s:
        """Rows of the pool as logged events."""
        return rows[:, : len(self.event)]
