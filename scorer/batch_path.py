"""The batch path beside the streaming one: the same transactions, joined with the snapshot of last midnight, scored by its own model.

Rule 1. It decides nothing: what it would have decided is written down beside what was decided.
Rule 2. A row without a usable snapshot (none, too old, Redis away) is scored by the rules of this path on the request's own fields,
        and counted by the reason; so is one before any model, on all it knows.
Rule 3. It never delays the streaming path for long: when Redis has not answered, it is not asked again for a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from adapters.snapshot_store import NO_SNAPSHOT, Found, Int64s, SnapshotAwayError
from adapters.telemetry import counter, gauge
from fraud import batch_rules, metrics
from fraud.batch_features import joined, without_snapshot
from fraud.decision import COSTS, Costs, decide
from fraud.features import REQUEST_NAMES
from fraud.model import Floats
from fraud.packed import Batch
from fraud.windows import DAY_MS
from scorer.model import Model

ASK_AGAIN_SECONDS: Final = 1.0
JOINED, MISSING, STALE, AWAY = "joined", "missing", "stale", "away"
OUTCOMES: Final = (JOINED, MISSING, STALE, AWAY)

log = structlog.get_logger("scorer.batch_path")


class Snapshots(Protocol):
    """Where snapshots are looked up (adapters.snapshot_store.SnapshotReader)."""

    def look_up(self, occurred_at_ms: Int64s, card_ids: list[str], terminal_ids: list[str]) -> Found:
        """Join each row; raises SnapshotAwayError."""


@dataclass(frozen=True, slots=True)
class BatchVerdicts:
    """What this path makes of the rows of a batch, row by row.

    version: of the model, or of this path's rules; snapshot_ms: midnight of the snapshot, NO_SNAPSHOT where none was used.
    """

    score: Floats
    decision: npt.NDArray[np.uint8]
    version: list[str]
    snapshot_ms: Int64s

    @classmethod
    def none(cls, rows: int) -> BatchVerdicts:
        """Of a scorer without this path: no score, nothing decided."""
        return cls(
            np.full(rows, np.nan, np.float32),
            np.zeros(rows, np.uint8),
            [""] * rows,
            np.full(rows, NO_SNAPSHOT, np.int64),
        )

    def stretches(self, rows: slice, rows_max: int) -> Iterator[tuple[int, int]]:
        """Runs (first, after) of at most rows_max rows of one version and one snapshot, in order."""
        cut = (
            [i for i in range(rows.start + 1, rows.stop) if self._of(i) != self._of(i - 1)]
            if self._differ(rows)
            else []
        )
        for begin, end in pairwise([rows.start, *cut, rows.stop]):
            for first in range(begin, end, rows_max):
                yield first, min(first + rows_max, end)

    def meta_of(self, row: int) -> dict[str, str | None]:
        """What the meta of a record says of its rows: the version, and the date of the snapshot."""
        version, snapshot_ms = self._of(row)
        date = None if snapshot_ms == NO_SNAPSHOT else str(np.datetime64(snapshot_ms, "ms").astype("datetime64[D]"))
        return {"batch_version": version or None, "snapshot_date": date}

    def _differ(self, rows: slice) -> bool:
        snapshots = self.snapshot_ms[rows]
        return len(set(self.version[rows])) > 1 or bool((snapshots != snapshots[:1]).any())

    def _of(self, row: int) -> tuple[str, int]:
        return self.version[row], int(self.snapshot_ms[row])


class Slot(Protocol):
    """Where this path's model is (scorer.slot.ModelSlot)."""

    model: Model | None

    def refresh(self) -> bool:
        """Look for another version."""

    def settle(self, timeout_s: float) -> None:
        """Wait for the version of this moment."""

    def close(self) -> None:
        """End what is under way."""


