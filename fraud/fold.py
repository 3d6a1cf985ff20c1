"""The fold: the only code that computes a feature.

Rule 1. A vector is read before its own transaction is added. Its window of length w holds the earlier-arrived transactions y of
        the same entity with x.t - w < y.t <= x.t (event time): tied and late transactions need no rule of their own.
Rule 2. Nothing here knows whether it runs on a stream, over a file or after a crash: equal logs give equal bits, at any batch size.
Rule 3. What happens to a transaction is decided by the log alone, in this order:
        too late   x.t < newest.t - span of its entity (30 days for a card, 35 for a terminal): not added;
        duplicate  (cards) an earlier one has its id hash and y.t > x.t - span: not added;
        accepted   read, then added. Too late comes first: how old a duplicate can be known is limited, how late one is, is not.
Rule 4. A label changes what is known of the transaction with its id hash and time (the first arrived, if several):
        expired    occurred_at_ms <= newest.t - 2 spans: no window of an acceptable transaction reaches it;
        unknown    the terminal has no such transaction (yet): the label changes nothing, then or later;
        applied    from here on. A later label that says otherwise reverses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from fraud import features
from fraud import fold_kernel as kernel
from fraud.features import FeatureView
from fraud.fold_state import EntityState, Hashes, Int64s
from fraud.transaction import AMOUNT_MINOR_MAX

ACCEPTED: Final = kernel.ACCEPTED
DUPLICATE: Final = kernel.DUPLICATE
TOO_LATE: Final = kernel.TOO_LATE
LABEL_APPLIED: Final = kernel.LABEL_APPLIED
LABEL_UNKNOWN: Final = kernel.LABEL_UNKNOWN
LABEL_EXPIRED: Final = kernel.LABEL_EXPIRED

TRANSACTION: Final = 0
LABEL: Final = 1

Vectors = npt.NDArray[np.float32]
Outcomes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# What the kernel writes, in its order: per view the aggregates of each window, then those without a window.
KERNEL_ORDER: Final[tuple[tuple[FeatureView, tuple[str, ...], tuple[str, ...]], ...]] = (
    (features.REQUEST, (), ("amount_minor", "hour", "weekday")),
    (features.CARD_HISTORY, ("count", "sum_amount_minor", "mean_amount_minor", "max_amount_minor"), ()),
    (features.CARD_HABIT, ("amount_over_mean", "amount_deviations"), ("seconds_since_last",)),
    (features.TERMINAL_HISTORY, ("count",), ()),
    (features.TERMINAL_RISK, ("matured_count", "fraud_count", "fraud_share"), ("days_since_last_fraud",)),
)
CARD_WIDTH: Final = len(features.REQUEST_NAMES) + len(features.CARD_NAMES)
TERMINAL_WIDTH: Final = len(features.TERMINAL_NAMES)


def check_kernel_order() -> None:
    """Raise TypeError when a feature view is not what the kernel writes: then the kernel must be changed with it."""
    if tuple(view for view, _, _ in KERNEL_ORDER) != features.VIEWS:
        raise TypeError("fraud/features.py has other views than fraud/fold.py: extend the kernel and KERNEL_ORDER")
    for view, windowed, single in KERNEL_ORDER:
        named = (
            tuple(a.name for a in view.aggregates if a.windowed),
            tuple(a.name for a in view.aggregates if not a.windowed),
        )
        lengths = [window.length_ms for window in view.windows]
        if named != (windowed, single) or lengths != sorted(lengths):
            raise TypeError(f"{view.entity} view {named} is not what the kernel writes, or its windows do not ascend")


def _lengths(view: FeatureView) -> Int64s:
    return np.array([window.length_ms for window in view.windows], np.int64)


@dataclass(frozen=True, slots=True)
class CardResult:
    """What became of the transactions of a batch, row by row.

    vectors: float32 [rows, request + card features], NaN where not accepted. outcome: ACCEPTED, DUPLICATE or TOO_LATE.
    late: accepted, but behind its card's newest.
    """

    vectors: Vectors
    outcome: Outcomes
    late: Mask


@dataclass(frozen=True, slots=True)
class TerminalResult:
    """What became of the transactions and labels of a batch, row by row.

    vectors: float32 [rows, terminal features], NaN for labels and where not accepted. outcome: ACCEPTED, TOO_LATE,
    LABEL_APPLIED, LABEL_UNKNOWN or LABEL_EXPIRED. late: accepted, but behind its terminal's newest.
    """

    vectors: Vectors
    outcome: Outcomes
    late: Mask


class CardFold(EntityState):
    """The cards' part of the fold: request and card features.

    >>> fold = CardFold()
    >>> hour_ms = 3_600_000
    >>> two = fold.apply(["c1", "c1"], np.array([1, 2], np.uint64), np.array([0, hour_ms]), np.array([500, 700]))
    >>> two.vectors[1, features.NAMES.index("card_sum_amount_minor_24h")].item()
    500.0
    """

    words: ClassVar[int] = kernel.CARD_WORDS
    span_ms: ClassVar[int] = features.CARD_SPAN_MS
    _history_ms: ClassVar[Int64s] = _lengths(features.CARD_HISTORY)
    _habit_ms: ClassVar[Int64s] = _lengths(features.CARD_HABIT)

    def apply(
        self, ids: list[str], transaction_hash: Hashes, occurred_at_ms: Int64s, amount_minor: Int64s
    ) -> CardResult:
        """Read and add transactions in the order given. Entities that are not in memory begin without history: load() first.

        transaction_hash: fraud.transaction.id_hash of each. amount_minor: 0 .. 10^12, else ValueError.
        """
        return self.apply_slots(self.slots(ids), transaction_hash, occurred_at_ms, amount_minor)

    def apply_slots(
        self, slots: Int64s, transaction_hash: Hashes, occurred_at_ms: Int64s, amount_minor: Int64s
    ) -> CardResult:
        """apply() for ids that slots() has already mapped."""
        slots, hashes, times, amounts = _plain(
            (slots, transaction_hash, occurred_at_ms, amount_minor), (np.int64, np.uint64, np.int64, np.int64)
        )
        self._use(slots)
        rows = len(slots)
        vectors = np.empty((rows, CARD_WIDTH), np.float32)
        outcome, late = np.zeros(rows, np.uint8), np.zeros(rows, np.bool_)
        done = 0
        while True:
            done = kernel.apply_cards(
                self._pool, self._space, self._table, slots, hashes, times, amounts,
                self._history_ms, self._habit_ms, self.span_ms, vectors, outcome, late, done,
            )  # fmt: skip
            if done == rows:
                break
            self._grow()
        added = outcome == ACCEPTED
        self._note(slots[added], times[added], amounts[added], hashes[added])
        return CardResult(vectors, outcome, late)

    def read(self, card_id: str, occurred_at_ms: int, amount_minor: int) -> Vectors:
        """The vector, float32 [request + card features], that a transaction would get now; nothing is added.

        load() first: an entity that is not in memory is read as one without history.

        Raises ValueError when it would be too late.
        """
        start, position = self._position(card_id, occurred_at_ms)
        out = np.empty((1, CARD_WIDTH), np.float32)
        column = kernel.read_request(occurred_at_ms, amount_minor, out, 0)
        kernel.read_card(
            self._pool, start, position, occurred_at_ms, amount_minor, self._history_ms, self._habit_ms, out, 0, column
        )
        vector: Vectors = out[0]
        return vector

    def _replay(self, slots: Int64s, events: npt.NDArray[np.void]) -> None:
        times, amounts, hashes = _columns(events)
        done = 0
        while True:
            done = kernel.replay_cards(
                self._pool, self._space, self._table, slots, hashes, times, amounts, self.span_ms, done
            )
            if done == len(slots):
                return
            self._grow()


class TerminalFold(EntityState):
    """The terminals' part of the fold: terminal features, among them the delayed risk that labels change."""

    words: ClassVar[int] = kernel.TERMINAL_WORDS
    span_ms: ClassVar[int] = features.TERMINAL_SPAN_MS
    _history_ms: ClassVar[Int64s] = _lengths(features.TERMINAL_HISTORY)
    _risk_ms: ClassVar[Int64s] = _lengths(features.TERMINAL_RISK)
    _delay_ms: ClassVar[int] = features.TERMINAL_RISK.delay_ms

    def apply(
        self,
        kind: npt.NDArray[np.uint8],
        ids: list[str],
        transaction_hash: Hashes,
        occurred_at_ms: Int64s,
        amount_minor: Int64s,
        is_fraud: npt.NDArray[np.uint8],
    ) -> TerminalResult:
        """Read and add transactions (kind TRANSACTION) and apply labels (kind LABEL) in the order given.

        occurred_at_ms of a label is its transaction's. amount_minor counts for transactions, is_fraud (0 or 1) for labels.
        """
        return self.apply_slots(kind, self.slots(ids), transaction_hash, occurred_at_ms, amount_minor, is_fraud)

    def apply_slots(
        self,
        kind: npt.NDArray[np.uint8],
        slots: Int64s,
        transaction_hash: Hashes,
        occurred_at_ms: Int64s,
        amount_minor: Int64s,
        is_fraud: npt.NDArray[np.uint8],
    ) -> TerminalResult:
        """apply() for ids that slots() has already mapped."""
        kind, slots, hashes, times, is_fraud, amounts = _plain(
            (kind, slots, transaction_hash, occurred_at_ms, is_fraud, amount_minor),
            (np.uint8, np.int64, np.uint64, np.int64, np.uint8, np.int64),
        )
        self._use(slots)
        rows = len(slots)
        vectors = np.empty((rows, TERMINAL_WIDTH), np.float32)
        outcome, late, changed = np.zeros(rows, np.uint8), np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
        done = 0
        while True:
            done = kernel.apply_terminals(
                self._pool, self._space, self._table, kind, slots, hashes, times, amounts, is_fraud,
                self._history_ms, self._risk_ms, self._delay_ms, self.span_ms, vectors, outcome, late, changed, done,
            )  # fmt: skip
            if done == rows:
                break
            self._grow()
        marks = np.where(is_fraud == 1, kernel.FRAUD_MARK, kernel.GENUINE_MARK)
        logged = np.where(kind == LABEL, marks, amounts)
        self._note(slots[changed], times[changed], logged[changed], hashes[changed])
        return TerminalResult(vectors, outcome, late)

    def read(self, terminal_id: str, occurred_at_ms: int) -> Vectors:
        """The vector, float32 [terminal features], that a transaction would get now; nothing is added.

        load() first: an entity that is not in memory is read as one without history.

        Raises ValueError when it would be too late.
        """
        start, position = self._position(terminal_id, occurred_at_ms)
        out = np.empty((1, TERMINAL_WIDTH), np.float32)
        kernel.read_terminal(
            self._pool, start, position, occurred_at_ms, self._history_ms, self._risk_ms, self._delay_ms, out, 0, 0
        )
        vector: Vectors = out[0]
        return vector

    def _replay(self, slots: Int64s, events: npt.NDArray[np.void]) -> None:
        times, amounts, hashes = _columns(events)
        done = 0
        while True:
            done = kernel.replay_terminals(
                self._pool, self._space, self._table, slots, hashes, times, amounts, self.span_ms, done
            )
            if done == len(slots):
                return
            self._grow()

    def _events(self, rows: Int64s) -> npt.NDArray[np.void]:
        known_fraud = rows[:, kernel.RISK] & 1
        events = super()._events(np.repeat(rows, 1 + known_fraud, axis=0))
        events["amount_minor"][(np.cumsum(1 + known_fraud) - 1)[known_fraud == 1]] = kernel.FRAUD_MARK
        return events


