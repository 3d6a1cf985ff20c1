"""The Handbook world: the simulator of the Fraud Detection Handbook, written from its specification.

Rule 1. The order of the draws is the specification: NumPy's RandomState and Python's Random, seeded as published.
        Draws are made at once only where that keeps their order: in the tables, not in the transactions.
Rule 2. A world is a function of (seed, days): same arguments, same bytes, on any number of processes. Seed 0 is the
        published world; a world of fewer days is the beginning of the longer one.
Rule 3. Amounts are whole cents from the first rounding on.

Vocabulary of the published set: a customer is a card here ("c<customer>"), a terminal is "t<terminal>".
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

CUSTOMERS: Final = 5000
TERMINALS: Final = 10_000
DAYS: Final = 183
RADIUS: Final = 5.0
DAY_S: Final = 86_400
BEGIN_MS: Final = int(datetime(2018, 4, 1, tzinfo=UTC).timestamp() * 1000)
SEED_MAX: Final = 100_000
_SEED_STRIDE: Final = 20_000  # above every published seed, so that no two worlds share one

OBVIOUS_AMOUNT_MINOR: Final = 22_000
COMPROMISED_TERMINALS_PER_DAY: Final = 2
COMPROMISED_TERMINAL_DAYS: Final = 28
LEAKED_CARDS_PER_DAY: Final = 3
LEAKED_CARD_DAYS: Final = 14
LEAKED_CARD_FACTOR: Final = 5
_FRAUD_DAYS: Final = DAYS - 1  # the published loops leave the last day out

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
COLUMNS: Final = ("transaction_id", "occurred_at_ms", "card_id", "terminal_id", "amount_minor", "is_fraud", "scenario")


@dataclass(slots=True)
class Rows:
    """Transactions in columns: second since the world's begin, customer, terminal, amount, scenario (0: genuine)."""

    second: Ints
    customer: Ints
    terminal: Ints
    amount_minor: Ints
    scenario: Ints


def world(
    seed: int = 0, days: int = DAYS, progress: Progress | None = None, processes: int | None = None
) -> pl.DataFrame:
    """The transactions of the first `days` days (1 .. 183) in order of time, with the columns COLUMNS.

    amount_minor: cents. scenario: 1 obvious amount, 2 compromised terminal, 3 leaked card, 0 genuine.
    progress(done, all): customers done. processes: default one per CPU; the result does not depend on it.
    """
    if not 1 <= days <= DAYS:
        raise ValueError(f"days is {days}, the Handbook world has 1 .. {DAYS}")
    if not 0 <= seed <= SEED_MAX:
        raise ValueError(f"seed is {seed}, it must be 0 .. {SEED_MAX}")
    # A leaked card's frauds are a sample over its next 14 days, so the last days depend on 13 more.
    rows = _sorted(_all_customers(seed, min(DAYS, days + LEAKED_CARD_DAYS - 1), progress, processes))
    mark_fraud(rows, seed, days)
    return _frame(rows, seed, int(np.searchsorted(rows.second, days * DAY_S)))


def customer_table(seed: int) -> Floats:
    """x, y, mean amount and mean transactions per day of each customer, shape [CUSTOMERS, 4]."""
    return _numpy_random(seed, 0).uniform((0, 0, 5, 0), (100, 100, 100, 4), (CUSTOMERS, 4))


def terminal_table(seed: int) -> Floats:
    """x, y of each terminal, shape [TERMINALS, 2]."""
    return _numpy_random(seed, 1).uniform(0, 100, (TERMINALS, 2))


def reachable_terminals(customer: Floats, terminals: Floats) -> list[int]:
    """Terminals nearer than RADIUS to a customer, in id order."""
    distance = np.sqrt(((terminals - customer[:2]) ** 2).sum(axis=1))
    return [int(terminal) for terminal in np.flatnonzero(distance < RADIUS)]


def customer_transactions(
    seed: int, customer: int, profile: Floats, reachable: list[int], days: int
) -> list[list[int]]:
    """One customer's transactions: second, customer, terminal, amount in cents; not yet sorted, not yet marked.

    reachable: at least one terminal; a customer without any makes no transactions.
    """
    numpy_random, python_random = _numpy_random(seed, customer), _python_random(seed, customer)
    poisson, normal, uniform = numpy_random.poisson, numpy_random.normal, numpy_random.uniform
    mean_amount, per_day = float(profile[2]), float(profile[3])
    rows = []
    for day in range(days):
        for _ in range(poisson(per_day)):
            second = int(normal(DAY_S / 2, 20_000))
            if not 0 < second < DAY_S:
                continue
            amount = normal(mean_amount, mean_amount / 2)
            if amount < 0:
                amount = uniform(0, mean_amount * 2)
            cents = round(amount * 100)  # half to even, as NumPy rounds to two decimals
            rows.append([day * DAY_S + second, customer, python_random.choice(reachable), cents])
    return rows


