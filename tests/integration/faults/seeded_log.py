"""A log that has everything in it: tied, late and repeated transactions, bad messages, labels seven days later, reversals.

Rule 1. Equal seeds give equal records in equal order.
Rule 2. Records stand in the order in which they were sent; what Kafka makes of that order is the truth, not this list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud.labels import Label
from fraud.transaction import Transaction
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS

BEGIN_MS: Final = 1_522_540_800_000  # 2018-04-01
LABEL_DELAY_MS: Final = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class Sent:
    """One record on its way: the event time at which it is sent, and where to."""

    at_ms: int
    topic: str
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the log is."""

    transactions: int = 20_000
    cards: int = 300
    terminals: int = 150
    days: int = 25  # shorter than any span: no partition can run so far ahead that the others come too late


def seeded_log(seed: int, shape: Shape) -> list[Sent]:
    """The records of both public topics in the order of sending."""
    rng = np.random.default_rng(seed)
    transactions = _transactions(rng, shape)
    sent = [_sent(transaction) for transaction in transactions]
    sent += _repeated(rng, transactions)
    sent += _bad(rng, transactions)
    sent += _labels(rng, transactions)
    order = sorted(range(len(sent)), key=lambda i: sent[i].at_ms)
    return [sent[i] for i in order]


def _transactions(rng: np.random.Generator, shape: Shape) -> list[Transaction]:
    n = shape.transactions
    times = BEGIN_MS + np.sort(rng.integers(0, shape.days * DAY_MS, n))
    tied = rng.random(n) < 0.2
    times[tied] -= times[tied] % (10 * MINUTE_MS)  # many transactions at one and the same moment
    delay = np.zeros(n, np.int64)
    late = rng.random(n) < 0.05
    delay[late] = rng.integers(0, 2 * DAY_MS, int(late.sum()))
    delay[rng.random(n) < 0.002] = 33 * DAY_MS  # further behind than any window of a card
    cards = np.minimum(rng.zipf(1.3, n) - 1, shape.cards - 1)
    terminals = rng.integers(0, shape.terminals, n)
    amounts = np.maximum(0, rng.lognormal(7.5, 1.0, n)).astype(np.int64)
    amounts[rng.random(n) < 0.01] *= 40
    return [
        Transaction(f"t{i}", f"c{cards[i]}", f"m{terminals[i]}", int(amounts[i]), "EUR", at, at + int(delay[i]))
        for i, at in enumerate(times.tolist())
    ]


def _sent(transaction: Transaction, at_ms: int | None = None) -> Sent:
    when = transaction.sent_at_ms if at_ms is None else at_ms
    return Sent(when, "transactions", transaction.card_id.encode(), transaction.to_json())


def _repeated(rng: np.random.Generator, transactions: list[Transaction]) -> list[Sent]:
    """The same transaction sent again, now and then with another amount."""
    again: list[Sent] = []
    for i in np.flatnonzero(rng.random(len(transactions)) < 0.02).tolist():
        one = transactions[i]
        changed = Transaction(
            one.transaction_id, one.card_id, one.terminal_id, one.amount_minor + i % 2, "EUR",
            one.occurred_at_ms, one.sent_at_ms,
        )  # fmt: skip
        again.append(_sent(changed, one.sent_at_ms + int(rng.integers(0, 2 * HOUR_MS))))
    return again


def _bad(rng: np.random.Generator, transactions: list[Transaction]) -> list[Sent]:
    bad: list[Sent] = []
    for i in np.flatnonzero(rng.random(len(transactions)) < 0.005).tolist():
        one = transactions[i]
        raw, key = one.to_json(), one.card_id.encode()
        choices: list[tuple[bytes | None, bytes | None]] = [
            (key, raw[:-10]),
            (key, b"no json"),
            (None, raw),
            (b"another", raw),
            (key, raw.replace(b'"EUR"', b'"USD"')),
            (key, None),
        ]
        chosen, value = choices[i % len(choices)]
        bad.append(Sent(one.sent_at_ms, "transactions", chosen, value))
        if i % 3 == 0:
            bad.append(Sent(one.sent_at_ms, "labels", one.terminal_id.encode(), b"{}"))
    return bad


def _labels(rng: np.random.Generator, transactions: list[Transaction]) -> list[Sent]:
    """Labels of every third transaction, of all at a few bad terminals; some reversed, some for nobody's transaction."""
    labels: list[Label] = []
    for i, one in enumerate(transactions):
        hot = int(one.terminal_id[1:]) % 15 == 0
        if not hot and i % 3:
            continue
        is_fraud = bool(rng.random() < (0.3 if hot else 0.01))
        labels.append(_label(one, is_fraud, one.occurred_at_ms + LABEL_DELAY_MS))
        if is_fraud and rng.random() < 0.1:
            labels.append(_label(one, not is_fraud, one.occurred_at_ms + LABEL_DELAY_MS + 3 * DAY_MS))
        if rng.random() < 0.002:
            labels.append(_label(one, is_fraud, one.occurred_at_ms + LABEL_DELAY_MS, f"nobody-{i}"))
    return [Sent(label.known_at_ms, "labels", label.terminal_id.encode(), label.to_json()) for label in labels]


def _label(of: Transaction, is_fraud: bool, known_at_ms: int, transaction_id: str | None = None) -> Label:
    return Label(
        transaction_id or of.transaction_id, of.card_id, of.terminal_id, of.occurred_at_ms, is_fraud, known_at_ms,
        "benchmark", known_at_ms,
    )  # fmt: skip
