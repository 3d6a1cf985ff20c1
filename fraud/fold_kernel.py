"""The fold's inner loops: events of all entities in one array of 64-bit words, compiled by numba.

Rule 1. The events of an entity stand in one chunk, ordered by (event time, arrival), each with running totals up to itself. A window
        is two positions, so in-order, tied and late transactions are read by the same code.
Rule 2. Integers are exact: totals are 64-bit, squares 128-bit in two words. Floats appear in the last division only, in float64.
Rule 3. A loop that finds no room stops before the row that needs it and says so; nothing is capped and no row is half done.

    pool    int64[rows, words]   row = one event; columns TIME, AMOUNT, HASH, then the entity's own words
    space   int64[1 + CLASSES]   rows in use, then the first free chunk of each size class (chained through TIME)
    table   int64[slots, 3]      of each entity: START of its chunk, its size CLASS (2 ** CLASS rows, -1: no chunk), LENGTH
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numpy import uint64

TIME, AMOUNT, HASH = 0, 1, 2
SUM, SQUARES_HIGH, SQUARES_LOW, GREATER, SEEN, CARD_WORDS = 3, 4, 5, 6, 7, 8
RISK, TERMINAL_WORDS = 3, 4
START, CLASS, LENGTH = 0, 1, 2
CLASSES: Final = 48
SMALLEST_CLASS: Final = 2

ACCEPTED, DUPLICATE, TOO_LATE, LABEL_APPLIED, LABEL_UNKNOWN, LABEL_EXPIRED = 0, 1, 2, 3, 4, 5
FRAUD_MARK, GENUINE_MARK = -1, -2

NAN: Final = np.float32(np.nan)
LOW_HALF: Final = uint64(0xFFFFFFFF)
HALF: Final = uint64(32)
ZERO: Final = uint64(0)
ONE: Final = uint64(1)
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
WEEKDAY_OF_1970: Final = 3  # 1 January 1970 was a Thursday, Monday is 0

Words = npt.NDArray[np.int64]
Hashes = npt.NDArray[uint64]
Vectors = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F) -> _F:
    """Compile when first called. Machine code is kept in NUMBA_CACHE_DIR, else beside the source; without a place: not kept."""
    try:
        return cast(_F, numba.njit(cache=True)(function))
    except RuntimeError:
        return cast(_F, numba.njit(function))


# -- chunks ---------------------------------------------------------------------------------------------------------------------


@compiled
def count_until(pool: Words, start: int, length: int, time_ms: int) -> int:
    """How many of the first `length` events of a chunk have TIME <= time_ms."""
    low, high = 0, length
    while low < high:
        middle = (low + high) >> 1
        if pool[start + middle, TIME] <= time_ms:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def take_chunk(pool: Words, space: Words, size_class: int) -> int:
    """Start of an unused chunk of 2 ** size_class rows; -1 when the pool is full."""
    start: int = space[1 + size_class]
    if start >= 0:
        space[1 + size_class] = pool[start, TIME]
        return start
    start = space[0]
    if start + (1 << size_class) > pool.shape[0]:
        return -1
    space[0] = start + (1 << size_class)
    return start


@compiled
def free_chunk(pool: Words, space: Words, start: int, size_class: int) -> None:
    """Give a chunk back for reuse by its size class."""
    pool[start, TIME] = space[1 + size_class]
    space[1 + size_class] = start


@compiled
def repack(pool: Words, bigger: Words, table: Words, slots: int) -> int:
    """Copy the chunks of the first `slots` entities to the front of `bigger`; returns the rows in use there."""
    used = 0
    for slot in range(slots):
        if table[slot, CLASS] >= 0:
            start, rows = table[slot, START], 1 << table[slot, CLASS]
            for i in range(rows):
                for word in range(pool.shape[1]):
                    bigger[used + i, word] = pool[start + i, word]
            table[slot, START] = used
            used += rows
    return used


@compiled
def oldest_needed(pool: Words, table: Words, slot: int, retention_ms: int) -> tuple[int, int]:
    """(index of the first event younger than the retention, index of one older event that is needed still, or -1).

    A vector looks back two spans at most, but for "the last one, however old": for cards the newest of the older events,
    for terminals the newest older event that is known fraud.
    """
    start, length = table[slot, START], table[slot, LENGTH]
    if length == 0:
        return 0, -1
    first = count_until(pool, start, length, pool[start + length - 1, TIME] - retention_ms)
    extra = first - 1
    if pool.shape[1] == TERMINAL_WORDS:
        while extra >= 0 and pool[start + extra, RISK] & 1 == 0:
            extra -= 1
    return first, extra


@compiled
def make_room(pool: Words, space: Words, table: Words, slot: int, retention_ms: int) -> bool:
    """Room for one more event of `slot`: drop what is too old if that frees a quarter, else move to a chunk of twice the size.

    False, and nothing changed, when the pool is full.
    """
    length, size_class = table[slot, LENGTH], table[slot, CLASS]
    if size_class >= 0 and length < 1 << size_class:
        return True
    first, extra = oldest_needed(pool, table, slot, retention_ms)
    kept = length - first + (1 if extra >= 0 else 0)
    old = table[slot, START]
    start = old
    if size_class < 0 or kept * 4 > 3 << size_class:
        size_class = max(size_class + 1, SMALLEST_CLASS)
        start = take_chunk(pool, space, size_class)
        if start < 0:
            return False
    for i in range(kept):
        source = first + i if extra < 0 else (extra if i == 0 else first + i - 1)
        for word in range(pool.shape[1]):
            pool[start + i, word] = pool[old + source, word]
    if start != old and table[slot, CLASS] >= 0:
        free_chunk(pool, space, old, table[slot, CLASS])
    table[slot, START], table[slot, CLASS], table[slot, LENGTH] = start, size_class, kept
    if pool.shape[1] == CARD_WORDS:
        remember_all(pool, start, size_class, kept)
    return True


@compiled
def shift_up(pool: Words, start: int, length: int, position: int, words: int) -> None:
    """Move the events from `position` on up by one; only their first `words` words."""
    for i in range(length, position, -1):
        for word in range(words):
            pool[start + i, word] = pool[start + i - 1, word]


# -- 128-bit integers in two words ----------------------------------------------------------------------------------------------


@compiled
def product(a: uint64, b: uint64) -> tuple[uint64, uint64]:
    """a * b of two unsigned words, as (high, low)."""
    a_low, a_high, b_low, b_high = a & LOW_HALF, a >> HALF, b & LOW_HALF, b >> HALF
    low, middle, other = a_low * b_low, a_high * b_low, a_low * b_high
    carry = (low >> HALF) + (middle & LOW_HALF) + (other & LOW_HALF)
    return a_high * b_high + (middle >> HALF) + (other >> HALF) + (carry >> HALF), a * b


@compiled
def plus(a_high: uint64, a_low: uint64, b_high: uint64, b_low: uint64) -> tuple[uint64, uint64]:
    """a + b modulo 2 ** 128."""
    low = a_low + b_low
    return a_high + b_high + (ONE if low < a_low else ZERO), low


@compiled
def minus(a_high: uint64, a_low: uint64, b_high: uint64, b_low: uint64) -> tuple[uint64, uint64]:
    """a - b modulo 2 ** 128."""
    return a_high - b_high - (ONE if a_low < b_low else ZERO), a_low - b_low


# -- cards ----------------------------------------------------------------------------------------------------------------------


@compiled
def probe(hashed: uint64, size_class: int, i: int) -> np.int64:
    """Bit number i (0, 1, 2) of a hash among the 64 * 2 ** size_class bits in the SEEN words of a chunk."""
    return np.int64((hashed >> uint64(20 * i)) & uint64((64 << size_class) - 1))


@compiled
def remember(pool: Words, start: int, size_class: int, hashed: uint64) -> None:
    """Set the bits of a hash in the chunk's SEEN words: together they are a Bloom filter of its transaction ids."""
    for i in range(3):
        bit = probe(hashed, size_class, i)
        pool[start + (bit >> 6), SEEN] |= np.int64(1) << (bit & 63)


