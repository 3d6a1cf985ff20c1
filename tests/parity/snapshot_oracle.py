"""The naive oracle of nightly snapshots: every number by rescanning every row, in plain Python.

Rule 1. It shares no code with trainer/batch_path: it knows the windows and the names, nothing of polars or last-seen pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, pstdev

from fraud.windows import DAY_MS

NAN = math.nan
DELAY_MS = 7 * DAY_MS


@dataclass(frozen=True)
class Paid:
    """A transaction as it stands in the log."""

    transaction: str
    card: str
    terminal: str
    amount: int
    at_ms: int
    sent_ms: int
    merchant: str | None
    country: str | None


@dataclass(frozen=True)
class Said:
    """A label as it stands in the log."""

    transaction: str
    card: str
    is_fraud: bool
    known_ms: int


def once(log: Iterable[Paid]) -> list[Paid]:
    """The rows without repeated transactions."""
    kept: dict[tuple[str, str], Paid] = {}
    for paid in log:
        kept.setdefault((paid.card, paid.transaction), paid)
    return list(kept.values())


def fraud_at(said: Iterable[Said], midnight_ms: int) -> set[tuple[str, str]]:
    """What is known to be fraud at a midnight: by the newest label known before it, of equally new ones the last."""
    newest: dict[tuple[str, str], Said] = {}
    for label in said:
        before = newest.get((label.card, label.transaction))
        if label.known_ms < midnight_ms and (before is None or label.known_ms >= before.known_ms):
            newest[label.card, label.transaction] = label
    return {key for key, label in newest.items() if label.is_fraud}


def of_entities(
    log: list[Paid], said: list[Said], midnight_ms: int, entity: Callable[[Paid], str], kind: str
) -> dict[str, dict[str, float]]:
    """The snapshot's columns by entity and name; kind: card or terminal."""
    known = [p for p in once(log) if p.at_ms < midnight_ms and p.sent_ms < midnight_ms]
    fraud = fraud_at(said, midnight_ms)
    found = {}
    for name in {entity(p) for p in known}:
        mine = [p for p in known if entity(p) == name]
        recent = [p for p in mine if p.at_ms >= midnight_ms - 30 * DAY_MS]
        delayed = [p for p in mine if midnight_ms - DELAY_MS - 28 * DAY_MS <= p.at_ms < midnight_ms - DELAY_MS]
        if recent or (kind == "terminal" and delayed):
            found[name] = _columns(mine, recent, fraud, midnight_ms, kind)
    return found


def _columns(
    mine: list[Paid], recent: list[Paid], fraud: set[tuple[str, str]], midnight_ms: int, kind: str
) -> dict[str, float]:
    columns: dict[str, float] = {}
    others: dict[str, Callable[[Paid], str | None]] = (
        {"terminals": lambda p: p.terminal, "merchants": lambda p: p.merchant, "countries": lambda p: p.country}
        if kind == "card"
        else {"cards": lambda p: p.card}
    )
    for window, days in (("1d", 1), ("7d", 7), ("30d", 30)):
        inside = [p for p in mine if p.at_ms >= midnight_ms - days * DAY_MS]
        amounts = [float(p.amount) for p in inside]
        columns[f"count_{window}"] = len(inside)
        columns[f"sum_amount_minor_{window}"] = sum(amounts)
        columns[f"mean_amount_minor_{window}"] = fmean(amounts) if amounts else NAN
        columns[f"std_amount_minor_{window}"] = pstdev(amounts) if amounts else NAN
        columns[f"max_amount_minor_{window}"] = max(amounts, default=NAN)
        for what, of in others.items():
            columns[f"distinct_{what}_{window}"] = len({of(p) for p in inside} - {None})
    columns["days_since_last"] = (midnight_ms - max(p.at_ms for p in recent)) / DAY_MS if recent else NAN
    if kind == "terminal":
        ends_ms = midnight_ms - DELAY_MS
        for window, days in (("1d", 1), ("7d", 7), ("28d", 28)):
            matured = [p for p in mine if ends_ms - days * DAY_MS <= p.at_ms < ends_ms]
            frauds = sum((p.card, p.transaction) in fraud for p in matured)
            columns[f"matured_count_{window}"] = len(matured)
            columns[f"fraud_count_{window}"] = frauds
            columns[f"fraud_share_{window}"] = frauds / len(matured) if matured else NAN
    return {f"nightly_{kind}_{name}": value for name, value in columns.items()}
