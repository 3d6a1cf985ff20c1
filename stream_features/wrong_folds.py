"""The stages under a switch of "Break it": wrong vectors out, the right state in.

Rule 1. Each transaction is folded by the true fold; what became of it, and what is stored, is what it would be without a switch.
Rule 2. Its vector is computed again, wrongly, from the true history before it (fraud/wrong_ways.py).
Rule 3. Which transactions were late is remembered while `late-events-dropped` is on in this process, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import structlog

from adapters.telemetry import gauge
from fraud import metrics, wrong_ways
from fraud.columns import CardColumns, Int64s, TerminalColumns
from fraud.fold import ACCEPTED, TRANSACTION, CardFold, CardResult, TerminalFold, TerminalResult, is_striking
from fraud.switches import LATE_DROPPED

Ways = Callable[[int], tuple[str, ...]]  # of a batch's first offset: the switches in force for it

log = structlog.get_logger("switches")


def right(_: int) -> tuple[str, ...]:
    """No switch, ever."""
    return ()


class InForce:
    """The switches as one stage's partition takes them: from which offset on is logged and shown. on(): what is on now."""

    def __init__(self, stage: str, partition: int, on: Callable[[], tuple[str, ...]]) -> None:
        self._where = stage, str(partition)
        self._on = on
        self._ways: tuple[str, ...] = ()

    def __call__(self, first_offset: int) -> tuple[str, ...]:
        """What is in force for the batch that begins at this offset."""
        ways = self._on()
        if ways != self._ways:
            self._changed(ways, first_offset)
        return ways

    def _changed(self, ways: tuple[str, ...], first_offset: int) -> None:
        stage, partition = self._where
        log.warning("switches", stage=stage, partition=partition, on=ways, before=self._ways, from_offset=first_offset)
        shown = gauge(metrics.SWITCH_FROM_OFFSET)
        for name in set(self._ways) - set(ways):
            shown.remove(name, *self._where)
        for name in set(ways) - set(self._ways):
            shown.labels(name, *self._where).set(first_offset)
        self._ways = ways


class _Forgotten:
    """Id hashes, as int64, of what arrived late, by entity."""

    def __init__(self) -> None:
        self._of: dict[str, set[int]] = {}

    def of(self, entity_id: str) -> set[int]:
        return self._of.get(entity_id, set())

    def note(self, ways: Sequence[str], entity_id: str, id_hash: np.uint64) -> None:
        if LATE_DROPPED.name in ways:
            self._of.setdefault(entity_id, set()).add(int(id_hash.view(np.int64)))

    def follow(self, ways: Sequence[str]) -> None:
        if self._of and LATE_DROPPED.name not in ways:
            self._of = {}


class WrongCards:
    """The cards of a stage, while a switch is on."""

    def __init__(self) -> None:
        self._late = _Forgotten()

    def apply(
        self, fold: CardFold, ways: Sequence[str], ids: list[str], told: CardColumns, ingested_at_ms: Int64s
    ) -> tuple[CardResult, npt.NDArray[np.uint8]]:
        """fold.apply(), with wrong vectors; and is_striking() of the right ones."""
        self._late.follow(ways)
        parts, striking = [], []
        for i, card_id in enumerate(ids):
            row, history = told[i : i + 1], fold.history(card_id)
            result = fold.apply([card_id], row)
            striking.append(is_striking(result.vectors, row.amount_minor))
            if result.outcome[0] == ACCEPTED:
                late = self._late.of(card_id)
                result.vectors[0] = wrong_ways.card_vector(ways, history, row, int(ingested_at_ms[i]), late)
                if result.late[0]:
                    self._late.note(ways, card_id, row.transaction_hash[0])
            parts.append(result)
        if not parts:
            return fold.apply(ids, told), np.empty(0, np.uint8)
        whole = CardResult(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("vectors", "outcome", "late"))
        )
        return whole, np.concatenate(striking)


class WrongTerminals:
    """The terminals of a stage, while a switch is on."""

    def __init__(self) -> None:
        self._late = _Forgotten()

    def apply(
        self, fold: TerminalFold, ways: Sequence[str], ids: list[str], told: TerminalColumns, ingested_at_ms: Int64s
    ) -> TerminalResult:
        """fold.apply(), with wrong vectors. ingested_at_ms: of the transactions; anything for labels."""
        self._late.follow(ways)
        parts = []
        for i, terminal_id in enumerate(ids):
            row = told[i : i + 1]
            history = fold.history(terminal_id) if row.kind[0] == TRANSACTION else None
            result = fold.apply([terminal_id], row)
            if history is not None and result.outcome[0] == ACCEPTED:
                at_ms, late = int(row.occurred_at_ms[0]), self._late.of(terminal_id)
                result.vectors[0] = wrong_ways.terminal_vector(ways, history, at_ms, int(ingested_at_ms[i]), late)
                if result.late[0]:
                    self._late.note(ways, terminal_id, row.transaction_hash[0])
            parts.append(result)
        return TerminalResult(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("vectors", "outcome", "late"))
        )
