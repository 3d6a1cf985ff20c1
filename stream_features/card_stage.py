"""The card stage: `transactions` in, card vectors out to the terminal's log.

Rule 1. Every transaction ends in exactly one way: forwarded, ignored as a duplicate (and counted), or a dead letter.
Rule 2. Rows leave in the order of their offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from adapters.state_store import Effect, StageState
from fraud import packed, topics
from fraud.columns import CardColumns
from fraud.dead_letters import BadMessageError, Reason
from fraud.fold import ACCEPTED, DUPLICATE, TOO_LATE, CardFold, CardResult, is_striking
from fraud.packed import Column
from fraud.transaction import Transaction
from fraud.transactions import parse_transactions
from stream_features.stage import (
    Clock,
    Refused,
    Step,
    dead_letter_writes,
    packed_writes,
    take_rows,
    target_partitions,
    wall_clock_ms,
)
from stream_features.wrong_folds import Ways, WrongCards, right


@dataclass(slots=True)
class Arrivals:
    """Decoded transactions in the order of the log, with the records that they came from, and what was refused."""

    first: int
    next: int
    transactions: list[Transaction] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.transactions) + len(self.refused)


class CardStage:
    """Folds the cards of one partition of `transactions`. `partitions`: of terminal-log. history: fold, and write nothing.

    ways: the break-it switches in force for a batch.
    """

    name: Final = "card"
    source: Final = topics.TRANSACTIONS

    def __init__(
        self,
        partition: int,
        partitions: int,
        state: StageState,
        entities_max: int,
        clock: Clock = wall_clock_ms,
        *,
        history: bool = False,
        ways: Ways = right,
    ) -> None:
        self.state = state
        self._partition = partition
        self._partitions = partitions
        self._entities_max = entities_max
        self._clock = clock
        self._history = history
        self._fold = CardFold()
        self._ways = ways
        self._wrong: WrongCards | None = None
        self.reached_ms = 0  # median event time of the last batch, 0 before the first

    def decode(self, records: Sequence[Any]) -> Arrivals:
        """Parse the records; a bad one becomes a dead letter."""
        arrivals = Arrivals(records[0].offset, records[-1].offset + 1)
        outcomes = parse_transactions([record.key for record in records], [record.value for record in records])
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, BadMessageError):
                arrivals.refused.append(self._refusal(outcome, record))
            else:
                arrivals.transactions.append(outcome)
                arrivals.records.append(record)
        return arrivals

    def missing(self, decoded: Arrivals) -> list[str]:
        """Cards of the batch that are not in memory."""
        return self._fold.missing([t.card_id for t in decoded.transactions])

    def load(self, logs: Sequence[tuple[str, bytes]]) -> None:
        """Put the cards' stored histories into memory."""
        self._fold.load_many(logs)

    def step(self, decoded: Arrivals) -> Step:
        """Fold the batch: vectors for the accepted, dead letters for the rest."""
        told = CardColumns.of(decoded.transactions)
        columns = self._columns(decoded, told)
        ways = self._ways(decoded.first)
        result, striking = self._folded(ways, decoded, told, columns)
        refused = decoded.refused + [
            self._refusal(_too_late(decoded.transactions[i]), decoded.records[i])
            for i in np.flatnonzero(result.outcome == TOO_LATE).tolist()
        ]
        accepted = np.flatnonzero(result.outcome == ACCEPTED)
        columns["vector"], columns["is_striking"] = result.vectors, striking
        writes = dead_letter_writes(self.source, refused)
        if len(accepted) and not self._history:
            rows = columns if len(accepted) == len(result.outcome) else take_rows(columns, accepted)
            targets = target_partitions(rows["terminal_id"], self._partitions)  # type: ignore[arg-type]  # a text column
            writes += packed_writes(topics.TERMINAL_LOG, packed.CARD_VECTORS, targets, rows, self._clock(), ways)
        late, newest = int(result.late.sum()), 0
        counters = {
            "accepted": len(accepted),
            "duplicates": int((result.outcome == DUPLICATE).sum()),
            "dead_letters": len(refused),
            "late": late,
        }
        if len(accepted):
            occurred = np.sort(columns["occurred_at_ms"][accepted])
            self.reached_ms, newest = int(occurred[len(occurred) // 2]), int(occurred[-1])
        effect = Effect(
            first=self.state.next,
            next=decoded.next,
            event_time_ms=max(self.state.event_time_ms, newest),
            marks={},
            counters=counters,
            changes=self._fold.take_changes(),
        )
        return Step(writes, effect, refused, late)

    def _folded(
        self, ways: tuple[str, ...], decoded: Arrivals, told: CardColumns, columns: dict[str, Any]
    ) -> tuple[CardResult, np.ndarray[Any, np.dtype[np.uint8]]]:
        """What became of the rows, and which are striking: the terminals keep that, so it is told of the right vectors."""
        ids = [t.card_id for t in decoded.transactions]
        if not ways:
            self._wrong = None
            result = self._fold.apply(ids, told)
            return result, is_striking(result.vectors, told.amount_minor)
        self._wrong = self._wrong or WrongCards()
        return self._wrong.apply(self._fold, ways, ids, told, columns["ingested_at_ms"])

    def settle(self, effect: Effect) -> None:
        """The effect stands in the state: move on, and forget the entities that were not used for longest."""
        self.state = replace(self.state, next=effect.next, event_time_ms=effect.event_time_ms)
        self._fold.evict(self._entities_max)

    def cached(self) -> int:
        """Cards in memory."""
        return len(self._fold)

    def _columns(self, decoded: Arrivals, told: CardColumns) -> dict[str, Any]:
        transactions, records = decoded.transactions, decoded.records
        columns: dict[str, Column] = {
            "origin_partition": np.full(len(records), self._partition, np.int32),
            "origin_offset": np.array([r.offset for r in records], np.int64),
            "transaction_id": [t.transaction_id for t in transactions],
            "card_id": [t.card_id for t in transactions],
            "terminal_id": [t.terminal_id for t in transactions],
            "amount_minor": told.amount_minor,
            "occurred_at_ms": told.occurred_at_ms,
            "ingested_at_ms": np.array([r.timestamp for r in records], np.int64),
            "transaction_hash": told.transaction_hash,
        }
        return columns

    def _refusal(self, error: BadMessageError, record: Any) -> Refused:
        return Refused(error, record.key, record.value, (self.source.name, self._partition, record.offset))


def _too_late(transaction: Transaction) -> BadMessageError:
    return BadMessageError(Reason.TOO_LATE, f"occurred_at_ms {transaction.occurred_at_ms}, card {transaction.card_id}")
