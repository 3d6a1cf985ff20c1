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
Rule 5. What a transaction's amount was beside its card's typical one is found as it arrives, by rule 1, and stays with it: what arrives
        late later changes neither whether it is usual nor its ratio, nor whether it is striking for its terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from fraud import features
from fraud import fold_kernel as kernel
from fraud.columns import CARD_EVENT, TERMINAL_EVENT, CardColumns, Int64s, TerminalColumns
from fraud.columns import LABEL as LABEL
from fraud.columns import TRANSACTION as TRANSACTION
from fraud.features import FeatureView
from fraud.fold_state import EntityState

ACCEPTED: Final = kernel.ACCEPTED
DUPLICATE: Final = kernel.DUPLICATE
TOO_LATE: Final = kernel.TOO_LATE
LABEL_APPLIED: Final = kernel.LABEL_APPLIED
LABEL_UNKNOWN: Final = kernel.LABEL_UNKNOWN
LABEL_EXPIRED: Final = kernel.LABEL_EXPIRED

Vectors = npt.NDArray[np.float32]
Outcomes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# What the kernel writes, in its order: per view the aggregates of each window, then those without a window.
KERNEL_ORDER: Final[tuple[tuple[FeatureView, tuple[str, ...], tuple[str, ...]], ...]] = (
    (features.REQUEST, (), ("amount_minor", "hour", "weekday")),
    (
        features.CARD_HISTORY,
        (
            "count", "sum_amount_minor", "mean_amount_minor", "std_amount_minor", "max_amount_minor", "distinct_terminals",
            "distinct_merchants", "distinct_devices", "distinct_countries", "small_share",
        ),
        (),
    ),
    (
        features.CARD_HABIT,
        ("amount_over_mean", "amount_deviations", "night_share"),
        (
            "amount_over_recent_median", "seconds_since_last", "distance_km_since_last", "speed_kmh_since_last",
            "new_device", "new_country", "new_merchant", "age_days",
        ),
    ),
    (features.CARD_TYPICAL, ("max_amount_over_typical",), ("amount_over_typical",)),
    (features.TERMINAL_HISTORY, ("count", "sum_amount_minor", "distinct_cards", "small_share"), ()),
    (
        features.TERMINAL_RISK,
        ("matured_count", "fraud_count", "fraud_share"),
        (
            "days_since_first_fraud", "days_since_last_fraud", "fraud_streak", "unexplained_fraud_streak",
            "days_since_last_genuine",
        ),
    ),
)  # fmt: skip
KERNEL_CONSTANTS: Final = (
    "SMALL_AMOUNT_MINOR", "NIGHT_HOURS", "RECENT_AMOUNTS", "SPEED_MS_MIN", "USUAL_ALWAYS", "USUAL_TIMES_MAX",
    "TYPICAL_MINOR_MIN", "RECENT_RATIOS", "RATIO_MAX",
)  # fmt: skip
CARD_WIDTH: Final = len(features.REQUEST_NAMES) + len(features.CARD_NAMES)
TERMINAL_WIDTH: Final = len(features.TERMINAL_NAMES)
COSINES: Final = kernel.cosines()
_RATIO: Final = features.NAMES.index("card_amount_over_typical")


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
    if features.CARD_HABIT.windows != features.CARD_HISTORY.windows[-1:]:
        raise TypeError("the kernel reads a card's habits in its longest window; fraud/features.py says another")
    if features.CARD_TYPICAL.windows != features.CARD_HISTORY.windows[kernel.WEEK : kernel.WEEK + 1]:
        raise TypeError(f"the kernel reads a card's largest ratio in window {kernel.WEEK} of its history; change both")
    for name in KERNEL_CONSTANTS:
        if getattr(kernel, name) != getattr(features, name):
            raise TypeError(f"{name} differs in fraud/features.py and fraud/fold_kernel.py: change both")