class BatchPath:
    """age_days_max: the oldest snapshot that is used, days of event time from its midnight to the transaction."""

    def __init__(
        self,
        snapshots: Snapshots,
        slot: Slot,
        age_days_max: float,
        clock: Callable[[], float] = time.monotonic,
        costs: Costs = COSTS,
    ) -> None:
        self._snapshots = snapshots
        self.slot = slot
        self._age_ms_max = age_days_max * DAY_MS
        self._clock = clock
        self._costs = costs
        self._ask_at = 0.0
        self._fault: str | None = None

    def judge(self, batch: Batch) -> BatchVerdicts:
        """Score every row of a batch of vectors; of these only the request's own fields are used."""
        request: Floats = batch.array("vector")[:, : len(REQUEST_NAMES)]
        occurred = batch.array("occurred_at_ms")
        found = self._look_up(batch)
        usable, outcome = self._usable(found, occurred)
        if found is not None and usable.all():
            vectors = joined(request, found.card, found.terminal)
        else:
            vectors = without_snapshot(request)
            if found is not None and usable.any():
                vectors[usable] = joined(request[usable], found.card[usable], found.terminal[usable])
        for name, rows in outcome.items():
            counter(metrics.BATCH_PATH_ROWS_TOTAL, name).inc(rows)
        snapshot_ms = np.where(usable, NO_SNAPSHOT if found is None else found.midnight_ms, NO_SNAPSHOT)
        if usable.any():
            newest = int(np.flatnonzero(usable)[-1])
            gauge(metrics.SNAPSHOT_AGE_SECONDS).set((int(occurred[newest]) - int(snapshot_ms[newest])) / 1000)
        return self._scored(vectors, usable, snapshot_ms, batch)

    def _scored(
        self, vectors: Floats, usable: npt.NDArray[np.bool_], snapshot_ms: Int64s, batch: Batch
    ) -> BatchVerdicts:
        model, amount = self.slot.model, batch.array("amount_minor")
        if model is not None and usable.all():
            score = model.score(vectors)
            decision = decide(score, amount, model.review_threshold, self._costs)
            return BatchVerdicts(score, decision, [model.version] * batch.rows, snapshot_ms)
        score = batch_rules.BOOK.score(batch_rules.BOOK.fired(vectors))
        decision = decide(score, amount, batch_rules.REVIEW_THRESHOLD, self._costs)
        version = [batch_rules.VERSION] * batch.rows
        if model is not None and usable.any():
            score[usable] = model.score(vectors[usable])
            decision[usable] = decide(score[usable], amount[usable], model.review_threshold, self._costs)
            version = [model.version if has else batch_rules.VERSION for has in usable.tolist()]
        return BatchVerdicts(score, decision, version, snapshot_ms)

    def _look_up(self, batch: Batch) -> Found | None:
        """What the snapshots say; None when Redis is away, or was a moment ago."""
        if self._clock() < self._ask_at:
            return None
        try:
            found = self._snapshots.look_up(
                batch.array("occurred_at_ms"), batch.text("card_id"), batch.text("terminal_id")
            )
        except SnapshotAwayError as error:
            self._ask_at = self._clock() + ASK_AGAIN_SECONDS
            self._say(f"no snapshots, this path's rules judge: {error}")
            return None
        self._say(None)
        return found

    def _say(self, fault: str | None) -> None:
        """Say a fault once, and its end."""
        if fault != self._fault:
            log.warning(fault) if fault else log.info("snapshots are there again")
        self._fault = fault

    def _usable(self, found: Found | None, occurred: Int64s) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
        """Which rows have a snapshot that may be used, and how many rows end how."""
        rows = len(occurred)
        if found is None:
            return np.zeros(rows, np.bool_), {AWAY: rows}
        missing = found.midnight_ms == NO_SNAPSHOT
        stale = ~missing & (occurred - found.midnight_ms > self._age_ms_max)
        usable = ~missing & ~stale
        return usable, {JOINED: int(usable.sum()), MISSING: int(missing.sum()), STALE: int(stale.sum())}
