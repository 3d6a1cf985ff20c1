"""The fold's inner loops: events of all entities in one array of 64-bit words, compiled by numba.

Rule 1. The events of an entity stand in one chunk, ordered by (event time, arrival), each with running totals up to itself. A window
        is two positions, so in-order, tied and late transactions are read by the same code.
Rule 2. Integers are exact: totals are 64-bit, squares 128-bit in two words. Floats appear in the last division only, in float64.
Rule 3. A loop that finds no room stops before the row that needs it and says so; nothing is capped and no row is half done.
Rule 4. What a window's edge was for the entity's newest event is kept as a hint and only saves time: all is right without it.
Rule 5. All kernels stand in this file: numba keeps machine code until the file changes that a kernel stands in, and only that one.

    pool    int64[rows, words]   row = one event: its words as in fraud/columns.py, then totals; some words hold two 32-bit halves
    space   int64[1 + CLASSES]   rows in use, then the first free chunk of each size class (chained through TIME)
    table   int64[slots, width]  of each entity: START of its chunk, its size CLASS (2 ** CLASS rows, -1: no chunk), LENGTH,
                                 then per window the TAIL, its first event, and for windows that count them, distinct values;
                                 of cards at the end the sum and the number of the usual amounts in the longest window, then the
                                 newest RECENT_RATIOS amounts, the newest last, each with its ratio from bit AMOUNT_BITS on

Distinct values. Each event has, per kind of value (cards: terminal, merchant, device, country; terminals: card), a LINK:
2 * (distance back to the last event before with the same value, 0: none) + (1: superseded, a later one has it; absent values too).
So the distinct values of the newest window are its events that are not superseded. For a window that ends before the newest
event, an event counts as well if all that supersede it come after the end. The INDEX, a hash table in the chunk's own rows, finds
the newest event of a value, and for cards that of a transaction id.

Ratios. What an amount was beside the card's typical one is found once, when its transaction arrives, and stays with its event, in
hundredths, from bit RATIO_SHIFT of its place on; the sign bit says that it was usual. The typical amount is the mean of the usual
ones in the longest window, whose sum is added to at the head and taken from at the tail. Whether an amount is striking comes to
a terminal with its transaction: in a log as bit STRIKING_SHIFT of the amount, in the pool in RISK.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]  # it has no types
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy import uint64

TIME, AMOUNT, HASH, VALUE = (
    0,
    1,
    2,
    3,
)  # of both; the values of a card's event: terminal, merchant, device, place with country
SUM, SQUARES_HIGH, SQUARES_LOW, CARD_WORDS = 7, 8, 9, 16
TERMINAL_SUM, RISK, TERMINAL_WORDS = 4, 5, 8
# Halves, columns of the pool seen as int32: LINK per kind of value, totals, then the slots of the index.
CARD_LINK, GREATER, SMALL, NIGHT, CARD_INDEX = 20, 24, 25, 26, 27
TERMINAL_LINK, TERMINAL_SMALL, TERMINAL_INDEX = 12, 13, 14
CARD_VALUES, TERMINAL_VALUES = 4, 1
DEVICE, PLACE, ID = 2, 3, 4  # kinds of values; PLACE counts as its country; ID is indexed and has no link
START, CLASS, LENGTH, TAIL = 0, 1, 2, 3
WEEK: Final = 3  # which of a card's windows is that of the largest ratio
LINE_WORDS: Final = 8  # of a cache line
AHEAD, FAR_AHEAD = 3, 6  # how many rows ahead an entity's events are asked for, and before them its part of the table
CLASSES: Final = 28
SMALLEST_CLASS: Final = 2

ACCEPTED, DUPLICATE, TOO_LATE, LABEL_APPLIED, LABEL_UNKNOWN, LABEL_EXPIRED = 0, 1, 2, 3, 4, 5
FRAUD_MARK, GENUINE_MARK = -1, -2
AMOUNT_BITS: Final = 40  # of the largest amount
AMOUNT_MASK: Final = (1 << AMOUNT_BITS) - 1
RATIO_SHIFT: Final = 48
RATIO_MASK: Final = 0x7FFF
USUAL: Final = -(1 << 63)  # the sign bit of a place
STRIKING_SHIFT: Final = 62
# RISK, from the lowest bit on: known fraud; striking amount; 31 bits: known frauds without one so far; the rest: known frauds so far.
KNOWN, STRIKING = 1, 2
PLAIN_SHIFT, PLAIN_MASK, FRAUD_SHIFT = 2, 0x7FFFFFFF, 33

# The same as in fraud/features.py, which fraud/fold.py checks: a kernel that takes them from there would outlive a change.
SMALL_AMOUNT_MINOR: Final = 500
NIGHT_HOURS: Final = 6
RECENT_AMOUNTS: Final = 16
RECENT_RATIOS: Final = 32
USUAL_ALWAYS: Final = 3
USUAL_TIMES_MAX: Final = 3
TYPICAL_MINOR_MIN: Final = 100
RATIO_MAX: Final = 320
SPEED_MS_MIN: Final = 60_000

NAN: Final = np.float32(np.nan)
LOW_HALF: Final = uint64(0xFFFFFFFF)
HALF: Final = uint64(32)
ZERO: Final = uint64(0)
ONE: Final = uint64(1)
GOLDEN: Final = uint64(
    0x9E3779B97F4A7C15
)  # 2 ** 64 / golden ratio: D. Knuth, The Art of Computer Programming 3, 6.4 (1998)
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
WEEKDAY_OF_1970: Final = 3  # 1 January 1970 was a Thursday, Monday is 0

COUNTRY_BITS: Final = 0xFFFF
NOWHERE: Final = -32768
COSINE_SCALE: Final = 67108864.0  # 2 ** 26: products of two cosines are exact in 53 bits
EARTH_RADIUS_KM: Final = (
    6371.0088  # mean radius: H. Moritz, Geodetic Reference System 1980, Journal of Geodesy 74 (2000)
)

Words = npt.NDArray[np.int64]
Halves = npt.NDArray[np.int32]
Vectors = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F) -> _F:
    """Compile when first called. Machine code is kept in NUMBA_CACHE_DIR, else beside the source; without a place: not kept."""
    return _compiled(function, False)


def inlined(function: _F) -> _F:
    """compiled(), but also into each of its callers: for what runs for every row. A call hands over nine words for each array."""
    return _compiled(function, True)


def _compiled(function: _F, forceinline: bool) -> _F:
    try:
        return cast(_F, numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=forceinline)(function))
    except RuntimeError:
        return cast(_F, numba.njit(nogil=True, error_model="numpy", forceinline=forceinline)(function))


def _prefetch(typing_context: Any, rows: Any, row: Any, word: Any) -> Any:
    """Ask for the cache line of rows[row, word], which must be inside of the array, and go on without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place_of: Any = cgutils.get_item_pointer
        place = place_of(context, builder, signature.args[0], array, arguments[1:], wraparound=False)
        number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        told = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [byte], told)
        builder.call(hint, [builder.bitcast(place, byte), number(0), number(3), number(1)])  # to read, keep it, data
        return context.get_dummy_value()

    return types.none(rows, types.intp, types.intp), generate


prefetch: Any = intrinsic(_prefetch)

