"""How cost grows: with the cards, with the span of their histories, and with partitions and workers.

Rule 1. The feature worker is measured as a process with its input preloaded; CPU is that of broker, store and workers together,
        which a busy machine changes less than any speed.
Rule 2. Of one thing at a time: the rows are as many, and shaped as in the first line, but for what the line names.
Rule 3. The cards' lines are measured CARDS_ROUNDS times in turns, and the cheapest of each counts: a machine that others use too slows
        down for minutes, and what it adds is never the size's.
Rule 4. On one machine more workers share its CPUs: what is told of them is that they cost no more, not that they are faster.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import psutil

from adapters.backends.server import Say
from benchmarks.fold import made_rows, seconds_of, streams
from benchmarks.harness.result import Grown
from benchmarks.worker_stack import cpu_seconds, worker_stack
from fraud.windows import DAY_MS, HOUR_MS

ROWS: Final = 200_000
CARDS: Final = (10_000, 100_000, 1_000_000)
SPANS_MS: Final = (HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS)
CARDS_ROUNDS: Final = 2
WORKERS: Final = (1, 2, 4)
EVENTS_OF_A_CARD: Final = 40


def measured(rows: int, say: Say) -> list[Grown]:
    """Every line, in order."""
    rounds = [
        [_workers(rows, cards, 1, "cards", f"{cards:,} cards") for cards in _said(CARDS, "cards", say)]
        for _ in range(CARDS_ROUNDS)
    ]
    told = [min(same, key=lambda one: one.us_all) for same in zip(*rounds, strict=True)]
    told += [_fold(rows, span_ms) for span_ms in _said(SPANS_MS, "span, ms", say)]
    told += [
        _workers(rows, CARDS[0], n, "workers", f"{n} partition(s), {n} worker(s)")
        for n in _said(WORKERS, "workers", say)
    ]
    return told


def _said(values: tuple[int, ...], what: str, say: Say) -> tuple[int, ...]:
    say(f"growth: {what} {', '.join(f'{value:,}' for value in values)}")
    return values


def _fold(rows: int, span_ms: int) -> Grown:
    """Both folds in batches of 500, each card with EVENTS_OF_A_CARD transactions within the span."""
    table = made_rows(rows, entities=rows // EVENTS_OF_A_CARD, span_ms=span_ms)
    us = sum(map(seconds_of, streams(table, with_changes=True))) / rows * 1e6
    shown = f"the fold alone, histories within {span_ms / HOUR_MS:,.0f} h"
    return Grown(
        axis="span", at=span_ms / HOUR_MS, shown=shown, us_worker=round(us, 2), us_all=round(us, 2), per_second=0
    )


def _workers(rows: int, cards: int, workers: int, axis: str, shown: str) -> Grown:
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory()))
        stack = open_.enter_context(worker_stack(folder, workers))
        stack.send(made_rows(rows, entities=cards, span_ms=SPANS_MS[-1]))
        servers = [child.pid for child in psutil.Process().children()]
        served = open_.enter_context(stack.progress())
        running = [open_.enter_context(stack.worker(FRAUD_WORKER_ID=str(i))) for i in range(workers)]
        began_s = stack.wait_for(running[0], lambda: served() > 0)
        first, server_s, worker_s = served(), _seconds(servers), _seconds([one.pid for one in running])
        ended_s = stack.wait_for(running[0], lambda: served() >= rows)
        count = rows - first
        worker_us = (_seconds([one.pid for one in running]) - worker_s) / count * 1e6
        server_us = (_seconds(servers) - server_s) / count * 1e6
    at = workers if axis == "workers" else cards
    return Grown(
        axis=axis, at=at, shown=shown, us_worker=round(worker_us, 1), us_all=round(worker_us + server_us, 1),
        per_second=round(count / (ended_s - began_s)),
    )  # fmt: skip


def _seconds(pids: list[int]) -> float:
    return sum(map(cpu_seconds, pids))