@compiled
def remember_all(pool: Words, start: int, size_class: int, length: int) -> None:
    """Make the SEEN words of a chunk anew."""
    for i in range(1 << size_class):
        pool[start + i, SEEN] = 0
    for i in range(length):
        remember(pool, start, size_class, uint64(pool[start + i, HASH]))


@compiled
def is_duplicate(pool: Words, start: int, size_class: int, length: int, hashed: uint64, after_ms: int) -> bool:
    """Whether the chunk has an event of this id hash with TIME > after_ms; looks closer only if the filter does not exclude it."""
    for i in range(3):
        bit = probe(hashed, size_class, i)
        if (pool[start + (bit >> 6), SEEN] >> (bit & 63)) & 1 == 0:
            return False
    for i in range(count_until(pool, start, length, after_ms), length):  # noqa: SIM110  # numba compiles no generators
        if uint64(pool[start + i, HASH]) == hashed:
            return True
    return False


@compiled
def total_card(pool: Words, start: int, i: int) -> None:
    """Compute the running totals of event i from those of the event before it.

    GREATER is the distance back to the nearest earlier event with a greater amount, 0 for none: a distance stays true when
    older events are dropped.
    """
    amount = pool[start + i, AMOUNT]
    high, low = product(uint64(amount), uint64(amount))
    total = amount
    if i > 0:
        total += pool[start + i - 1, SUM]
        before_high, before_low = uint64(pool[start + i - 1, SQUARES_HIGH]), uint64(pool[start + i - 1, SQUARES_LOW])
        high, low = plus(before_high, before_low, high, low)
    greater = i - 1
    while greater >= 0 and pool[start + greater, AMOUNT] <= amount:
        back = pool[start + greater, GREATER]
        greater = greater - back if back > 0 else -1
    pool[start + i, SUM] = total
    pool[start + i, SQUARES_HIGH] = np.int64(high)
    pool[start + i, SQUARES_LOW] = np.int64(low)
    pool[start + i, GREATER] = i - greater if greater >= 0 else 0