def is_striking(vectors: Vectors, amount_minor: Int64s) -> npt.NDArray[np.uint8]:
    """1 for each transaction whose amount explains a fraud by itself, as the terminals' fold wants to know; else 0.

    vectors: float32 [rows, request + card features]. A card without a typical amount has a striking one only above the limit.
    """
    ratio = vectors[:, _RATIO]
    striking = (ratio > np.float32(features.STRIKING_RATIO)) | (amount_minor > features.STRIKING_AMOUNT_MINOR)
    return striking.astype(np.uint8)


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
    >>> two = CardColumns.bare([1, 2], [0, 3_600_000], [500, 700])
    >>> fold.apply(["c1", "c1"], two).vectors[1, features.NAMES.index("card_sum_amount_minor_24h")].item()
    500.0
    """

    words: ClassVar[int] = kernel.CARD_WORDS
    event: ClassVar[tuple[str, ...]] = CARD_EVENT
    span_ms: ClassVar[int] = features.CARD_SPAN_MS
    windows_ms: ClassVar[Int64s] = _lengths(features.CARD_HISTORY)
    table_words: ClassVar[int] = kernel.TAIL + len(windows_ms) * (1 + kernel.CARD_VALUES) + 2 + kernel.RECENT_RATIOS

    def apply(self, ids: list[str], columns: CardColumns) -> CardResult:
        """Read and add transactions in the order given. Entities that are not in memory begin without history: load() first.

        ids: the card of each row. Raises ValueError for columns of unequal length, or amounts or places out of their range.
        """
        return self.apply_slots(self.slots(ids), columns)

    def apply_slots(self, slots: Int64s, columns: CardColumns, vectors: Vectors | None = None) -> CardResult:
        """apply() for ids that slots() has already mapped. vectors: where they are to be written."""
        events, rows = columns.events(), len(slots)
        if len(events) != rows:
            raise ValueError(f"{rows} ids for {len(events)} transactions; their lengths must be equal")
        self._use(slots)
        vectors = np.empty((rows, CARD_WIDTH), np.float32) if vectors is None else vectors
        outcome, late = np.zeros(rows, np.uint8), np.zeros(rows, np.bool_)
        done = 0
        while True:
            done = kernel.apply_cards(
                self._pool, self._space, self._table, slots, events, self.windows_ms, COSINES, vectors, outcome, late, done
            )  # fmt: skip
            if done == rows:
                break
            self._grow()
        self._note(slots, events, outcome == ACCEPTED)
        return CardResult(vectors, outcome, late)

    def read(self, card_id: str, transaction: CardColumns) -> Vectors:
        """The vector, float32 [request + card features], that a transaction, the only row, would get now; nothing is added.

        load() first: an entity that is not in memory is read as one without history.

        Raises ValueError when it would be too late.
        """
        events = transaction.events()
        table, slot = self._table_of(card_id, int(events[0, kernel.TIME]))
        out = np.empty((1, CARD_WIDTH), np.float32)
        kernel.look_up_card(self._pool, table, slot, events, self.windows_ms, COSINES, out)
        vector: Vectors = out[0]
        return vector

    def _replay(self, slots: Int64s, events: Int64s) -> None:
        done = 0
        while True:
            done = kernel.replay_cards(self._pool, self._space, self._table, slots, events, self.windows_ms, done)
            if done == len(slots):
                return
            self._grow()


class TerminalFold(EntityState):
    """The terminals' part of the fold: terminal features, among them the delayed risk that labels change."""

    words: ClassVar[int] = kernel.TERMINAL_WORDS
    event: ClassVar[tuple[str, ...]] = TERMINAL_EVENT
    span_ms: ClassVar[int] = features.TERMINAL_SPAN_MS
    # The label delay ends the risk windows: its edge and theirs follow the lengths of the windows that end now.
    windows_ms: ClassVar[Int64s] = np.concatenate(
        [
            _lengths(features.TERMINAL_HISTORY),
            np.append(0, _lengths(features.TERMINAL_RISK)) + features.TERMINAL_RISK.delay_ms,
        ]
    )
    counted: ClassVar[int] = len(features.TERMINAL_HISTORY.windows)
    table_words: ClassVar[int] = kernel.TAIL + len(windows_ms) + counted * kernel.TERMINAL_VALUES

    def apply(self, ids: list[str], columns: TerminalColumns) -> TerminalResult:
        """Read and add transactions and apply labels in the order given; ids: the terminal of each row.

        Raises ValueError for columns of unequal length, or amounts out of their range.
        """
        return self.apply_slots(self.slots(ids), columns)

    def apply_slots(self, slots: Int64s, columns: TerminalColumns, vectors: Vectors | None = None) -> TerminalResult:
        """apply() for ids that slots() has already mapped. vectors: where they are to be written."""
        events, rows = columns.events(), len(slots)
        if len(events) != rows:
            raise ValueError(f"{rows} ids for {len(events)} rows; their lengths must be equal")
        kind, is_fraud = np.array(columns.kind, np.uint8), np.array(columns.is_fraud, np.uint8)
        self._use(slots)
        vectors = np.empty((rows, TERMINAL_WIDTH), np.float32) if vectors is None else vectors
        outcome, late, changed = np.zeros(rows, np.uint8), np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
        done = 0
        while True:
            done = kernel.apply_terminals(
                self._pool, self._space, self._table, kind, slots, events, is_fraud,
                self.windows_ms, self.counted, vectors, outcome, late, changed, done,
            )  # fmt: skip
            if done == rows:
                break
            self._grow()
        is_label = kind == LABEL
        events[is_label, kernel.AMOUNT] = np.where(is_fraud[is_label] == 1, kernel.FRAUD_MARK, kernel.GENUINE_MARK)
        events[is_label, kernel.VALUE] = 0
        self._note(slots, events, changed)
        return TerminalResult(vectors, outcome, late)

    def read(self, terminal_id: str, occurred_at_ms: int) -> Vectors:
        """The vector, float32 [terminal features], that a transaction would get now; nothing is added.

        load() first: an entity that is not in memory is read as one without history.

        Raises ValueError when it would be too late.
        """
        table, slot = self._table_of(terminal_id, occurred_at_ms)
        out = np.empty((1, TERMINAL_WIDTH), np.float32)
        kernel.look_up_terminal(self._pool, table, slot, occurred_at_ms, self.windows_ms, self.counted, out)
        vector: Vectors = out[0]
        return vector

    def _replay(self, slots: Int64s, events: Int64s) -> None:
        done = 0
        while True:
            done = kernel.replay_terminals(
                self._pool, self._space, self._table, slots, events, self.windows_ms, self.counted, done
            )
            if done == len(slots):
                return
            self._grow()

    def _events(self, rows: Int64s) -> Int64s:
        known_fraud, striking = rows[:, kernel.RISK] & kernel.KNOWN, rows[:, kernel.RISK] & kernel.STRIKING
        events = super()._events(np.repeat(rows, 1 + known_fraud, axis=0))
        events[:, kernel.AMOUNT] |= np.repeat(striking // kernel.STRIKING, 1 + known_fraud) << kernel.STRIKING_SHIFT
        marks = (np.cumsum(1 + known_fraud) - 1)[known_fraud == 1]
        events[marks, kernel.AMOUNT], events[marks, kernel.VALUE] = kernel.FRAUD_MARK, 0
        return events


check_kernel_order()
