"""Histories of cards or terminals, folded and kept: the fold's memory as a bounded cache of what is stored.

Rule 1. What is in the cache is a beginning of an entity's log. It is extended only by a log that begins with the same
        bytes; any other log (it was compacted, or the store was restored) is folded anew. So the cache changes no vector.
Rule 2. Folding goes in pieces, and between two pieces the deadline is looked at: a long history is folded over several
        requests, of which the first ones get no vector.
Rule 3. An entity of which nothing is stored is not kept: the blank one that the fold reads then is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fraud.fold_state import EntityState

EVENTS_PER_PIECE: Final = 2_000  # some 4 ms of a card's events, 2 of a terminal's


class Histories:
    """The cache over one fold. entities_max: how many it keeps at most; on reaching it, the older half is forgotten."""

    def __init__(self, fold: EntityState, entities_max: int) -> None:
        self._fold = fold
        self._entities_max = entities_max
        self._folded: dict[str, bytes] = {}
        self._piece_bytes = EVENTS_PER_PIECE * fold.event_bytes()

    def __len__(self) -> int:
        return len(self._folded)

    def knows(self, entity_id: str) -> bool:
        """Whether anything of its history is in memory."""
        return entity_id in self._folded

    def log(self, entity_id: str) -> bytes:
        """What is folded of its log, b"" for nothing."""
        return self._folded.get(entity_id, b"")

    def bring(self, entity_id: str, log: bytes, is_late: Callable[[], bool]) -> bool:
        """Fold an entity up to its log; False when `is_late` said so before the end, and what is folded so far is kept.

        Raises ValueError for a log that is not whole events.
        """
        folded = self._folded.get(entity_id)
        if folded is not None and not log.startswith(folded):
            folded = None
        if folded is None:
            if not log:
                self._forget(entity_id)
                return True
            self._make_room()
            folded = log[: self._piece_bytes]
            self._fold.load(entity_id, folded)
            self._folded[entity_id] = folded
        while len(folded) < len(log):
            if is_late():
                return False
            piece = log[len(folded) : len(folded) + self._piece_bytes]
            self._fold.extend(entity_id, piece)
            folded = log[: len(folded) + len(piece)]
            self._folded[entity_id] = folded
        return True

    def _forget(self, entity_id: str) -> None:
        if self._folded.pop(entity_id, None) is not None:
            self._fold.load(entity_id, b"")

    def _make_room(self) -> None:
        if len(self._folded) < self._entities_max:
            return
        self._fold.evict(self._entities_max // 2)
        gone = set(self._fold.missing(self._folded))
        self._folded = {entity_id: log for entity_id, log in self._folded.items() if entity_id not in gone}
