"""The agreed features as a tutorial computes them: from what a Redis sorted set holds of a card.

Rule 1. Only the standard library: every peer imports this from its own environment.
Rule 2. A window of length w at t is (t - w, t], without the transaction itself: it is read before it is added.
Rule 3. The order is that of benchmarks/harness/agreed.py, whose values a check compares with these before anything is timed.
"""

from __future__ import annotations

from collections.abc import Iterable

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CARD_WINDOWS_MS = (HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS)
TERMINAL_WINDOWS_MS = (HOUR_MS, DAY_MS, 7 * DAY_MS)
CARD_KEPT_MS = CARD_WINDOWS_MS[-1]
TERMINAL_KEPT_MS = TERMINAL_WINDOWS_MS[-1]
NO_VALUE = float("nan")


def vector(
    amount_minor: int, at_ms: int, card: Iterable[tuple[int, int]], terminal_counts: Iterable[int]
) -> list[float]:
    """The feature vector. card: (event time in ms, amount) of its last 30 days; terminal_counts: per TERMINAL_WINDOWS_MS."""
    told: list[float] = [amount_minor]
    history = list(card)
    for length_ms in CARD_WINDOWS_MS:
        amounts = [amount for moment_ms, amount in history if moment_ms > at_ms - length_ms]
        count, total = len(amounts), sum(amounts)
        told += [count, total, total / count if count else NO_VALUE, max(amounts) if count else NO_VALUE]
    told += terminal_counts
    return told


def member(transaction_id: str, amount_minor: int) -> str:
    """What stands in the sorted set, with the event time as its score."""
    return f"{transaction_id}:{amount_minor}"


def amount_of(stored: str) -> int:
    """The amount of a member."""
    return int(stored.rpartition(":")[2])