def _plain(columns: Sequence[npt.ArrayLike], dtypes: Sequence[npt.DTypeLike]) -> tuple[npt.NDArray[Any], ...]:
    """Copies as the kernel takes them (a view into a message is read-only and would be compiled for anew).

    Raises ValueError for columns of unequal length, and for amounts (the last column) that the kernel's integers are not made for.
    """
    plain = tuple(np.array(column, dtype) for column, dtype in zip(columns, dtypes, strict=True))
    if len({len(column) for column in plain}) != 1:
        raise ValueError(f"columns of a batch have lengths {[len(column) for column in plain]}; they must be equal")
    amounts = plain[-1]
    if len(amounts) and not (amounts.min() >= 0 and amounts.max() <= AMOUNT_MINOR_MAX):
        raise ValueError(f"amount_minor is outside 0 .. {AMOUNT_MINOR_MAX}; refuse such transactions before the fold")
    return plain


def _columns(events: npt.NDArray[np.void]) -> tuple[Int64s, Int64s, Hashes]:
    """Times, amounts and hashes of logged events, as the kernel takes them."""
    times, amounts, hashes = (
        np.ascontiguousarray(events[name]) for name in ("occurred_at_ms", "amount_minor", "transaction_hash")
    )
    return times, amounts, hashes


check_kernel_order()