@compiled
def insert_card(pool: Words, table: Words, slot: int, time_ms: int, amount: int, hashed: uint64) -> None:
    """Put a transaction behind those that are not after it; there must be room."""
    start, length = table[slot, START], table[slot, LENGTH]
    position = count_until(pool, start, length, time_ms)
    shift_up(pool, start, length, position, SEEN)
    pool[start + position, TIME] = time_ms
    pool[start + position, AMOUNT] = amount
    pool[start + position, HASH] = np.int64(hashed)
    for i in range(position, length + 1):
        total_card(pool, start, i)
    remember(pool, start, table[slot, CLASS], hashed)
    table[slot, LENGTH] = length + 1


@compiled
def window_sum(pool: Words, start: int, low: int, high: int) -> int:
    """Sum of the amounts of events low .. high - 1."""
    if low == high:
        return 0
    total: int = pool[start + high - 1, SUM] - pool[start + low, SUM] + pool[start + low, AMOUNT]
    return total


@compiled
def window_std(pool: Words, start: int, low: int, high: int) -> float:
    """Population standard deviation of the amounts of events low .. high - 1 (at least one): sqrt(n * Q - S * S) / n."""
    first = uint64(pool[start + low, AMOUNT])
    first_high, first_low = product(first, first)
    q_high, q_low = minus(
        uint64(pool[start + high - 1, SQUARES_HIGH]),
        uint64(pool[start + high - 1, SQUARES_LOW]),
        uint64(pool[start + low, SQUARES_HIGH]),
        uint64(pool[start + low, SQUARES_LOW]),
    )
    q_high, q_low = plus(q_high, q_low, first_high, first_low)
    n, total = uint64(high - low), uint64(window_sum(pool, start, low, high))
    nq_high, nq_low = product(n, q_low)
    s_high, s_low = product(total, total)
    d_high, d_low = minus(nq_high + n * q_high, nq_low, s_high, s_low)
    std: float = np.sqrt(np.float64(d_high) * 18446744073709551616.0 + np.float64(d_low)) / np.float64(n)
    return std


