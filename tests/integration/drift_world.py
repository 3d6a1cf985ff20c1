"""A small Handbook world, folded by the real fold, with a model that has learned from its middle: for the drift tests.

35 days warm-up | 42 days of reference | the quiet days
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import polars as pl

from fraud.drift import Alarm, Judgement, Reference, Window, judge
from fraud.features import NAMES
from fraud.model import Floats
from fraud.windows import DAY_MS
from producer import handbook
from trainer.backfill import backfill
from trainer.fit import FIT, fit, score

CARDS = 450
WARM_UP, LEARNED = 35, 42
QUIET = 100
DAYS = WARM_UP + LEARNED + QUIET
REFERENCE_ROWS = 20_000
Change = Callable[[pl.DataFrame], pl.DataFrame]


@cache
def transactions(seed: int) -> pl.DataFrame:
    """The first CARDS customers of a Handbook world, with labels seven days later."""
    customers, terminals = handbook.customer_table(seed), handbook.terminal_table(seed)
    made: list[list[int]] = []
    for customer in range(CARDS):
        reachable = handbook.reachable_terminals(customers[customer], terminals)
        made += handbook.customer_transactions(seed, customer, customers[customer], reachable, DAYS)
    second, card, terminal, amount = np.array(sorted(made), np.int64).T
    rows = handbook.Rows(second.copy(), card, terminal, amount.copy(), np.zeros(len(second), np.int64))
    handbook.mark_fraud(rows, seed, DAYS)
    at_ms = handbook.BEGIN_MS + rows.second * 1000
    return pl.DataFrame(
        {
            "transaction_id": np.arange(len(second)),
            "card_id": card,
            "terminal_id": terminal,
            "amount_minor": rows.amount_minor,
            "occurred_at_ms": at_ms,
            "label_is_fraud": rows.scenario > 0,
            "label_known_at_ms": at_ms + 7 * DAY_MS,
        }
    )


@dataclass(frozen=True)
class Served:
    """Vectors and scores by day since the world's begin."""

    day: np.ndarray[tuple[int], np.dtype[np.int64]]
    vectors: Floats
    score: Floats


@dataclass(frozen=True)
class World:
    """A world with its reference."""

    seed: int
    reference: Reference
    model: object
    served: Served

    def windows(self, served: Served | None = None, first: int = WARM_UP + LEARNED) -> list[Window]:
        """One window a day, counted in two batches each."""
        served = served or self.served
        made = []
        for day in range(first, DAYS):
            window = Window(handbook.BEGIN_MS + day * DAY_MS, handbook.BEGIN_MS + (day + 1) * DAY_MS)
            rows = np.flatnonzero(served.day == day)
            for part in (rows[: len(rows) // 3], rows[len(rows) // 3 :]):
                window.add_features(self.reference, served.vectors[part], NAMES)
                window.add_scores(self.reference, served.score[part])
            made.append(window)
        return made

    def changed(self, change: Change) -> Served:
        """What is served when the transactions are changed, from the raw ones on."""
        return _served(change(transactions(self.seed)), self.model)


def _served(table: pl.DataFrame, model: object | None) -> Served:
    vectors = np.ascontiguousarray(backfill(table).vectors.select(NAMES).to_numpy(), np.float32)
    day = (table["occurred_at_ms"].to_numpy() - handbook.BEGIN_MS) // DAY_MS
    assert len(day) == len(vectors), "a transaction was not served"
    scores = np.zeros(len(day), np.float32) if model is None else score(model, vectors)
    return Served(day, vectors, scores)


@cache
def world(seed: int) -> World:
    """The world of a seed, a model fitted on its reference days, and the reference as the trainer stores it."""
    table = transactions(seed)
    bare = _served(table, None)
    learned = np.flatnonzero((bare.day >= WARM_UP) & (bare.day < WARM_UP + LEARNED))
    is_fraud = table["label_is_fraud"].to_numpy().astype(np.float32)
    model = fit(bare.vectors[learned], is_fraud[learned], replace(FIT, rounds=60, max_bin=256))
    served = replace(bare, score=score(model, bare.vectors))
    random = np.random.default_rng(seed)
    sample = np.sort(random.choice(learned, min(len(learned), REFERENCE_ROWS), replace=False))
    columns = {name: served.vectors[sample, i] for i, name in enumerate(NAMES)}
    threshold = float(np.sort(served.score[learned])[-10 * LEARNED])  # ten alerts a day
    reference = Reference.of(f"world-{seed}", threshold, {**columns, "score": served.score[sample]})
    return World(seed, reference, model, served)


def alarms(reference: Reference, windows: list[Window]) -> list[tuple[int, str]]:
    """(window, column) of every alarm that is raised, in order."""
    state: dict[str, Alarm] = {}
    raised = []
    for number, window in enumerate(windows):
        judgement = judge(reference, window)
        assert isinstance(judgement, Judgement), f"window {number} has too few rows"
        for column, excess in judgement.excesses().items():
            before = state.get(column, Alarm())
            state[column] = before.after(excess)
            if state[column].raised and not before.raised:
                raised.append((number, column))
    return raised
