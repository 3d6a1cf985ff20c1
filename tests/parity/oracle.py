"""The naive oracle: what every vector must be, by rescanning everything that arrived before.

Rule 1. It shares no code with fraud/fold.py; it knows the feature views and nothing of chunks, totals, links or retention.
Rule 2. Slow on purpose: plain Python integers, one scan per window, sets for what is distinct.
Rule 3. What is said of a transaction as it arrives (is_usual, ratio) is never said anew, whatever arrives late.
Rule 4. An absent merchant, device or country is None, and so are both coordinates of no place.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
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
class Paid:
    """A transaction, as a card's or a terminal's history knows it; `is_fraud` is what labels have said so far.

    `is_striking` comes with it; `is_usual` and `ratio` are what the card's history made of it.
    """

    t: int
    amount: int
    id_hash: int
    card: Hashable = None
    terminal: Hashable = None
    merchant: Hashable = None
    device: Hashable = None
    country: Hashable = None
    place: tuple[int, int] | None = None
    is_striking: bool = False
    is_fraud: bool = False
    is_usual: bool = False  # for its card, as it arrived
    ratio: float = 0.0  # in whole hundredths of its card's typical amount, as it arrived; 0 for none


Judged = tuple[str, npt.NDArray[np.float32] | None, bool]


def float32(values: list[float]) -> npt.NDArray[np.float32]:
    """One rounding at the end."""
    return np.array([float(v) for v in values], np.float64).astype(np.float32)


def share(part: int, whole: int) -> float:
    return float(part) / float(whole) if whole else NAN


def distinct(values: list[Hashable]) -> int:
    return len({value for value in values if value is not None})


def deviation(amounts: list[int]) -> float:
    """Population standard deviation, the difference of squares exact."""
    n, s = len(amounts), sum(amounts)
    high, low = divmod(n * sum(a * a for a in amounts) - s * s, 2**64)
    return math.sqrt(float(high) * 2.0**64 + float(low)) / float(n) if n else NAN


def kilometres(a: tuple[int, int], b: tuple[int, int]) -> float:
    """The stated formula: cosines times 2^26 as integers, the chord, and A&S 4.4.46 for the arc over it."""

    def cosine(hundredths: int) -> int:
        return round(math.cos(math.radians(hundredths / 100)) * 2**26)

    def point(latitude: int, longitude: int) -> tuple[int, int, int]:
        flat = cosine(latitude)
        return flat * cosine(longitude), flat * cosine(longitude - 9000), cosine(9000 - latitude) * 2**26

    dx, dy, dz = (float(p) - float(q) for p, q in zip(point(*a), point(*b), strict=True))
    h = min(1.0, math.sqrt(dx * dx + dy * dy + dz * dz) / 2.0**53)
    if h == 0:
        return 0.0
    p = -0.0012624911
    for coefficient in (
        0.0066700901, -0.0170881256, 0.0308918810, -0.0501743046, 0.0889789874, -0.2145988016, 1.5707963050,
    ):  # fmt: skip
        p = p * h + coefficient
    return 2.0 * 6371.0088 * max(0.0, math.pi / 2 - math.sqrt(1.0 - h) * p)


class CardOracle:
    """All cards."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Paid]] = {}

    def apply(self, card: str, x: Paid) -> Judged:
        """(outcome, vector, late) of one transaction."""
        seen = self.seen.setdefault(card, [])
        newest = max((y.t for y in seen), default=x.t)
        if x.t < newest - CARD_SPAN_MS:
            return "too late", None, False
        if any(y.id_hash == x.id_hash and y.t > x.t - CARD_SPAN_MS for y in seen):
            return "duplicate", None, False
        vector = float32(self.vector(seen, x))
        seen.append(x)
        return "accepted", vector, x.t < newest

    def vector(self, seen: list[Paid], x: Paid) -> list[float]:
        """Request and card features, before rounding."""
        values: list[float] = [x.amount, x.t // HOUR_MS % 24, (x.t // DAY_MS + 3) % 7]
        for window in CARD_HISTORY.windows:
            inside = [y for y in seen if x.t - window.length_ms < y.t <= x.t]
            amounts = [y.amount for y in inside]
            values += [len(amounts), sum(amounts), share(sum(amounts), len(amounts)), deviation(amounts)]
            values += [max(amounts, default=NAN)]
            values += [distinct([y.terminal for y in inside]), distinct([y.merchant for y in inside])]
            values += [distinct([y.device for y in inside]), distinct([y.country for y in inside])]
            values += [share(sum(amount < 500 for amount in amounts), len(amounts))]
        (window,) = CARD_HABIT.windows
        month = [y for y in seen if x.t - window.length_ms < y.t <= x.t]
        month = sorted(month, key=lambda y: y.t)
        return values + self.habit(month, x) + self.typical(month, x)

    def typical(self, month: list[Paid], x: Paid) -> list[float]:
        """The largest ratio of a week and this one; says of x whether it is usual, and its ratio."""
        usual = [y.amount for y in month if y.is_usual]
        x.is_usual = len(usual) < 3 or x.amount * len(usual) <= 3 * sum(usual)
        ratio = float(x.amount) / (float(max(sum(usual), 100 * len(usual))) / float(len(usual))) if usual else NAN
        x.ratio = math.floor(min(ratio, 320.0) * 100.0) / 100.0 if usual else 0.0
        week = [y.ratio for y in month if x.t - 7 * DAY_MS < y.t][-32:]
        return [max(week, default=0.0) or NAN, ratio]

    def habit(self, month: list[Paid], x: Paid) -> list[float]:
        """This transaction beside those of 30 days, which are in the order of event time, arrival where that ties."""
        amounts = [y.amount for y in month]
        mean, std = share(sum(amounts), len(amounts)), deviation(amounts)
        values = [float(x.amount) / mean if sum(amounts) else NAN, (float(x.amount) - mean) / std if std > 0 else NAN]
        values += [share(sum(y.t // HOUR_MS % 24 < 6 for y in month), len(month))]
        recent = sorted(amounts[-16:])
        twice = recent[(len(recent) - 1) // 2] + recent[len(recent) // 2] if recent else 0
        values += [float(2 * x.amount) / float(twice) if twice else NAN]
        values += self.travel(month, x)
        for mine, theirs in (
            (x.device, [y.device for y in month]),
            (x.country, [y.country for y in month]),
            (x.merchant, [y.merchant for y in month]),
        ):
            values.append(NAN if mine is None else float(mine not in theirs))
        return [*values, (x.t - month[0].t) / 86_400_000 if month else NAN]

    def travel(self, month: list[Paid], x: Paid) -> list[float]:
        """Seconds, kilometres and km/h since the last."""
        if not month:
            return [NAN, NAN, NAN]
        last = month[-1]
        seconds = (x.t - last.t) / 1000
        if x.place is None or last.place is None:
            return [seconds, NAN, NAN]
        km = kilometres(x.place, last.place)
        return [seconds, km, km / (max(x.t - last.t, 60_000) / 3_600_000)]


class TerminalOracle:
    """All terminals."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Paid]] = {}

    def apply(self, terminal: str, x: Paid) -> Judged:
        """(outcome, vector, late) of one transaction."""
        seen = self.seen.setdefault(terminal, [])
        newest = max((y.t for y in seen), default=x.t)
        if x.t < newest - TERMINAL_SPAN_MS:
            return "too late", None, False
        vector = float32(self.vector(seen, x.t))
        seen.append(x)
        return "accepted", vector, x.t < newest

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

    def vector(self, seen: list[Paid], t: int) -> list[float]:
        """Terminal features, before rounding."""
        values: list[float] = []
        for window in TERMINAL_HISTORY.windows:
            inside = [y for y in seen if t - window.length_ms < y.t <= t]
            values += [len(inside), sum(y.amount for y in inside), distinct([y.card for y in inside])]
            values += [share(sum(y.amount < 500 for y in inside), len(inside))]
        end = t - TERMINAL_RISK.delay_ms
        for window in TERMINAL_RISK.windows:
            known = [y.is_fraud for y in seen if end - window.length_ms < y.t <= end]
            values += [len(known), sum(known), share(sum(known), len(known))]
        frauds = [y.t for y in seen if y.is_fraud and t - TERMINAL_SPAN_MS < y.t <= t]
        values += [(t - first(frauds)) / 86_400_000 if frauds else NAN for first in (min, max)]
        matured = sorted((y for y in seen if t - TERMINAL_SPAN_MS < y.t <= end), key=lambda y: y.t)
        streak = 0
        while streak < len(matured) and matured[-1 - streak].is_fraud:
            streak += 1
        unexplained = sum(not y.is_striking for y in matured[len(matured) - streak :])
        genuine = [y.t for y in matured if not y.is_fraud]
        return [*values, streak, unexplained, (t - genuine[-1]) / 86_400_000 if genuine else NAN]
