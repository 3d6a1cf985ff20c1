"""The wrong ways of serving: what a vector becomes under the switches of "Break it", from the true history of its entity.

Rule 1. History and transaction are true, and stay so: a wrong way reads them wrongly. So right is at once right again.
Rule 2. A wrong way uses the true fold wherever it is not wrong itself: it differs in the one rule that it breaks.
Rule 3. Slow is fine: a fold is built for each transaction. Nothing here runs while no switch is on.
Rule 4. Of several ways, each breaks what the ones before have left: late events, then the clock, then windows, then sums.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud import fold_kernel as kernel
from fraud.columns import CardColumns, Int64s
from fraud.features import CARD_HABIT, CARD_HISTORY, CARD_NAMES, REQUEST_NAMES, TERMINAL_HISTORY, TERMINAL_NAMES, VIEWS
from fraud.fold import CardFold, TerminalFold, Vectors
from fraud.switches import FLOAT_SUMS, HOPPING_WINDOWS, LATE_DROPPED, WALL_CLOCK
from fraud.windows import MINUTE_MS, Window

HOP_MS: Final = 5 * MINUTE_MS
CARD_COLUMNS: Final = (*REQUEST_NAMES, *CARD_NAMES)

_IN_WINDOWS: Final = frozenset(
    f"{view.entity}_{a.name}_{window.name}"
    for view in VIEWS
    for window in view.windows
    for a in view.aggregates
    if a.windowed
)
_ROWS_AT_START: Final = 64
Cents = npt.NDArray[np.float32]


def of_windows(names: Collection[str]) -> Int64s:
    """Which columns are read from windows."""
    return np.array([i for i, name in enumerate(names) if name in _IN_WINDOWS], np.int64)


_CARD_WINDOWS: Final = of_windows(CARD_COLUMNS)
_TERMINAL_WINDOWS: Final = of_windows(TERMINAL_NAMES)


def without(history: Int64s, dropped: Collection[int]) -> Int64s:
    """A history without the events of these id hashes (as int64), and what became known of them."""
    if not dropped:
        return history
    kept: Int64s = history[~np.isin(history[:, kernel.HASH], np.fromiter(dropped, np.int64, len(dropped)))]
    return kept


def card_vector(
    ways: Collection[str], history: Int64s, transaction: CardColumns, ingested_at_ms: int, dropped: Collection[int]
) -> Vectors:
    """The vector, float32 [request + card features], of one transaction under these ways.

    history: the card's before it (CardFold.history). transaction: one row. ingested_at_ms: wall clock, when the log took it.
    dropped: id hashes, as int64, of the card's transactions that arrived late and were forgotten.
    """
    events = without(history, dropped if LATE_DROPPED.name in ways else ())
    at_ms = ingested_at_ms if WALL_CLOCK.name in ways else int(transaction.occurred_at_ms[0])

    def read(time_ms: int) -> Vectors:
        fold = CardFold(rows=_ROWS_AT_START, keep_changes=False)
        fold.load("it", _log(events, time_ms, CardFold.span_ms))
        return fold.read("it", replace(transaction, occurred_at_ms=np.array([time_ms])))

    vector, end_ms = _hopped(ways, read, at_ms, _CARD_WINDOWS)
    if FLOAT_SUMS.name in ways:
        _float_card_sums(vector, events, end_ms, int(transaction.amount_minor[0]))
    return vector


def terminal_vector(
    ways: Collection[str], history: Int64s, occurred_at_ms: int, ingested_at_ms: int, dropped: Collection[int]
) -> Vectors:
    """The vector, float32 [terminal features], of a transaction under these ways; see card_vector."""
    events = without(history, dropped if LATE_DROPPED.name in ways else ())
    at_ms = ingested_at_ms if WALL_CLOCK.name in ways else occurred_at_ms

    def read(time_ms: int) -> Vectors:
        fold = TerminalFold(rows=_ROWS_AT_START, keep_changes=False)
        fold.load("it", _log(events, time_ms, TerminalFold.span_ms))
        return fold.read("it", time_ms)

    vector, end_ms = _hopped(ways, read, at_ms, _TERMINAL_WINDOWS)
    if FLOAT_SUMS.name in ways:
        times, euros = _paid(events)
        for window in TERMINAL_HISTORY.windows:
            _, total, _ = _float_window(times, euros, end_ms, window)
            vector[TERMINAL_NAMES.index(f"terminal_sum_amount_minor_{window.name}")] = total * np.float32(100)
    return vector


def _hopped(
    ways: Collection[str], read: Callable[[int], Vectors], at_ms: int, in_windows: Int64s
) -> tuple[Vectors, int]:
    """What is read at a time, and where its windows end."""
    vector = read(at_ms)
    if HOPPING_WINDOWS.name not in ways:
        return vector, at_ms
    end_ms = at_ms // HOP_MS * HOP_MS
    vector[in_windows] = read(end_ms)[in_windows]
    return vector, end_ms


def _log(events: Int64s, time_ms: int, span_ms: int) -> bytes:
    """A history as load() takes it; nothing of it where the fold would refuse to look back that far."""
    if len(events) and time_ms < events[:, kernel.TIME].max() - span_ms:
        events = events[:0]
    return events.astype("<i8").tobytes()


def _paid(events: Int64s) -> tuple[Int64s, Cents]:
    """Times and amounts in euros, 32 bits wide, of a history's transactions."""
    paid = events[events[:, kernel.AMOUNT] >= 0]
    return paid[:, kernel.TIME], paid[:, kernel.AMOUNT].astype(np.float32) / np.float32(100)


def _float_window(times: Int64s, euros: Cents, end_ms: int, window: Window) -> tuple[int, np.float32, np.float32]:
    """Count, sum and sum of squares of a window as the difference of running totals: the kernel's way, with floats."""
    first, last = np.searchsorted(times, [end_ms - window.length_ms, end_ms], side="right").tolist()
    totals, squares = (
        np.concatenate([np.zeros(1, np.float32), np.cumsum(of, dtype=np.float32)]) for of in (euros, euros * euros)
    )
    return last - first, totals[last] - totals[first], squares[last] - squares[first]


def _float_card_sums(vector: Vectors, events: Int64s, end_ms: int, amount_minor: int) -> None:
    """Put sums, means and deviations of floating-point euros in the place of the exact ones."""
    times, euros = _paid(events)
    mean = deviation = np.float32(np.nan)
    for (
        window
    ) in CARD_HISTORY.windows:  # ascending: what is left after the loop is of the longest, which habits are read in
        count, total, squares = _float_window(times, euros, end_ms, window)
        if count:
            mean = total / np.float32(count)
            deviation = np.sqrt(np.maximum(squares / np.float32(count) - mean * mean, np.float32(0)))
        else:
            mean = deviation = np.float32(np.nan)
        for name, value in (("sum", total), ("mean", mean), ("std", deviation)):
            vector[CARD_COLUMNS.index(f"card_{name}_amount_minor_{window.name}")] = value * np.float32(100)
    (habit,) = CARD_HABIT.windows
    mine = np.float32(amount_minor) / np.float32(100)
    ratio = mine / mean if mean > 0 else np.nan
    distance = (mine - mean) / deviation if deviation > 0 else np.nan
    vector[CARD_COLUMNS.index(f"card_amount_over_mean_{habit.name}")] = ratio
    vector[CARD_COLUMNS.index(f"card_amount_deviations_{habit.name}")] = distance