# -- chunks ---------------------------------------------------------------------------------------------------------------------


@inlined
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
    if size_class >= CLASSES:
        return -1
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
def first_needed(pool: Words, table: Words, slot: int, retention_ms: int) -> int:
    """Index of the first event that a vector or a label can still reach: a transaction may be a span late and look a span back."""
    start, length = table[slot, START], table[slot, LENGTH]
    if length == 0:
        return 0
    return count_until(pool, start, length, pool[start + length - 1, TIME] - retention_ms)


@compiled
def make_room(
    pool: Words, halves: Halves, space: Words, table: Words, slot: int, windows: int, retention_ms: int
) -> bool:
    """Room for one more event of `slot`: drop what is too old if that frees a quarter, else move to a chunk of twice the size.

    False, and nothing changed, when the pool is full.
    """
    length, size_class = table[slot, LENGTH], table[slot, CLASS]
    if size_class >= 0 and length < 1 << size_class:
        return True
    first = first_needed(pool, table, slot, retention_ms)
    kept = length - first
    old = table[slot, START]
    start = old
    if size_class < 0 or kept * 4 > 3 << size_class:
        size_class = max(size_class + 1, SMALLEST_CLASS)
        start = take_chunk(pool, space, size_class)
        if start < 0:
            return False
    for i in range(kept):
        for word in range(pool.shape[1]):
            pool[start + i, word] = pool[old + first + i, word]
    if start != old and table[slot, CLASS] >= 0:
        free_chunk(pool, space, old, table[slot, CLASS])
    table[slot, START], table[slot, CLASS], table[slot, LENGTH] = start, size_class, kept
    for k in range(windows):
        table[slot, TAIL + k] -= first
    if pool.shape[1] == CARD_WORDS:
        index_all(pool, halves, table, slot, CARD_VALUES, CARD_LINK, CARD_INDEX)
    else:
        index_all(pool, halves, table, slot, TERMINAL_VALUES, TERMINAL_LINK, TERMINAL_INDEX)
    return True


# -- the index of a chunk -------------------------------------------------------------------------------------------------------


@inlined
def value_at(pool: Words, row: int, kind: int) -> int:
    """The value of some kind of an event; 0 for none."""
    value: int = pool[row, HASH] if kind == ID else pool[row, VALUE + kind]
    return value & COUNTRY_BITS if kind == PLACE else value


@inlined
def bucket(kind: int, value: int, size_class: int) -> int:
    """The row of a chunk where the search for a value begins."""
    mixed = (uint64(value) ^ (uint64(kind + 1) * GOLDEN)) * GOLDEN
    return np.int64(mixed >> uint64(64 - size_class))  # type: ignore[return-value]  # an int to numba


@inlined
def find(
    pool: Words, halves: Halves, start: int, size_class: int, kind: int, value: int, index: int
) -> tuple[int, int]:
    """(slot of the index, position of the newest event with the value); position -1 and an empty slot where there is none.

    Slot 8 * row + i is column index + i of the row; it holds 8 * (position + 1) + kind, 0 when it is empty. There is always an
    empty one: an event takes one slot for each kind at most, a row has that many, and a chunk that is searched has an unused row.
    """
    per_row, row, column = halves.shape[1] - index, bucket(kind, value, size_class), 0
    while True:
        entry: Any = np.int64(halves[start + row, index + column])
        if entry == 0:
            return 8 * row + column, -1
        if entry & 7 == kind and value_at(pool, start + (entry >> 3) - 1, kind) == value:
            return 8 * row + column, (entry >> 3) - 1
        column += 1
        if column == per_row:
            column, row = 0, row + 1
            if row == 1 << size_class:
                row = 0


@inlined
def set_index(halves: Halves, start: int, index: int, at: int, kind: int, position: int) -> None:
    """Let a slot of the index say `position`."""
    halves[start + (at >> 3), index + (at & 7)] = 8 * (position + 1) + kind


@compiled
def index_all(pool: Words, halves: Halves, table: Words, slot: int, values: int, link: int, index: int) -> None:
    """Make the index of a chunk anew."""
    start, size_class, length = table[slot, START], table[slot, CLASS], table[slot, LENGTH]
    for i in range(1 << size_class):
        for column in range(index, halves.shape[1]):
            halves[start + i, column] = 0
    for i in range(length):
        for kind in range(values):
            if halves[start + i, link + kind] & 1 == 0:
                at, _ = find(pool, halves, start, size_class, kind, value_at(pool, start + i, kind), index)
                set_index(halves, start, index, at, kind, i)
        if values == CARD_VALUES:
            at, _ = find(pool, halves, start, size_class, ID, pool[start + i, HASH], index)
            set_index(halves, start, index, at, ID, i)


# -- windows and distinct values ------------------------------------------------------------------------------------------------


@inlined
def trace(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    events: Words,
    row: int,
    position: int,
    places: Words,
    values: int,
    link: int,
    index: int,
) -> None:
    """Write places[kind] = (index slot, newest before `position`, oldest from `position` on) of the events with the same value.

    The last two are -1 for none. Nothing is looked for where the value is absent.
    """
    start, size_class = table[slot, START], table[slot, CLASS]
    for kind in range(values):
        places[kind, 0], places[kind, 1], places[kind, 2] = -1, -1, -1
        value = value_at(events, row, kind)
        if value == 0 or size_class < 0:
            continue
        at, before = find(pool, halves, start, size_class, kind, value, index)
        after = -1
        while before >= position:
            after = before
            back = halves[start + before, link + kind] >> 1
            before = before - back if back > 0 else -1
        places[kind, 0], places[kind, 1], places[kind, 2] = at, max(before, -1), after


@inlined
def measure(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    position: int,
    time_ms: int,
    windows_ms: Words,
    counted: int,
    lows: Words,
    distinct: Words,
    values: int,
    link: int,
) -> None:
    """Write the first event of each window that ends at time_ms, and the distinct values in the first `counted` windows.

    `position` events are not after time_ms; windows end with them.
    """
    start, length, windows = table[slot, START], table[slot, LENGTH], len(windows_ms)
    for k in range(windows):
        edge_ms, tail = time_ms - windows_ms[k], table[slot, TAIL + k]
        low = tail
        if position < length:
            low = count_until(pool, start, min(tail, position), edge_ms)
        else:
            while low < length and pool[start + low, TIME] <= edge_ms:
                low += 1
        lows[k] = low
        if k < counted:
            for kind in range(values):
                distinct[k, kind] = table[slot, TAIL + windows + k * values + kind]
            for i in range(tail, low):
                for kind in range(values):
                    distinct[k, kind] -= 1 - (halves[start + i, link + kind] & 1)
            for i in range(low, tail):
                for kind in range(values):
                    distinct[k, kind] += 1 - (halves[start + i, link + kind] & 1)
    for i in range(position, length):
        for kind in range(values):
            exclude(halves[start + i, link + kind], i, position, lows, distinct, counted, kind)


@inlined
def exclude(linked: int, i: int, position: int, lows: Words, distinct: Words, counted: int, kind: int) -> None:
    """Take event i, from `position` on, out of the distinct values: the one that it supersedes counts again."""
    if linked & 1 == 0:
        for k in range(counted):
            distinct[k, kind] -= 1
    before = i - (linked >> 1)
    if before < position:
        for k in range(counted):
            if before >= lows[k]:
                distinct[k, kind] += 1


