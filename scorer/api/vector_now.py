"""The vector that a transaction would get if it arrived now, from the state that the stream has stored.

Rule 1. It is the stream's own fold, read and not added to. What the stream would not score, has no vector here: a
        transaction that is too late for its card or terminal, and an id that the card has already.
Rule 2. A vector says what it includes: how far each stage was, and the newest transaction of card and terminal.
Rule 3. Without the store, what was folded of the two before is read: better than nothing for the rules, and marked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from adapters.kafka import partition_for
from fraud.columns import CardColumns, TerminalColumns, transaction_hashes
from fraud.dead_letters import BadMessageError, Reason
from fraud.features import CARD_NAMES, CARD_SPAN_MS, NAMES, REQUEST_NAMES
from fraud.fold import CARD_WIDTH, CardFold, TerminalFold, Vectors
from fraud.transaction import LEDGER_CURRENCY, Transaction
from scorer.api.histories import Histories
from scorer.api.stored_state import Stored, Wanted

TIME, AMOUNT, HASH = range(3)  # words of an event (fraud.columns.CARD_EVENT, TERMINAL_EVENT)

# What a card's vector says of the transaction itself, beside its card: without a transaction they have no value.
NEEDS_TRANSACTION: Final = (
    *REQUEST_NAMES,
    "card_amount_over_mean_30d",
    "card_amount_deviations_30d",
    "card_amount_over_recent_median",
    "card_amount_over_typical",
    "card_distance_km_since_last",
    "card_speed_kmh_since_last",
    "card_new_device",
    "card_new_country",
    "card_new_merchant",
)
OF_CARD_ALONE: Final = tuple(name for name in CARD_NAMES if name not in NEEDS_TRANSACTION)


class LateError(RuntimeError):
    """The deadline passed before the histories were folded."""


class DuplicateError(ValueError):
    """The card has this transaction id already: the stream would ignore the transaction."""


@dataclass(frozen=True, slots=True)
class Includes:
    """What a vector includes of one entity. next_offset: the first offset of its stage's source that is not in it, None for a
    stage that has not begun. event_time_ms: the newest event time of that partition; newest_at_ms: of the entity, None
    without history.
    """

    partition: int
    next_offset: int | None
    event_time_ms: int
    newest_at_ms: int | None


@dataclass(frozen=True, slots=True)
class VectorNow:
    """float32 [features in NAMES order], and what it includes of the card and the terminal."""

    values: Vectors
    card: Includes
    terminal: Includes


class VectorReader:
    """Both folds and what is cached in them. partitions: of each data topic."""

    def __init__(self, partitions: int, entities_max: int) -> None:
        self._partitions = partitions
        self._card_fold = CardFold(keep_changes=False)
        self._terminal_fold = TerminalFold(keep_changes=False)
        self._cards = Histories(self._card_fold, entities_max)
        self._terminals = Histories(self._terminal_fold, entities_max)

    def card_wanted(self, card_id: str) -> Wanted:
        """Where a card's history is stored."""
        return Wanted("card", partition_for(card_id, self._partitions), card_id)

    def terminal_wanted(self, terminal_id: str) -> Wanted:
        """Where a terminal's history is stored."""
        return Wanted("terminal", partition_for(terminal_id, self._partitions), terminal_id)

    def cached(self) -> tuple[int, int]:
        """Cards and terminals in memory."""
        return len(self._cards), len(self._terminals)

    def warm_up(self) -> None:
        """Call every kernel once, as a request does, so that none is compiled while somebody waits."""
        told = CardColumns.bare([1], [0], [1])
        of_terminal = TerminalColumns(
            np.zeros(1, np.uint8), told.transaction_hash, told.occurred_at_ms, told.amount_minor, told.terminal_hash,
            np.zeros(1, np.uint8), np.zeros(1, np.uint8),
        )  # fmt: skip
        logs = told.events().tobytes(), of_terminal.events().tobytes()
        stored = [Stored(log, None, 0) for log in logs]
        self.full(Transaction("warm-up", "", "", 1, LEDGER_CURRENCY, 0, 0), stored, lambda: False)
        for histories in (self._cards, self._terminals):
            histories.bring("", b"", lambda: False)

    def full(self, transaction: Transaction, stored: Sequence[Stored], is_late: Callable[[], bool]) -> VectorNow:
        """The vector; stored: of card_wanted and terminal_wanted.

        Raises BadMessageError (TOO_LATE), DuplicateError, LateError.
        """
        card_id, terminal_id = transaction.card_id, transaction.terminal_id
        card, terminal = stored
        _bring(self._cards, card_id, card.log, is_late)
        _bring(self._terminals, terminal_id, terminal.log, is_late)
        return VectorNow(
            self._read(transaction, card.log),
            _includes(self.card_wanted(card_id), card, self._card_fold),
            _includes(self.terminal_wanted(terminal_id), terminal, self._terminal_fold),
        )

    def of_card(
        self, card_id: str, stored: Stored, at_ms: int | None, is_late: Callable[[], bool]
    ) -> tuple[dict[str, float], int, Includes]:
        """The card's features in OF_CARD_ALONE, the event time that they are of, and what they include.

        at_ms: event time; None for the newest of the card's partition. Raises BadMessageError (TOO_LATE), LateError.
        """
        _bring(self._cards, card_id, stored.log, is_late)
        includes = _includes(self.card_wanted(card_id), stored, self._card_fold)
        at = max(includes.event_time_ms, includes.newest_at_ms or 0) if at_ms is None else at_ms
        with _refusing_lateness(f"at_ms {at}, card {card_id}"):
            vector = self._card_fold.read(card_id, CardColumns.bare([0], [at], [0]))
        told = dict(zip(NAMES[:CARD_WIDTH], vector.tolist(), strict=True))
        return {name: told[name] for name in OF_CARD_ALONE}, at, includes

    def from_memory(self, transaction: Transaction) -> tuple[Vectors, bool]:
        """The vector by what was folded before, and whether that is anything of the card. Raises as full() does."""
        known = self._cards.knows(transaction.card_id)
        return self._read(transaction, self._cards.log(transaction.card_id)), known

    def _read(self, transaction: Transaction, card_log: bytes) -> Vectors:
        at = transaction.occurred_at_ms
        with _refusing_lateness(f"occurred_at_ms {at}, card {transaction.card_id}, terminal {transaction.terminal_id}"):
            of_card = self._card_fold.read(transaction.card_id, CardColumns.of([transaction]))
            if _holds(card_log, transaction):
                raise DuplicateError(
                    f"card {transaction.card_id} has a transaction {transaction.transaction_id} within 30 days already"
                )
            of_terminal = self._terminal_fold.read(transaction.terminal_id, at)
        vector: Vectors = np.concatenate([of_card, of_terminal])
        return vector