def mark_fraud(rows: Rows, seed: int, days: int) -> None:
    """The three scenarios, in their order, in place; `rows` are sorted and reach 13 days beyond `days`."""
    rows.scenario[rows.amount_minor > OBVIOUS_AMOUNT_MINOR] = 1
    for day in range(min(days, _FRAUD_DAYS)):
        chosen = _numpy_random(seed, day).choice(TERMINALS, COMPROMISED_TERMINALS_PER_DAY, replace=False)
        span = _span(rows, day, COMPROMISED_TERMINAL_DAYS)
        rows.scenario[span][np.isin(rows.terminal[span], chosen)] = 2
    for day in range(min(days, _FRAUD_DAYS)):
        chosen = _numpy_random(seed, day).choice(CUSTOMERS, LEAKED_CARDS_PER_DAY, replace=False)
        span = _span(rows, day, LEAKED_CARD_DAYS)
        theirs = np.flatnonzero(np.isin(rows.customer[span], chosen)) + span.start
        stolen = _python_random(seed, day).sample(theirs.tolist(), len(theirs) // 3)
        rows.amount_minor[stolen] *= LEAKED_CARD_FACTOR
        rows.scenario[stolen] = 3


def _span(rows: Rows, day: int, days: int) -> slice:
    first, after = np.searchsorted(rows.second, (day * DAY_S, (day + days) * DAY_S)).tolist()
    return slice(first, after)


def _numpy_random(seed: int, published_seed: int) -> np.random.RandomState:
    return np.random.RandomState(published_seed + seed * _SEED_STRIDE)


def _python_random(seed: int, published_seed: int) -> random.Random:
    return random.Random(published_seed + seed * _SEED_STRIDE)


# -- all customers, in parallel ---------------------------------------------------------------------------------------


def _block(customers: range, seed: int, days: int) -> tuple[int, Ints]:
    """Transactions of some customers, shape [4, rows], and how many customers they are."""
    profiles, terminals = customer_table(seed), terminal_table(seed)
    rows: list[list[int]] = []
    for customer in customers:
        reachable = reachable_terminals(profiles[customer], terminals)
        if reachable:
            rows += customer_transactions(seed, customer, profiles[customer], reachable, days)
    return len(customers), np.array(rows, np.int64).reshape(-1, 4).T.copy()


def _all_customers(seed: int, days: int, progress: Progress | None, processes: int | None) -> Ints:
    blocks = [range(first, first + 100) for first in range(0, CUSTOMERS, 100)]
    parts, done = [], 0
    with _ordered_map(processes or os.cpu_count() or 1) as ordered_map:
        for count, part in ordered_map(partial(_block, seed=seed, days=days), blocks):
            parts.append(part)
            done += count
            if progress is not None:
                progress(done, CUSTOMERS)
    return np.concatenate(parts, axis=1)


@contextmanager
def _ordered_map(processes: int) -> Iterator[Callable[..., Any]]:
    """`map` in this process, or the same over several."""
    if processes == 1:
        yield map
        return
    # Ctrl-C reaches the whole group: it is this process that decides what to do about it.
    ignore_interrupt = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.get_context("spawn").Pool(processes, signal.signal, ignore_interrupt) as pool:
        yield pool.imap


def _sorted(columns: Ints) -> Rows:
    second, customer, terminal, amount_minor = columns[:, np.argsort(columns[0], kind="stable")]
    return Rows(second.copy(), customer.copy(), terminal.copy(), amount_minor.copy(), np.zeros(len(second), np.int64))


def _frame(rows: Rows, seed: int, count: int) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "position": np.arange(count),
            "occurred_at_ms": BEGIN_MS + rows.second[:count] * 1000,
            "customer": rows.customer[:count],
            "terminal": rows.terminal[:count],
            "amount_minor": rows.amount_minor[:count],
            "scenario": rows.scenario[:count].astype(np.int8),
        }
    )
    return frame.select(
        pl.format(f"h{seed}-{{}}", "position").alias("transaction_id"),
        "occurred_at_ms",
        pl.format("c{}", "customer").alias("card_id"),
        pl.format("t{}", "terminal").alias("terminal_id"),
        "amount_minor",
        (pl.col("scenario") > 0).alias("is_fraud"),
        "scenario",
    )