@inlined
def append(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    events: Words,
    row: int,
    counted: int,
    lows: Words,
    distinct: Words,
    places: Words,
    values: int,
    link: int,
    index: int,
) -> None:
    """Put an event that no other is after at the end; its time was measured. There must be room. Totals are not made."""
    start, length, windows = table[slot, START], table[slot, LENGTH], len(lows)
    for word in range(events.shape[1]):
        pool[start + length, word] = events[row, word]
    for kind in range(values):
        halves[start + length, link + kind] = 1
        if value_at(events, row, kind) != 0:
            join(pool, halves, table, slot, kind, length, places, link, index)
            for k in range(counted):
                if places[kind, 1] < lows[k]:
                    distinct[k, kind] += 1
    if values == CARD_VALUES:
        at, _ = find(pool, halves, start, table[slot, CLASS], ID, pool[start + length, HASH], index)
        set_index(halves, start, index, at, ID, length)
    for k in range(windows):
        table[slot, TAIL + k] = lows[k]
    for k in range(counted):
        for kind in range(values):
            table[slot, TAIL + windows + k * values + kind] = distinct[k, kind]
    table[slot, LENGTH] = length + 1


@inlined
def join(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    kind: int,
    position: int,
    places: Words,
    link: int,
    index: int,
) -> None:
    """Let the event at `position` be the newest of its value."""
    start, before = table[slot, START], places[kind, 1]
    at = places[kind, 0]
    if before >= 0:
        halves[start + before, link + kind] |= 1
        halves[start + position, link + kind] = 2 * (position - before)
    else:
        halves[start + position, link + kind] = 0
        at, _ = find(pool, halves, start, table[slot, CLASS], kind, value_at(pool, start + position, kind), index)
    set_index(halves, start, index, at, kind, position)


@compiled
def insert(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    events: Words,
    row: int,
    position: int,
    windows_ms: Words,
    counted: int,
    places: Words,
    values: int,
    link: int,
    index: int,
) -> None:
    """Put a late event at `position`, before others. There must be room. Totals are not made."""
    start, length, windows = table[slot, START], table[slot, LENGTH], len(windows_ms)
    newest_ms = pool[start + length - 1, TIME]
    move_up(pool, halves, table, slot, position, values, link, index)
    for word in range(events.shape[1]):
        pool[start + position, word] = events[row, word]
    for kind in range(values):
        halves[start + position, link + kind] = 1
        before, after = places[kind, 1], places[kind, 2] + 1
        if value_at(events, row, kind) == 0:
            continue
        if after > 0:
            halves[start + position, link + kind] = 2 * (position - before) + 1 if before >= 0 else 1
            superseded = halves[start + after, link + kind] & 1
            halves[start + after, link + kind] = 2 * (after - position) + superseded
            continue
        join(pool, halves, table, slot, kind, position, places, link, index)
        for k in range(counted):
            if pool[start + position, TIME] > newest_ms - windows_ms[k] and before < table[slot, TAIL + k]:
                table[slot, TAIL + windows + k * values + kind] += 1
    if values == CARD_VALUES:
        at, _ = find(pool, halves, start, table[slot, CLASS], ID, pool[start + position, HASH], index)
        set_index(halves, start, index, at, ID, position)
    for k in range(windows):
        if pool[start + position, TIME] <= newest_ms - windows_ms[k]:
            table[slot, TAIL + k] += 1
    table[slot, LENGTH] = length + 1


@compiled
def move_up(
    pool: Words, halves: Halves, table: Words, slot: int, position: int, values: int, link: int, index: int
) -> None:
    """Move the events from `position` on up by one, with what the index says of them and their links over the gap."""
    start, size_class, length = table[slot, START], table[slot, CLASS], table[slot, LENGTH]
    for i in range(length - 1, position - 1, -1):
        for half in range(index):
            halves[start + i + 1, half] = halves[start + i, half]
        for kind in range(values + 1):
            if kind < values:
                linked = halves[start + i, link + kind]
                if linked >> 1 > 0 and i - (linked >> 1) < position:
                    halves[start + i + 1, link + kind] += 2
                if linked & 1 == 1:
                    continue
            elif values != CARD_VALUES:
                continue
            at, found = find(pool, halves, start, size_class, kind, value_at(pool, start + i, kind), index)
            if found == i:
                set_index(halves, start, index, at, kind, i + 1)


# -- 128-bit integers in two words ----------------------------------------------------------------------------------------------


@inlined
def product(a: uint64, b: uint64) -> tuple[uint64, uint64]:
    """a * b of two unsigned words, as (high, low)."""
    a_low, a_high, b_low, b_high = a & LOW_HALF, a >> HALF, b & LOW_HALF, b >> HALF
    low, middle, other = a_low * b_low, a_high * b_low, a_low * b_high
    carry = (low >> HALF) + (middle & LOW_HALF) + (other & LOW_HALF)
    return a_high * b_high + (middle >> HALF) + (other >> HALF) + (carry >> HALF), a * b


@inlined
def plus(a_high: uint64, a_low: uint64, b_high: uint64, b_low: uint64) -> tuple[uint64, uint64]:
    """a + b modulo 2 ** 128."""
    low = a_low + b_low
    return a_high + b_high + (ONE if low < a_low else ZERO), low


@inlined
def minus(a_high: uint64, a_low: uint64, b_high: uint64, b_low: uint64) -> tuple[uint64, uint64]:
    """a - b modulo 2 ** 128."""
    return a_high - b_high - (ONE if a_low < b_low else ZERO), a_low - b_low


# -- places ---------------------------------------------------------------------------------------------------------------------


def cosines() -> Words:
    """Cosines of 0 .. 180 degrees in hundredths of a degree, times 2 ** 26, as integers: int64 [18001].

    No cosine lies within 1e-7 of the middle between two integers, so every machine's math library rounds to the same table.
    """
    degrees = [math.radians(hundredths / 100) for hundredths in range(18001)]
    return np.array([round(math.cos(angle) * COSINE_SCALE) for angle in degrees], np.int64)


@inlined
def on_sphere(table: Words, place: int) -> tuple[float, float, float]:
    """A packed place as a point on the sphere of radius 2 ** 52, exact integers."""
    latitude, longitude = np.int64(np.int16(place >> 16)), np.int64(np.int16(place >> 32))
    turned = abs(longitude - 9000)
    sine = table[turned if turned <= 18000 else 36000 - turned]
    cosine, height = table[abs(latitude)], table[9000 - latitude]
    return np.float64(cosine * table[abs(longitude)]), np.float64(cosine * sine), np.float64(height) * COSINE_SCALE