@compiled
def read_request(time_ms: int, amount: int, out: Vectors, row: int) -> int:
    """Write the features of the request itself; returns the next column."""
    out[row, 0] = np.float32(np.float64(amount))
    out[row, 1] = np.float32(time_ms // HOUR_MS % 24)
    out[row, 2] = np.float32((time_ms // DAY_MS + WEEKDAY_OF_1970) % 7)
    return 3


@compiled
def read_card(
    pool: Words,
    start: int,
    position: int,
    time_ms: int,
    amount: int,
    history_ms: Words,
    habit_ms: Words,
    out: Vectors,
    row: int,
    column: int,
) -> int:
    """Write the card's features at time_ms; `position` events are not after it. Window lengths ascend. Returns the next column."""
    low, top = position, position - 1
    for window_ms in history_ms:
        low = count_until(pool, start, low, time_ms - window_ms)
        count, total = position - low, window_sum(pool, start, low, position)
        out[row, column] = np.float32(count)
        out[row, column + 1] = np.float32(np.float64(total))
        out[row, column + 2] = NAN
        out[row, column + 3] = NAN
        if count > 0:
            back = pool[start + top, GREATER]
            while back > 0 and top - back >= low:
                top -= back
                back = pool[start + top, GREATER]
            out[row, column + 2] = np.float32(np.float64(total) / np.float64(count))
            out[row, column + 3] = np.float32(np.float64(pool[start + top, AMOUNT]))
        column += 4
    low = position
    for window_ms in habit_ms:
        low = count_until(pool, start, low, time_ms - window_ms)
        count, total = position - low, window_sum(pool, start, low, position)
        out[row, column] = NAN
        out[row, column + 1] = NAN
        if total > 0:
            mean = np.float64(total) / np.float64(count)
            out[row, column] = np.float32(np.float64(amount) / mean)
            std = window_std(pool, start, low, position)
            if std > 0.0:
                out[row, column + 1] = np.float32((np.float64(amount) - mean) / std)
        column += 2
    out[row, column] = NAN
    if position > 0:
        out[row, column] = np.float32(np.float64(time_ms - pool[start + position - 1, TIME]) / 1000.0)
    return column + 1


@compiled
def apply_cards(
    pool: Words,
    space: Words,
    table: Words,
    slots: Words,
    hashes: Hashes,
    times: Words,
    amounts: Words,
    history_ms: Words,
    habit_ms: Words,
    span_ms: int,
    out: Vectors,
    outcomes: Bytes,
    late: Mask,
    begin: int,
) -> int:
    """Read, then add, the transactions from `begin` on; returns the row it stopped at: the end, or the first that needs room."""
    for row in range(begin, len(slots)):
        slot, time_ms, amount, hashed = slots[row], times[row], amounts[row], hashes[row]
        if not make_room(pool, space, table, slot, 2 * span_ms):
            return row
        start, length = table[slot, START], table[slot, LENGTH]
        newest_ms = pool[start + length - 1, TIME] if length > 0 else time_ms
        if time_ms < newest_ms - span_ms:
            outcomes[row] = TOO_LATE
            out[row, :] = NAN
            continue
        if is_duplicate(pool, start, table[slot, CLASS], length, hashed, time_ms - span_ms):
            outcomes[row] = DUPLICATE
            out[row, :] = NAN
            continue
        column = read_request(time_ms, amount, out, row)
        position = length if time_ms >= newest_ms else count_until(pool, start, length, time_ms)
        read_card(pool, start, position, time_ms, amount, history_ms, habit_ms, out, row, column)
        insert_card(pool, table, slot, time_ms, amount, hashed)
        outcomes[row] = ACCEPTED
        late[row] = time_ms < newest_ms
    return len(slots)


@compiled
def replay_cards(
    pool: Words,
    space: Words,
    table: Words,
    slots: Words,
    hashes: Hashes,
    times: Words,
    amounts: Words,
    span_ms: int,
    begin: int,
) -> int:
    """Add logged transactions from `begin` on, unread and unjudged: the log holds accepted ones only."""
    for row in range(begin, len(slots)):
        if not make_room(pool, space, table, slots[row], 2 * span_ms):
            return row
        insert_card(pool, table, slots[row], times[row], amounts[row], hashes[row])
    return len(slots)


# -- terminals ------------------------------------------------------------------------------------------------------------------


@compiled
def total_risk(pool: Words, start: int, position: int, length: int) -> None:
    """Count the known fraud anew from event `position` on. RISK = 2 * (known fraud up to this event) + (this one is)."""
    fraud = pool[start + position - 1, RISK] >> 1 if position > 0 else 0
    for i in range(position, length):
        mark = pool[start + i, RISK] & 1
        fraud += mark
        pool[start + i, RISK] = 2 * fraud + mark


@compiled
def insert_terminal(pool: Words, table: Words, slot: int, time_ms: int, amount: int, hashed: uint64) -> None:
    """Put a transaction, not known as fraud, behind those that are not after it; there must be room."""
    start, length = table[slot, START], table[slot, LENGTH]
    position = count_until(pool, start, length, time_ms)
    shift_up(pool, start, length, position, TERMINAL_WORDS)
    pool[start + position, TIME] = time_ms
    pool[start + position, AMOUNT] = amount
    pool[start + position, HASH] = np.int64(hashed)
    pool[start + position, RISK] = 2 * (pool[start + position - 1, RISK] >> 1) if position > 0 else 0
    table[slot, LENGTH] = length + 1


@compiled
def mark(pool: Words, table: Words, slot: int, time_ms: int, hashed: uint64, is_fraud: int) -> int:
    """Set what is known of a transaction: 1 if that changes something, 0 if it was known already, -1 if there is none such."""
    start, length = table[slot, START], table[slot, LENGTH]
    i = count_until(pool, start, length, time_ms - 1)
    while i < length and pool[start + i, TIME] == time_ms:
        if uint64(pool[start + i, HASH]) == hashed:
            if pool[start + i, RISK] & 1 == is_fraud:
                return 0
            pool[start + i, RISK] = is_fraud
            total_risk(pool, start, i, length)
            return 1
        i += 1
    return -1


@compiled
def read_terminal(
    pool: Words,
    start: int,
    position: int,
    time_ms: int,
    history_ms: Words,
    risk_ms: Words,
    delay_ms: int,
    out: Vectors,
    row: int,
    column: int,
) -> int:
    """Write the terminal's features at time_ms; `position` events are not after it. Window lengths ascend. Returns the next column."""
    low = position
    for window_ms in history_ms:
        low = count_until(pool, start, low, time_ms - window_ms)
        out[row, column] = np.float32(position - low)
        column += 1
    matured = count_until(pool, start, position, time_ms - delay_ms)
    low = matured
    for window_ms in risk_ms:
        low = count_until(pool, start, low, time_ms - delay_ms - window_ms)
        count, fraud = matured - low, 0
        out[row, column + 2] = NAN
        if count > 0:
            first = pool[start + low, RISK]
            fraud = (pool[start + matured - 1, RISK] >> 1) - (first >> 1) + (first & 1)
            out[row, column + 2] = np.float32(np.float64(fraud) / np.float64(count))
        out[row, column] = np.float32(count)
        out[row, column + 1] = np.float32(fraud)
        column += 3
    out[row, column] = NAN
    last = last_fraud(pool, start, position)
    if last >= 0:
        out[row, column] = np.float32(np.float64(time_ms - pool[start + last, TIME]) / 86400000.0)
    return column + 1


@compiled
def last_fraud(pool: Words, start: int, position: int) -> int:
    """Index of the last known fraud among the first `position` events, or -1: where the count of fraud first has its last value."""
    if position == 0:
        return -1
    fraud = pool[start + position - 1, RISK] >> 1
    low, high = 0, position - 1
    while low < high:
        middle = (low + high) >> 1
        if pool[start + middle, RISK] >> 1 == fraud:
            high = middle
        else:
            low = middle + 1
    return low if pool[start + low, RISK] & 1 == 1 else -1


@compiled
def judge_label(
    pool: Words, table: Words, slot: int, time_ms: int, hashed: uint64, is_fraud: int, retention_ms: int
) -> tuple[int, int]:
    """(outcome of a label, 1 if it changed something). The age decides first, so it does not matter what is in memory still."""
    start, length = table[slot, START], table[slot, LENGTH]
    if length == 0:
        return LABEL_UNKNOWN, 0
    if time_ms <= pool[start + length - 1, TIME] - retention_ms:
        return LABEL_EXPIRED, 0
    changed = mark(pool, table, slot, time_ms, hashed, is_fraud)
    return (LABEL_APPLIED, changed) if changed >= 0 else (LABEL_UNKNOWN, 0)


@compiled
def apply_terminals(
    pool: Words,
    space: Words,
    table: Words,
    kinds: Bytes,
    slots: Words,
    hashes: Hashes,
    times: Words,
    amounts: Words,
    is_fraud: Bytes,
    history_ms: Words,
    risk_ms: Words,
    delay_ms: int,
    span_ms: int,
    out: Vectors,
    outcomes: Bytes,
    late: Mask,
    changed: Mask,
    begin: int,
) -> int:
    """Read, then add, transactions, and apply labels, from `begin` on; returns the row it stopped at: the end, or the first
    that needs room."""
    for row in range(begin, len(slots)):
        slot, time_ms = slots[row], times[row]
        if kinds[row] == 1:
            outcome, change = judge_label(pool, table, slot, time_ms, hashes[row], is_fraud[row], 2 * span_ms)
            outcomes[row], changed[row] = outcome, change == 1
            out[row, :] = NAN
            continue
        if not make_room(pool, space, table, slot, 2 * span_ms):
            return row
        start, length = table[slot, START], table[slot, LENGTH]
        newest_ms = pool[start + length - 1, TIME] if length > 0 else time_ms
        if time_ms < newest_ms - span_ms:
            outcomes[row] = TOO_LATE
            out[row, :] = NAN
            continue
        position = length if time_ms >= newest_ms else count_until(pool, start, length, time_ms)
        read_terminal(pool, start, position, time_ms, history_ms, risk_ms, delay_ms, out, row, 0)
        insert_terminal(pool, table, slot, time_ms, amounts[row], hashes[row])
        outcomes[row] = ACCEPTED
        late[row] = time_ms < newest_ms
        changed[row] = True
    return len(slots)


@compiled
def replay_terminals(
    pool: Words,
    space: Words,
    table: Words,
    slots: Words,
    hashes: Hashes,
    times: Words,
    amounts: Words,
    span_ms: int,
    begin: int,
) -> int:
    """Add logged transactions and marks from `begin` on, unread and unjudged: the log holds what changed the state."""
    for row in range(begin, len(slots)):
        if amounts[row] < 0:
            mark(pool, table, slots[row], times[row], hashes[row], 1 if amounts[row] == FRAUD_MARK else 0)
            continue
        if not make_room(pool, space, table, slots[row], 2 * span_ms):
            return row
        insert_terminal(pool, table, slots[row], times[row], amounts[row], hashes[row])
    return len(slots)