class _refusing_lateness:  # noqa: N801 (used as a statement)
    """The fold's ValueError for what is further behind than a span becomes the stream's reason."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if type(error) is ValueError:
            raise BadMessageError(Reason.TOO_LATE, self._what) from error


def _bring(histories: Histories, entity_id: str, log: bytes, is_late: Callable[[], bool]) -> None:
    if not histories.bring(entity_id, log, is_late):
        raise LateError(
            f"the history of {entity_id} ({len(log):,} bytes) was not folded in time; the next request goes on"
        )


def _holds(card_log: bytes, transaction: Transaction) -> bool:
    """Whether an earlier transaction of the card has this id within the span: the third rule of fraud/fold.py."""
    events = np.frombuffer(card_log, "<i8").reshape(-1, CardFold.event_bytes() // 8)
    same = events[:, HASH].view(np.uint64) == transaction_hashes([transaction.transaction_id])[0]
    return bool((same & (events[:, TIME] > transaction.occurred_at_ms - CARD_SPAN_MS)).any())


def _includes(wanted: Wanted, stored: Stored, fold: CardFold | TerminalFold) -> Includes:
    events = np.frombuffer(stored.log, "<i8").reshape(-1, fold.event_bytes() // 8)
    times = events[events[:, AMOUNT] >= 0, TIME]  # without the marks of labels
    newest = int(times.max()) if len(times) else None
    return Includes(wanted.partition, stored.next, stored.event_time_ms, newest)