@inlined
def great_circle_km(table: Words, one: int, other: int) -> float:
    """Great-circle distance of two packed places in km, by the chord between them: within 1 m up to 18,000 km, 2 km at the antipode.

    With h half of the chord on the unit sphere the arc is 2 asin h. asin is formula 4.4.46 of M. Abramowitz and I. Stegun, Handbook
    of Mathematical Functions (1964), off by 2e-8 at most: it takes +, * and a square root, which are rounded alike everywhere.
    """
    ax, ay, az = on_sphere(table, one)
    bx, by, bz = on_sphere(table, other)
    dx, dy, dz = ax - bx, ay - by, az - bz
    h = np.sqrt(dx * dx + dy * dy + dz * dz) / (2.0 * COSINE_SCALE * COSINE_SCALE)
    if h == 0.0:
        return 0.0
    h = min(h, 1.0)
    p = -0.0012624911 * h + 0.0066700901
    p = p * h - 0.0170881256
    p = p * h + 0.0308918810
    p = p * h - 0.0501743046
    p = p * h + 0.0889789874
    p = p * h - 0.2145988016
    p = p * h + 1.5707963050
    arc: float = 1.5707963267948966 - np.sqrt(1.0 - h) * p
    return 2.0 * EARTH_RADIUS_KM * max(arc, 0.0)


@inlined
def is_placed(place: int) -> bool:
    """Whether a packed place has coordinates."""
    return bool(np.int16(place >> 16) != NOWHERE)


# -- cards ----------------------------------------------------------------------------------------------------------------------


@inlined
def is_duplicate(pool: Words, halves: Halves, table: Words, slot: int, hashed: int, after_ms: int) -> bool:
    """Whether the card has an event of this id hash with TIME > after_ms: its newest of that hash decides."""
    start = table[slot, START]
    _, position = find(pool, halves, start, table[slot, CLASS], ID, hashed, CARD_INDEX)
    return position >= 0 and pool[start + position, TIME] > after_ms


@inlined
def total_card(pool: Words, halves: Halves, start: int, i: int) -> None:
    """Compute the running totals of event i from those of the event before it.

    GREATER is the distance back to the nearest earlier event with a greater amount, 0 for none: a distance stays true when
    older events are dropped.
    """
    amount = pool[start + i, AMOUNT]
    high, low = product(uint64(amount), uint64(amount))
    total = amount
    small = 1 if amount < SMALL_AMOUNT_MINOR else 0
    night = 1 if is_night(pool[start + i, TIME]) else 0
    if i > 0:
        total += pool[start + i - 1, SUM]
        small += halves[start + i - 1, SMALL]
        night += halves[start + i - 1, NIGHT]
        before_high, before_low = uint64(pool[start + i - 1, SQUARES_HIGH]), uint64(pool[start + i - 1, SQUARES_LOW])
        high, low = plus(before_high, before_low, high, low)
    greater = i - 1
    while greater >= 0 and pool[start + greater, AMOUNT] <= amount:
        back = halves[start + greater, GREATER]
        greater = greater - back if back > 0 else -1
    pool[start + i, SUM] = total
    pool[start + i, SQUARES_HIGH] = np.int64(high)
    pool[start + i, SQUARES_LOW] = np.int64(low)
    halves[start + i, GREATER] = i - greater if greater >= 0 else 0
    halves[start + i, SMALL], halves[start + i, NIGHT] = small, night


@inlined
def is_night(time_ms: int) -> bool:
    """Whether a time is in the first NIGHT_HOURS of its day, UTC."""
    return time_ms // HOUR_MS % 24 < NIGHT_HOURS


@inlined
def window_sum(pool: Words, start: int, low: int, high: int, word: int) -> int:
    """Sum of the amounts of events low .. high - 1 by the running totals in `word`."""
    if low == high:
        return 0
    total: int = pool[start + high - 1, word] - pool[start + low, word] + pool[start + low, AMOUNT]
    return total


@inlined
def window_small(pool: Words, halves: Halves, start: int, low: int, high: int, half: int) -> int:
    """How many of events low .. high - 1 (at least one) have a small amount, by the running counts in `half`."""
    small: int = np.int64(halves[start + high - 1, half]) - halves[start + low, half]
    return small + 1 if pool[start + low, AMOUNT] < SMALL_AMOUNT_MINOR else small


@inlined
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
    n, total = uint64(high - low), uint64(window_sum(pool, start, low, high, SUM))
    nq_high, nq_low = product(n, q_low)
    s_high, s_low = product(total, total)
    d_high, d_low = minus(nq_high + n * q_high, nq_low, s_high, s_low)
    std: float = np.sqrt(np.float64(d_high) * 18446744073709551616.0 + np.float64(d_low)) / np.float64(n)
    return std


