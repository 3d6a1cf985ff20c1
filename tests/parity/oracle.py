"""The naive oracle: what every vector must be, by rescanning everything that arrived before.

Rule 1. It shares no code with fraud/fold.py; it knows the feature views and nothing of chunks, totals or retention.
Rule 2. Slow on purpose: plain Python integers, one scan per window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud.features import (
    CARD_HABIT,
    CARD_HISTORY,
    CARD_SPAN_MS,
    TERMINAL_HISTORY,
    TERMINAL_RISK,
    TERMINAL_SPAN_MS,
)
from fraud.windows import DAY_MS, HOUR_MS

NAN = math.nan


@dataclass
class Seen:
    """A transaction that arrived and was accepted."""

    t: int
    amount: int
    id_hash: int
    is_fraud: bool = False


def float32(values: list[float]) -> npt.NDArray[np.float32]:
    """One rounding at the end."""
    return np.array([float(v) for v in values], np.float64).astype(np.float32)


class CardOracle:
    """All cards."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Seen]] = {}

    def apply(self, card: str, id_hash: int, t: int, amount: int) -> tuple[str, npt.NDArray[np.float32] | None, bool]:
        """(outcome, vector, late) of one transaction."""
        seen = self.seen.setdefault(card, [])
        newest = max((y.t for y in seen), default=t)
        if t < newest - CARD_SPAN_MS:
            return "too late", None, False
        if any(y.id_hash == id_hash and y.t > t - CARD_SPAN_MS for y in seen):
            return "duplicate", None, False
        vector = float32(self.vector(seen, t, amount))
        seen.append(Seen(t, amount, id_hash))
        return "accepted", vector, t < newest

    def vector(self, seen: list[Seen], t: int, amount: int) -> list[float]:
        """Request and card features, before rounding."""
        values: list[float] = [amount, t // HOUR_MS % 24, (t // DAY_MS + 3) % 7]
        for window in CARD_HISTORY.windows:
            amounts = [y.amount for y in seen if t - window.length_ms < y.t <= t]
            mean = float(sum(amounts)) / float(len(amounts)) if amounts else NAN
            values += [len(amounts), sum(amounts), mean, max(amounts, default=NAN)]
        for window in CARD_HABIT.windows:
            amounts = [y.amount for y in seen if t - window.length_ms < y.t <= t]
            n, s = len(amounts), sum(amounts)
            high, low = divmod(n * sum(a * a for a in amounts) - s * s, 2**64)
            std = math.sqrt(float(high) * 2.0**64 + float(low)) / float(n) if n else 0.0
            values.append(float(amount) / (float(s) / float(n)) if s else NAN)
            values.append((float(amount) - float(s) / float(n)) / std if std else NAN)
        before = [y.t for y in seen if y.t <= t]
        return [*values, (t - max(before)) / 1000 if before else NAN]


class TerminalOracle:
    """All terminals."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Seen]] = {}

    def apply(
        self, terminal: str, id_hash: int, t: int, amount: int
    ) -> tuple[str, npt.NDArray[np.float32] | None, bool]:
        """(outcome, vector, late) of one transaction."""
        seen = self.seen.setdefault(terminal, [])
        newest = max((y.t for y in seen), default=t)
        if t < newest - TERMINAL_SPAN_MS:
            return "too late", None, False
        vector = float32(self.vector(seen, t))
        seen.append(Seen(t, amount, id_hash))
        return "accepted", vector, t < newest

    def label(self, terminal: str, id_hash: int, t: int, is_fraud: bool) -> str:
        """Outcome of a label of the transaction `id_hash` at time t."""
        seen = self.seen.get(terminal, [])
        if seen and t <= max(y.t for y in seen) - 2 * TERMINAL_SPAN_MS:
            return "label expired"
        for y in seen:
            if y.id_hash == id_hash and y.t == t:
                y.is_fraud = is_fraud
                return "label applied"
        return "label unknown"

    def vector(self, seen: list[Seen], t: int) -> list[float]:
        """Terminal features, before rounding."""
        values: list[float] = [sum(t - w.length_ms < y.t <= t for y in seen) for w in TERMINAL_HISTORY.windows]
        end = t - TERMINAL_RISK.delay_ms
        for window in TERMINAL_RISK.windows:
            known = [y.is_fraud for y in seen if end - window.length_ms < y.t <= end]
            values += [len(known), sum(known), sum(known) / len(known) if known else NAN]
        frauds = [y.t for y in seen if y.is_fraud and y.t <= t]
        return [*values, (t - max(frauds)) / 86400000 if frauds else NAN]
