"""The terminal stage: the terminal's log in, full feature vectors out.

Rule 1. The order of `terminal-log` decides what came before: a label changes the vectors after it, never those before.
Rule 2. Rows that were seen before (their origin is at or below the mark) change nothing and write nothing.
Rule 3. Vectors leave in the order of the log; their origin is the record of `transactions` that they come from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from adapters.state_store import Effect, StageState
from fraud import packed, topics
from fraud.columns import TerminalColumns, known_hashes
from fraud.dead_letters import BadMessageError, Reason
from fraud.features import FEATURE_HASH
from fraud.fold import (
    ACCEPTED,
    LABEL,
    LABEL_APPLIED,
    LABEL_EXPIRED,
    LABEL_UNKNOWN,
    TOO_LATE,
    TRANSACTION,
    TerminalFold,
    TerminalResult,
)
from fraud.packed import Batch, OriginMarks, unpack
from fraud.switches import META
from stream_features.stage import (
    Clock,
    FeatureHashMismatchError,
    Refused,
    Step,
    dead_letter_writes,
    packed_writes,
    wall_clock_ms,
)
from stream_features.wrong_folds import Ways, WrongTerminals, right


@dataclass(slots=True)
class LogBatches:
    """Decoded batches in the order of the log, without the rows that were seen before."""

    first: int
    next: int
    batches: list[Batch] = field(default_factory=list)
    marks: OriginMarks = field(default_factory=OriginMarks)
    refused: list[Refused] = field(default_factory=list)
    repeated: int = 0

    def __len__(self) -> int:
        return sum(batch.rows for batch in self.batches) + len(self.refused)


class TerminalStage:
    """Folds the terminals of one partition of `terminal-log`; writes to the same partition of `features`.

    retired: definitions whose records are skipped, for what of them counts is in the state. history: fold what any definition wrote
    and write no vectors; that is how a state of this definition is made from another's log. ways: the break-it switches in force
    for a batch.
    """

    name: Final = "terminal"
    source: Final = topics.TERMINAL_LOG

    def __init__(
        self,
        partition: int,
        state: StageState,
        entities_max: int,
        clock: Clock = wall_clock_ms,
        *,
        retired: frozenset[str] = frozenset(),
        history: bool = False,
        ways: Ways = right,
    ) -> None:
        self.state = state
        self._partition = partition
        self._entities_max = entities_max
        self._clock = clock
        self._retired = retired
        self._history = history
        self._fold = TerminalFold()
        self._ways = ways
        self._wrong: WrongTerminals | None = None

    def decode(self, records: Sequence[Any]) -> LogBatches:
        """Unpack the records, without those of a retired definition. Raises FeatureHashMismatchError for any other."""
        decoded = LogBatches(records[0].offset, records[-1].offset + 1, marks=OriginMarks(self.state.marks))
        for record in records:
            try:
                batch = unpack(record.value, (packed.CARD_VECTORS, packed.LABELS))
                written_with = _feature_hash(batch)
            except BadMessageError as error:
                source = (self.source.name, self._partition, record.offset)
                decoded.refused.append(Refused(error, record.key, record.value, source))
                continue
            if written_with in self._retired and not self._history:
                continue
            if batch.kind == packed.CARD_VECTORS and written_with != FEATURE_HASH and not self._history:
                raise FeatureHashMismatchError(
                    f"{self.source.name}/{self._partition} offset {record.offset} was written with features "
                    f"{written_with}, this worker has {FEATURE_HASH}: change over with `fraudstream features rebuild`, "
                    "or start with empty topics and an empty state"
                )
            fresh = decoded.marks.fresh(batch)
            decoded.repeated += batch.rows - fresh.rows
            if fresh.rows:
                decoded.batches.append(fresh)
        return decoded

    def missing(self, decoded: LogBatches) -> list[str]:
        """Terminals of the batch that are not in memory."""
        return self._fold.missing([t for batch in decoded.batches for t in batch.text("terminal_id")])

    def load(self, logs: Sequence[tuple[str, bytes]]) -> None:
        """Put the terminals' stored histories into memory."""
        self._fold.load_many(logs)

    def step(self, decoded: LogBatches) -> Step:
        """Fold the batch: full vectors for the accepted transactions, dead letters for the rest."""
        counters = {"dead_letters": len(decoded.refused), "repeated": decoded.repeated}
        refused, writes, late = list(decoded.refused), [], 0
        newest = self.state.event_time_ms
        if decoded.batches:
            rows = _concatenate(decoded.batches)
            ways = self._ways(decoded.first)
            result = self._folded(ways, decoded.batches, rows)
            outcome = result.outcome
            refused += [_refusal(decoded.batches, outcome, i) for i in np.flatnonzero(_is_refused(outcome)).tolist()]
            accepted = np.flatnonzero(outcome == ACCEPTED)
            if len(accepted):
                newest = max(newest, int(rows.occurred_at_ms[accepted].max()))
                if not self._history:
                    writes += self._vectors(decoded.batches, rows, accepted, result.vectors, ways)
            late = int(result.late.sum())
            counters |= {
                "accepted": len(accepted),
                "labels_applied": int((outcome == LABEL_APPLIED).sum()),
                "labels_expired": int((outcome == LABEL_EXPIRED).sum()),
                "labels_unknown": int((outcome == LABEL_UNKNOWN).sum()),
                "dead_letters": len(refused),
                "late": late,
            }
        writes += dead_letter_writes(self.source, refused)
        effect = Effect(
            first=self.state.next,
            next=decoded.next,
            event_time_ms=newest,
            marks=decoded.marks.marks,
            counters=counters,
            changes=self._fold.take_changes(),
        )
        return Step(writes, effect, refused, late)

    def settle(self, effect: Effect) -> None:
        """The effect stands in the state: move on, and forget the entities that were not used for longest."""
        self.state = replace(self.state, next=effect.next, event_time_ms=effect.event_time_ms, marks=effect.marks)
        self._fold.evict(self._entities_max)

    def cached(self) -> int:
        """Terminals in memory."""
        return len(self._fold)

    def _folded(self, ways: tuple[str, ...], batches: Sequence[Batch], rows: TerminalColumns) -> TerminalResult:
        ids = [t for batch in batches for t in batch.text("terminal_id")]
        if not ways:
            self._wrong = None
            return self._fold.apply(ids, rows)
        self._wrong = self._wrong or WrongTerminals()
        ingested = [
            batch.array("ingested_at_ms") if batch.kind == packed.CARD_VECTORS else np.zeros(batch.rows, np.int64)
            for batch in batches
        ]
        return self._wrong.apply(self._fold, ways, ids, rows, np.concatenate(ingested))

    def _vectors(
        self,
        batches: Sequence[Batch],
        rows: TerminalColumns,
        accepted: np.ndarray[Any, Any],
        terminal: np.ndarray[Any, Any],
        ways: tuple[str, ...],
    ) -> list[Any]:
        transactions = [batch for batch in batches if batch.kind == packed.CARD_VECTORS]
        is_transaction = np.flatnonzero(rows.kind == TRANSACTION)
        keep = np.searchsorted(is_transaction, accepted)  # rows among the transactions alone
        columns: dict[str, packed.Column] = {}
        for name, dtype in packed.COLUMNS[packed.VECTORS].items():
            if dtype == packed.TEXT:
                text = [value for batch in transactions for value in batch.text(name)]
                columns[name] = [text[i] for i in keep.tolist()]
            else:
                columns[name] = np.concatenate([batch.array(name) for batch in transactions])[keep]
        columns["vector"] = np.hstack([columns["vector"], terminal[accepted]])
        targets = [self._partition] * len(accepted)
        under = dict.fromkeys([*ways, *(name for batch in transactions for name in batch.meta.get(META, ()))])
        return packed_writes(topics.FEATURES, packed.VECTORS, targets, columns, self._clock(), list(under))