@inlined
def read_request(time_ms: int, amount: int, out: Vectors, row: int) -> int:
    """Write the features of the request itself; returns the next column."""
    out[row, 0] = np.float32(np.float64(amount))
    out[row, 1] = np.float32(time_ms // HOUR_MS % 24)
    out[row, 2] = np.float32((time_ms // DAY_MS + WEEKDAY_OF_1970) % 7)
    return 3


@inlined
def read_card_history(
    pool: Words,
    halves: Halves,
    start: int,
    position: int,
    lows: Words,
    distinct: Words,
    out: Vectors,
    row: int,
    column: int,
) -> float:
    """Write the features of each window, shortest first; returns the standard deviation in the longest, NaN if it is empty."""
    top, std = position - 1, np.nan
    for k in range(len(lows)):
        low = lows[k]
        count = position - low
        if k > 0 and low == lows[k - 1]:
            for i in range(10):
                out[row, column + i] = out[row, column + i - 10]
        elif count == 0:
            for i in range(10):
                out[row, column + i] = np.float32(0) if i < 2 or 5 <= i <= 8 else NAN
        else:
            n, total = np.float64(count), np.float64(window_sum(pool, start, low, position, SUM))
            std = window_std(pool, start, low, position)
            back: Any = np.int64(halves[start + top, GREATER])
            while back > 0 and top - back >= low:
                top -= back
                back = np.int64(halves[start + top, GREATER])
            out[row, column] = np.float32(count)
            out[row, column + 1] = np.float32(total)
            out[row, column + 2] = np.float32(total / n)
            out[row, column + 3] = np.float32(std)
            out[row, column + 4] = np.float32(np.float64(pool[start + top, AMOUNT]))
            for kind in range(CARD_VALUES):
                out[row, column + 5 + kind] = np.float32(distinct[k, kind])
            small = window_small(pool, halves, start, low, position, SMALL)
            out[row, column + 9] = np.float32(np.float64(small) / n)
        column += 10
    return std


@inlined
def twice_recent_median(pool: Words, table: Words, slot: int, low: int, high: int, ascending: Words) -> int:
    """Twice the median of the newest RECENT_AMOUNTS amounts of events low .. high - 1 (at least one), which are sorted into
    `ascending`."""
    start, end, is_newest = table[slot, START], table.shape[1], high == table[slot, LENGTH]
    size, count = 0, min(high - low, RECENT_AMOUNTS)
    for i in range(count, 0, -1):
        amount, at = table[slot, end - i] & AMOUNT_MASK if is_newest else pool[start + high - i, AMOUNT], size
        while at > 0 and ascending[at - 1] > amount:
            ascending[at] = ascending[at - 1]
            at -= 1
        ascending[at] = amount
        size += 1
    twice: int = ascending[(size - 1) // 2] + ascending[size // 2]
    return twice


@inlined
def ratio_at(pool: Words, row: int) -> int:
    """An event's amount in hundredths of the card's typical one as it arrived; 0 where there was none to compare with."""
    ratio: int = (pool[row, VALUE + PLACE] >> RATIO_SHIFT) & RATIO_MASK
    return ratio


@inlined
def remember_recent(pool: Words, table: Words, slot: int, position: int) -> None:
    """Keep the newest amounts and ratios beside the entity: an event was added at `position`."""
    start, length, width = table[slot, START], table[slot, LENGTH], table.shape[1]
    count = 1
    if position == length - 1:
        for i in range(width - RECENT_RATIOS, width - 1):
            table[slot, i] = table[slot, i + 1]
    else:
        count = min(length, RECENT_RATIOS)
    for i in range(1, count + 1):
        row = start + length - i
        table[slot, width - i] = pool[row, AMOUNT] | ratio_at(pool, row) << AMOUNT_BITS


@inlined
def usual_amounts(pool: Words, table: Words, slot: int, position: int, low: int, windows: int) -> tuple[int, int]:
    """(sum, count) of the usual amounts of events low .. position - 1, which are the longest window: those of the newest one,
    less what has left it, and for a late event less what is after it, with what had not left it yet."""
    start, length, tail = table[slot, START], table[slot, LENGTH], table[slot, TAIL + windows - 1]
    kept = table.shape[1] - RECENT_RATIOS - 2
    total, count = table[slot, kept], table[slot, kept + 1]
    for row in range(start + tail, start + low):
        if pool[row, VALUE + PLACE] < 0:
            total, count = total - pool[row, AMOUNT], count - 1
    for row in range(start + low, start + tail):
        if pool[row, VALUE + PLACE] < 0:
            total, count = total + pool[row, AMOUNT], count + 1
    for row in range(start + position, start + length):
        if pool[row, VALUE + PLACE] < 0:
            total, count = total - pool[row, AMOUNT], count - 1
    return total, count


@inlined
def remember_usual(
    pool: Words, table: Words, slot: int, position: int, newest_ms: int, span_ms: int, total: int, count: int
) -> None:
    """Keep sum and count of the newest longest window: an event was added at `position`, before it they were total and count."""
    row, kept = table[slot, START] + position, table.shape[1] - RECENT_RATIOS - 2
    if position == table[slot, LENGTH] - 1:
        table[slot, kept], table[slot, kept + 1] = total, count
    if pool[row, VALUE + PLACE] < 0 and pool[row, TIME] > newest_ms - span_ms:
        table[slot, kept] += pool[row, AMOUNT]
        table[slot, kept + 1] += 1


@inlined
def largest_ratio(pool: Words, table: Words, slot: int, low: int, high: int) -> int:
    """The largest ratio among the newest RECENT_RATIOS of events low .. high - 1, in hundredths; 0 for none."""
    start, end, is_newest = table[slot, START], table.shape[1], high == table[slot, LENGTH]
    largest = 0
    for i in range(1, min(high - low, RECENT_RATIOS) + 1):
        ratio = table[slot, end - i] >> AMOUNT_BITS if is_newest else ratio_at(pool, start + high - i)
        largest = max(largest, ratio)
    return largest


@inlined
def read_card_typical(
    pool: Words,
    table: Words,
    slot: int,
    position: int,
    events: Words,
    event: int,
    lows: Words,
    out: Vectors,
    row: int,
    column: int,
) -> int:
    """Write the largest ratio of the week and this transaction's own; returns the next column.

    What the event keeps of it is put into row `event` of `events`: its ratio, and whether it is usual.
    """
    windows = len(lows)
    largest = largest_ratio(pool, table, slot, lows[WEEK], position)
    out[row, column] = np.float32(np.float64(largest) / 100.0) if largest > 0 else NAN
    out[row, column + 1] = NAN
    total, count = usual_amounts(pool, table, slot, position, lows[windows - 1], windows)
    amount, kept, least = events[event, AMOUNT], np.int64(0), total
    if count > 0:
        least = max(total, TYPICAL_MINOR_MIN * count)
        ratio = np.float64(amount) / (np.float64(least) / np.float64(count))
        out[row, column + 1] = np.float32(ratio)
        kept = np.int64(min(ratio, np.float64(RATIO_MAX)) * 100.0)
    place = events[event, VALUE + PLACE] | kept << RATIO_SHIFT
    if count < USUAL_ALWAYS or is_at_most(amount, USUAL_TIMES_MAX, total, count):
        place |= USUAL
    events[event, VALUE + PLACE] = place
    return column + 2


@inlined
def is_at_most(amount: int, times: int, total: int, count: int) -> bool:
    """Whether amount <= times * total / count, exactly. Products of fewer than 2 ** 20 amounts fit into a word; of more, the whole
    part of the mean is taken apart from its rest, which costs divisions."""
    if count < 1 << 20:
        return amount * count <= times * total
    return amount <= times * (total // count) + times * (total % count) // count


@inlined
def read_card_habit(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    position: int,
    events: Words,
    event: int,
    low: int,
    std: float,
    places: Words,
    recent: Words,
    cosine_table: Words,
    out: Vectors,
    row: int,
    column: int,
) -> int:
    """Write what this transaction is beside the card's longest window, which begins at `low`; returns the next column."""
    start = table[slot, START]
    for i in range(11):
        out[row, column + i] = NAN
    for i, kind in enumerate((DEVICE, PLACE, 1)):
        if value_at(events, event, kind) != 0:
            out[row, column + 7 + i] = np.float32(1 if places[kind, 1] < low else 0)
    if low == position:
        return column + 11
    time_ms, amount = events[event, TIME], np.float64(events[event, AMOUNT])
    n, total = np.float64(position - low), np.float64(window_sum(pool, start, low, position, SUM))
    if total > 0:
        mean = total / n
        out[row, column] = np.float32(amount / mean)
        if std > 0.0:
            out[row, column + 1] = np.float32((amount - mean) / std)
    night = np.int64(halves[start + position - 1, NIGHT]) - halves[start + low, NIGHT]
    night += 1 if is_night(pool[start + low, TIME]) else 0
    out[row, column + 2] = np.float32(np.float64(night) / n)
    twice = twice_recent_median(pool, table, slot, low, position, recent)
    if twice > 0:
        out[row, column + 3] = np.float32(2.0 * amount / np.float64(twice))
    read_travel(pool, start + position - 1, events, event, cosine_table, out, row, column + 4)
    out[row, column + 10] = np.float32(np.float64(time_ms - pool[start + low, TIME]) / np.float64(DAY_MS))
    return column + 11


@inlined
def read_travel(
    pool: Words, last: int, events: Words, event: int, cosine_table: Words, out: Vectors, row: int, column: int
) -> None:
    """Write seconds, kilometres and km/h since the event in row `last` of the pool; the latter two if both have a place."""
    since_ms = events[event, TIME] - pool[last, TIME]
    out[row, column] = np.float32(np.float64(since_ms) / 1000.0)
    here, there = events[event, VALUE + PLACE], pool[last, VALUE + PLACE]
    if is_placed(here) and is_placed(there):
        km = great_circle_km(cosine_table, here, there)
        out[row, column + 1] = np.float32(km)
        out[row, column + 2] = np.float32(km / (np.float64(max(since_ms, SPEED_MS_MIN)) / np.float64(HOUR_MS)))


@inlined
def read_card(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    events: Words,
    event: int,
    windows_ms: Words,
    cosine_table: Words,
    lows: Words,
    distinct: Words,
    places: Words,
    recent: Words,
    out: Vectors,
    row: int,
) -> int:
    """Write the vector of row `event` of `events`, with the request's features; returns how many columns it has.

    recent: room for RECENT_AMOUNTS. lows, distinct and places are left as measure() and trace() wrote them, and the row with the
    transaction's ratio.
    """
    start, length = table[slot, START], table[slot, LENGTH]
    time_ms = events[event, TIME]
    is_newest = length == 0 or time_ms >= pool[start + length - 1, TIME]
    position = length if is_newest else count_until(pool, start, length, time_ms)
    windows = len(windows_ms)
    trace(pool, halves, table, slot, events, event, position, places, CARD_VALUES, CARD_LINK, CARD_INDEX)
    measure(pool, halves, table, slot, position, time_ms, windows_ms, windows, lows, distinct, CARD_VALUES, CARD_LINK)
    column = read_request(time_ms, events[event, AMOUNT], out, row)
    std = read_card_history(pool, halves, start, position, lows, distinct, out, row, column)
    column += 10 * windows
    low = lows[windows - 1]
    column = read_card_habit(
        pool, halves, table, slot, position, events, event, low, std, places, recent, cosine_table, out, row, column
    )
    return read_card_typical(pool, table, slot, position, events, event, lows, out, row, column)


@inlined
def add_card(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    events: Words,
    event: int,
    windows_ms: Words,
    lows: Words,
    distinct: Words,
    places: Words,
) -> None:
    """Add row `event` of `events`, which was traced and measured; there must be room."""
    start, length, windows = table[slot, START], table[slot, LENGTH], len(windows_ms)
    position, total, count = length, 0, 0
    newest_ms = events[event, TIME]
    if length == 0 or newest_ms >= pool[start + length - 1, TIME]:
        total, count = usual_amounts(pool, table, slot, length, lows[windows - 1], windows)
        append(
            pool, halves, table, slot, events, event, windows, lows, distinct, places, CARD_VALUES, CARD_LINK, CARD_INDEX
        )  # fmt: skip
    else:
        position, newest_ms = count_until(pool, start, length, newest_ms), pool[start + length - 1, TIME]
        insert(
            pool, halves, table, slot, events, event, position, windows_ms, windows, places, CARD_VALUES, CARD_LINK,
            CARD_INDEX,
        )  # fmt: skip
    for i in range(position, length + 1):
        total_card(pool, halves, start, i)
    remember_recent(pool, table, slot, position)
    remember_usual(pool, table, slot, position, newest_ms, windows_ms[windows - 1], total, count)


@inlined
def fetch_table(table: Words, slot: int) -> None:
    """Ask for what the table holds of an entity."""
    for word in range(0, table.shape[1], LINE_WORDS):
        prefetch(table, slot, word)
    prefetch(table, slot, table.shape[1] - 1)


@inlined
def fetch_card(pool: Words, table: Words, slot: int, events: Words, event: int, windows: int) -> None:
    """Ask for the rows that reading and adding row `event` of `events` begins with."""
    start, size_class = table[slot, START], table[slot, CLASS]
    if size_class < 0:
        return
    for kind in range(CARD_VALUES + 1):
        prefetch(pool, start + bucket(kind, value_at(events, event, kind), size_class), LINE_WORDS)
    newest = start + max(table[slot, LENGTH] - 1, 0)
    prefetch(pool, newest, 0)
    prefetch(pool, newest, LINE_WORDS)
    for k in range(windows):
        low = min(start + table[slot, TAIL + k], newest)
        prefetch(pool, low, 0)
        prefetch(pool, low, LINE_WORDS)


@inlined
def fetch_terminal(pool: Words, table: Words, slot: int, events: Words, event: int, windows: int) -> None:
    """Ask for the rows that reading and adding row `event` of `events` begins with."""
    start, size_class = table[slot, START], table[slot, CLASS]
    if size_class < 0:
        return
    prefetch(pool, start + bucket(0, events[event, VALUE], size_class), 0)
    newest = start + max(table[slot, LENGTH] - 1, 0)
    prefetch(pool, newest, 0)
    for k in range(windows):
        prefetch(pool, min(start + table[slot, TAIL + k], newest), 0)


@compiled
def apply_cards(
    pool: Words,
    space: Words,
    table: Words,
    slots: Words,
    events: Words,
    windows_ms: Words,
    cosine_table: Words,
    out: Vectors,
    outcomes: Bytes,
    late: Mask,
    begin: int,
) -> int:
    """Read, then add, the transactions from `begin` on; returns the row it stopped at: the end, or the first that needs room."""
    halves, windows = pool.view(np.int32), len(windows_ms)
    span_ms = windows_ms[windows - 1]
    lows, distinct = np.empty(windows, np.int64), np.empty((windows, CARD_VALUES), np.int64)
    places, recent = np.empty((CARD_VALUES, 3), np.int64), np.empty(RECENT_AMOUNTS, np.int64)
    for row in range(begin, len(slots)):
        if row + FAR_AHEAD < len(slots):
            fetch_table(table, slots[row + FAR_AHEAD])
            fetch_card(pool, table, slots[row + AHEAD], events, row + AHEAD, windows)
        slot, time_ms = slots[row], events[row, TIME]
        if not make_room(pool, halves, space, table, slot, windows, 2 * span_ms):
            return row
        start, length = table[slot, START], table[slot, LENGTH]
        newest_ms = pool[start + length - 1, TIME] if length > 0 else time_ms
        if time_ms < newest_ms - span_ms:
            outcomes[row] = TOO_LATE
            out[row, :] = NAN
            continue
        if is_duplicate(pool, halves, table, slot, events[row, HASH], time_ms - span_ms):
            outcomes[row] = DUPLICATE
            out[row, :] = NAN
            continue
        read_card(
            pool, halves, table, slot, events, row, windows_ms, cosine_table, lows, distinct, places, recent, out, row
        )
        add_card(pool, halves, table, slot, events, row, windows_ms, lows, distinct, places)
        outcomes[row] = ACCEPTED
        late[row] = time_ms < newest_ms
    return len(slots)


@compiled
def look_up_card(
    pool: Words, table: Words, slot: int, events: Words, windows_ms: Words, cosine_table: Words, out: Vectors
) -> int:
    """Write the vector that the only row of `events` would get, into the only row of `out`; returns its columns."""
    windows = len(windows_ms)
    lows, distinct = np.empty(windows, np.int64), np.empty((windows, CARD_VALUES), np.int64)
    places, recent = np.empty((CARD_VALUES, 3), np.int64), np.empty(RECENT_AMOUNTS, np.int64)
    halves = pool.view(np.int32)
    return read_card(
        pool, halves, table, slot, events, 0, windows_ms, cosine_table, lows, distinct, places, recent, out, 0
    )


@compiled
def replay_cards(
    pool: Words, space: Words, table: Words, slots: Words, events: Words, windows_ms: Words, begin: int
) -> int:
    """Add logged transactions from `begin` on, unread and unjudged: the log holds accepted ones only."""
    halves, windows = pool.view(np.int32), len(windows_ms)
    lows, distinct = np.empty(windows, np.int64), np.empty((windows, CARD_VALUES), np.int64)
    places = np.empty((CARD_VALUES, 3), np.int64)
    for row in range(begin, len(slots)):
        slot = slots[row]
        if not make_room(pool, halves, space, table, slot, windows, 2 * windows_ms[windows - 1]):
            return row
        start, time_ms = table[slot, START], events[row, TIME]
        position = count_until(pool, start, table[slot, LENGTH], time_ms)
        trace(pool, halves, table, slot, events, row, position, places, CARD_VALUES, CARD_LINK, CARD_INDEX)
        measure(
            pool, halves, table, slot, position, time_ms, windows_ms, windows, lows, distinct, CARD_VALUES, CARD_LINK
        )  # fmt: skip
        add_card(pool, halves, table, slot, events, row, windows_ms, lows, distinct, places)
    return len(slots)


# -- terminals ------------------------------------------------------------------------------------------------------------------


@inlined
def total_terminal(pool: Words, halves: Halves, start: int, i: int) -> None:
    """Compute the running totals of event i, which keeps its own mark, from those of the event before it."""
    amount = pool[start + i, AMOUNT]
    total, small = amount, 1 if amount < SMALL_AMOUNT_MINOR else 0
    if i > 0:
        total += pool[start + i - 1, TERMINAL_SUM]
        small += halves[start + i - 1, TERMINAL_SMALL]
    pool[start + i, TERMINAL_SUM] = total
    halves[start + i, TERMINAL_SMALL] = small
    total_risk(pool, start, i)


@inlined
def total_risk(pool: Words, start: int, i: int) -> None:
    """Compute the running totals in RISK of event i, which keeps what is said of itself, from those of the event before it."""
    own = pool[start + i, RISK] & (KNOWN | STRIKING)
    fraud, plain = own & KNOWN, 1 if own == KNOWN else 0
    if i > 0:
        fraud += pool[start + i - 1, RISK] >> FRAUD_SHIFT
        plain += plain_until(pool, start + i - 1)
    pool[start + i, RISK] = fraud << FRAUD_SHIFT | (plain & PLAIN_MASK) << PLAIN_SHIFT | own


@inlined
def plain_until(pool: Words, row: int) -> int:
    """Known frauds without a striking amount up to an event, among the events that its chunk has had."""
    plain: int = (pool[row, RISK] >> PLAIN_SHIFT) & PLAIN_MASK
    return plain


@compiled
def mark(pool: Words, table: Words, slot: int, time_ms: int, hashed: int, is_fraud: int) -> int:
    """Set what is known of a transaction: 1 if that changes something, 0 if it was known already, -1 if there is none such."""
    start, length = table[slot, START], table[slot, LENGTH]
    i = count_until(pool, start, length, time_ms - 1)
    while i < length and pool[start + i, TIME] == time_ms:
        if pool[start + i, HASH] == hashed:
            if pool[start + i, RISK] & KNOWN == is_fraud:
                return 0
            pool[start + i, RISK] = pool[start + i, RISK] & STRIKING | is_fraud
            for j in range(i, length):
                total_risk(pool, start, j)
            return 1
        i += 1
    return -1


@inlined
def read_terminal_history(
    pool: Words,
    halves: Halves,
    start: int,
    position: int,
    lows: Words,
    distinct: Words,
    out: Vectors,
    row: int,
) -> int:
    """Write the features of each counted window, shortest first; returns the next column."""
    column = 0
    for k in range(len(distinct)):
        low = lows[k]
        count = position - low
        out[row, column] = np.float32(count)
        out[row, column + 1] = np.float32(np.float64(window_sum(pool, start, low, position, TERMINAL_SUM)))
        out[row, column + 2] = np.float32(distinct[k, 0])
        out[row, column + 3] = NAN
        if count > 0:
            small = window_small(pool, halves, start, low, position, TERMINAL_SMALL)
            out[row, column + 3] = np.float32(np.float64(small) / np.float64(count))
        column += 4
    return column


@inlined
def read_terminal_risk(
    pool: Words, start: int, position: int, time_ms: int, lows: Words, first: int, out: Vectors, row: int, column: int
) -> int:
    """Write the delayed risk; lows[first] ends its windows, which begin at the lows after it. Returns the next column."""
    matured = lows[first]
    for k in range(first + 1, len(lows)):
        count, fraud = matured - lows[k], 0
        out[row, column + 2] = NAN
        if count > 0:
            fraud = (pool[start + matured - 1, RISK] >> FRAUD_SHIFT) - fraud_before(pool, start, lows[k])
            out[row, column + 2] = np.float32(np.float64(fraud) / np.float64(count))
        out[row, column] = np.float32(count)
        out[row, column + 1] = np.float32(fraud)
        column += 3
    low = lows[len(lows) - 1]
    out[row, column], out[row, column + 1] = NAN, NAN
    if position > low:
        before, fraud = fraud_before(pool, start, low), pool[start + position - 1, RISK] >> FRAUD_SHIFT
        if fraud > before:
            oldest = pool[start + fraud_number(pool, start, low, position, before + 1), TIME]
            newest = pool[start + fraud_number(pool, start, low, position, fraud), TIME]
            out[row, column] = np.float32(np.float64(time_ms - oldest) / np.float64(DAY_MS))
            out[row, column + 1] = np.float32(np.float64(time_ms - newest) / np.float64(DAY_MS))
    read_streaks(pool, start, low, matured, time_ms, out, row, column + 2)
    return column + 5


@inlined
def read_streaks(
    pool: Words, start: int, low: int, matured: int, time_ms: int, out: Vectors, row: int, column: int
) -> None:
    """Write how many of the events low .. matured - 1 are known fraud since the last that is not, how many of those have no
    striking amount, and the days since the last that is not."""
    genuine = last_genuine(pool, start, low, matured)
    out[row, column], out[row, column + 1] = np.float32(matured - 1 - genuine), np.float32(0)
    out[row, column + 2] = NAN
    if genuine >= low:
        out[row, column + 2] = np.float32(np.float64(time_ms - pool[start + genuine, TIME]) / np.float64(DAY_MS))
    if matured - 1 > genuine:
        first = pool[start + genuine + 1, RISK]
        plain = plain_until(pool, start + matured - 1) - ((first >> PLAIN_SHIFT) & PLAIN_MASK)
        plain += 1 if first & STRIKING == 0 else 0
        out[row, column + 1] = np.float32(plain & PLAIN_MASK)


@inlined
def last_genuine(pool: Words, start: int, low: int, high: int) -> int:
    """Position of the newest event of low .. high - 1 that is not known as fraud; low - 1 for none.

    It is the first with which those that are not known as fraud reach their number: a search, and only where a fraud is the newest.
    """
    if high == low or pool[start + high - 1, RISK] & KNOWN == 0:
        return high - 1
    before = fraud_before(pool, start, low)
    genuine = high - low - ((pool[start + high - 1, RISK] >> FRAUD_SHIFT) - before)
    if genuine == 0:
        return low - 1
    first, last = low, high - 1
    while first < last:
        middle = (first + last) >> 1
        if middle + 1 - low - ((pool[start + middle, RISK] >> FRAUD_SHIFT) - before) >= genuine:
            last = middle
        else:
            first = middle + 1
    return first


@inlined
def fraud_before(pool: Words, start: int, i: int) -> int:
    """Known fraud before event i of a chunk, among the events that it still has."""
    known: int = (pool[start + i, RISK] >> FRAUD_SHIFT) - (pool[start + i, RISK] & KNOWN)
    return known


@inlined
def fraud_number(pool: Words, start: int, low: int, high: int, number: int) -> int:
    """Position, in low .. high - 1, of the event with which the known fraud reaches `number`."""
    high -= 1
    while low < high:
        middle = (low + high) >> 1
        if pool[start + middle, RISK] >> FRAUD_SHIFT >= number:
            high = middle
        else:
            low = middle + 1
    return low


@inlined
def read_terminal(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    time_ms: int,
    windows_ms: Words,
    lows: Words,
    distinct: Words,
    out: Vectors,
    row: int,
) -> int:
    """Write the terminal's features at time_ms; returns how many there are. lows and distinct are left as measure() wrote them.

    windows_ms: lengths of the counted windows (as many as `distinct` has rows), the label delay, and where the risk windows begin.
    """
    start, length, counted = table[slot, START], table[slot, LENGTH], len(distinct)
    is_newest = length == 0 or time_ms >= pool[start + length - 1, TIME]
    position = length if is_newest else count_until(pool, start, length, time_ms)
    measure(
        pool, halves, table, slot, position, time_ms, windows_ms, counted, lows, distinct, TERMINAL_VALUES, TERMINAL_LINK
    )  # fmt: skip
    column = read_terminal_history(pool, halves, start, position, lows, distinct, out, row)
    return read_terminal_risk(pool, start, position, time_ms, lows, counted, out, row, column)


@inlined
def add_terminal(
    pool: Words,
    halves: Halves,
    table: Words,
    slot: int,
    events: Words,
    event: int,
    windows_ms: Words,
    lows: Words,
    distinct: Words,
    places: Words,
) -> None:
    """Add row `event` of `events`, which was measured, not known as fraud; there must be room."""
    start, length, counted = table[slot, START], table[slot, LENGTH], len(distinct)
    position = count_until(pool, start, length, events[event, TIME])
    trace(
        pool, halves, table, slot, events, event, position, places, TERMINAL_VALUES, TERMINAL_LINK, TERMINAL_INDEX
    )  # fmt: skip
    if position == length:
        append(
            pool, halves, table, slot, events, event, counted, lows, distinct, places, TERMINAL_VALUES, TERMINAL_LINK,
            TERMINAL_INDEX,
        )  # fmt: skip
    else:
        insert(
            pool, halves, table, slot, events, event, position, windows_ms, counted, places, TERMINAL_VALUES,
            TERMINAL_LINK, TERMINAL_INDEX,
        )  # fmt: skip
    amount = pool[start + position, AMOUNT]
    pool[start + position, AMOUNT] = amount & AMOUNT_MASK
    pool[start + position, RISK] = STRIKING if amount >> STRIKING_SHIFT == 1 else 0
    for i in range(position, length + 1):
        total_terminal(pool, halves, start, i)


@compiled
def judge_label(
    pool: Words, table: Words, slot: int, time_ms: int, hashed: int, is_fraud: int, retention_ms: int
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
    events: Words,
    is_fraud: Bytes,
    windows_ms: Words,
    counted: int,
    out: Vectors,
    outcomes: Bytes,
    late: Mask,
    changed: Mask,
    begin: int,
) -> int:
    """Read, then add, transactions, and apply labels, from `begin` on; returns the row it stopped at: the end, or the first
    that needs room."""
    halves, windows = pool.view(np.int32), len(windows_ms)
    span_ms = windows_ms[windows - 1]
    lows, distinct = np.empty(windows, np.int64), np.empty((counted, TERMINAL_VALUES), np.int64)
    places = np.empty((TERMINAL_VALUES, 3), np.int64)
    for row in range(begin, len(slots)):
        if row + FAR_AHEAD < len(slots):
            fetch_table(table, slots[row + FAR_AHEAD])
            fetch_terminal(pool, table, slots[row + AHEAD], events, row + AHEAD, windows)
        slot, time_ms = slots[row], events[row, TIME]
        if kinds[row] == 1:
            outcome, change = judge_label(pool, table, slot, time_ms, events[row, HASH], is_fraud[row], 2 * span_ms)
            outcomes[row], changed[row] = outcome, change == 1
            out[row, :] = NAN
            continue
        if not make_room(pool, halves, space, table, slot, windows, 2 * span_ms):
            return row
        start, length = table[slot, START], table[slot, LENGTH]
        newest_ms = pool[start + length - 1, TIME] if length > 0 else time_ms
        if time_ms < newest_ms - span_ms:
            outcomes[row] = TOO_LATE
            out[row, :] = NAN
            continue
        read_terminal(pool, halves, table, slot, time_ms, windows_ms, lows, distinct, out, row)
        add_terminal(pool, halves, table, slot, events, row, windows_ms, lows, distinct, places)
        outcomes[row] = ACCEPTED
        late[row] = time_ms < newest_ms
        changed[row] = True
    return len(slots)


@compiled
def look_up_terminal(
    pool: Words, table: Words, slot: int, time_ms: int, windows_ms: Words, counted: int, out: Vectors
) -> int:
    """Write the features that a transaction at time_ms would get into the only row of `out`; returns how many there are."""
    lows, distinct = np.empty(len(windows_ms), np.int64), np.empty((counted, TERMINAL_VALUES), np.int64)
    return read_terminal(pool, pool.view(np.int32), table, slot, time_ms, windows_ms, lows, distinct, out, 0)


@compiled
def replay_terminals(
    pool: Words,
    space: Words,
    table: Words,
    slots: Words,
    events: Words,
    windows_ms: Words,
    counted: int,
    begin: int,
) -> int:
    """Add logged transactions and marks from `begin` on, unread and unjudged: the log holds what changed the state."""
    halves, windows = pool.view(np.int32), len(windows_ms)
    lows, distinct = np.empty(windows, np.int64), np.empty((counted, TERMINAL_VALUES), np.int64)
    places = np.empty((TERMINAL_VALUES, 3), np.int64)
    for row in range(begin, len(slots)):
        slot, time_ms, amount = slots[row], events[row, TIME], events[row, AMOUNT]
        if amount < 0:
            mark(pool, table, slot, time_ms, events[row, HASH], 1 if amount == FRAUD_MARK else 0)
            continue
        if not make_room(pool, halves, space, table, slot, windows, 2 * windows_ms[windows - 1]):
            return row
        position = count_until(pool, table[slot, START], table[slot, LENGTH], time_ms)
        measure(
            pool, halves, table, slot, position, time_ms, windows_ms, counted, lows, distinct, TERMINAL_VALUES, TERMINAL_LINK
        )  # fmt: skip
        add_terminal(pool, halves, table, slot, events, row, windows_ms, lows, distinct, places)
    return len(slots)