def _feature_hash(batch: Batch) -> str:
    told = batch.meta.get("feature_hash")
    if not isinstance(told, str):
        raise BadMessageError(Reason.PACKED_INVALID, "meta has no feature_hash")
    return told


def _concatenate(batches: Sequence[Batch]) -> TerminalColumns:
    def of(batch: Batch, name: str, absent: int, dtype: str) -> np.ndarray[Any, Any]:
        return batch.array(name) if name in batch.columns else np.full(batch.rows, absent, dtype)

    def cards(batch: Batch) -> np.ndarray[Any, Any]:
        if batch.kind == packed.LABELS:
            return np.zeros(batch.rows, np.uint64)
        return known_hashes(batch.text("card_id"))

    kinds = [np.full(batch.rows, LABEL if batch.kind == packed.LABELS else TRANSACTION, np.uint8) for batch in batches]
    return TerminalColumns(
        kind=np.concatenate(kinds),
        transaction_hash=np.concatenate([batch.array("transaction_hash") for batch in batches]),
        occurred_at_ms=np.concatenate([batch.array("occurred_at_ms") for batch in batches]),
        amount_minor=np.concatenate([of(batch, "amount_minor", 0, "<i8") for batch in batches]),
        card_hash=np.concatenate([cards(batch) for batch in batches]),
        is_fraud=np.concatenate([of(batch, "is_fraud", 0, "|u1") for batch in batches]),
        is_striking=np.concatenate([of(batch, "is_striking", 0, "|u1") for batch in batches]),
    )


def _is_refused(outcome: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.isin(outcome, (TOO_LATE, LABEL_UNKNOWN))


def _refusal(batches: Sequence[Batch], outcome: np.ndarray[Any, Any], row: int) -> Refused:
    """The dead letter of one packed row: its identity as JSON, its origin as source."""
    at = row
    for batch in batches:
        if at < batch.rows:
            break
        at -= batch.rows
    names = [name for name in batch.columns if name not in ("vector", "transaction_hash", "is_striking")]
    body = {
        name: batch.text(name)[at] if isinstance(batch.columns[name], list) else int(batch.array(name)[at])
        for name in names
    }
    reason = Reason.TOO_LATE if outcome[row] == TOO_LATE else Reason.LABEL_UNKNOWN_TRANSACTION
    error = BadMessageError(reason, f"transaction {body['transaction_id']}, terminal {body['terminal_id']}")
    source = (batch.origin_topic, int(body["origin_partition"]), int(body["origin_offset"]))
    return Refused(error, str(body["terminal_id"]).encode(), json.dumps(body).encode(), source)
