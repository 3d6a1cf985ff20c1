"""The application, asked without a network, over a state that the test holds in its hands.

Rule 1. The logs in the state are made by the stream's own fold, as a worker stores them: appended, and compacted when too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from fraud.columns import LABEL, TRANSACTION, CardColumns, TerminalColumns, known_hash
from fraud.fold import ACCEPTED, CardFold, TerminalFold, is_striking
from fraud.transaction import Transaction
from scorer.api.app import Service, make_app
from scorer.api.gate import Gate
from scorer.api.stored_state import StateAwayError, Stored, Wanted
from scorer.api.token_buckets import TokenBuckets
from scorer.api.vector_now import VectorReader
from scorer.model import Model

AT_MS = 1_522_540_800_000  # 2018-04-01


def transaction(
    number: int, card: str = "c1", terminal: str = "m1", at_ms: int = AT_MS, amount: int = 1000, **more: Any
) -> Transaction:
    return Transaction(f"t{number}", card, terminal, amount, "EUR", at_ms, at_ms, **more)


@dataclass
class Memory:
    """The state store of a test, and both folds that write it."""

    logs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    away_because: str | None = None
    taken: int = 0
    event_time_ms: int = 0
    compactions: int = 0

    def __post_init__(self) -> None:
        self._folds = {"card": CardFold(), "terminal": TerminalFold()}

    def arrive(self, one: Transaction) -> np.ndarray[Any, Any] | None:
        """Fold a transaction as the stream does; the served vector, None when it was not accepted."""
        told = CardColumns.of([one])
        card = self._folds["card"].apply([one.card_id], told)  # type: ignore[union-attr]
        self.taken += 1
        if card.outcome[0] != ACCEPTED:
            return None
        striking = bool(is_striking(card.vectors, told.amount_minor)[0])
        terminal = self._terminal(one, TRANSACTION, False, striking)
        self._store()
        if terminal.outcome[0] != ACCEPTED:
            return None
        self.event_time_ms = max(self.event_time_ms, one.occurred_at_ms)
        return np.concatenate([card.vectors[0], terminal.vectors[0]])

    def label(self, of: Transaction, is_fraud: bool) -> None:
        """Apply a label."""
        self._terminal(of, LABEL, is_fraud)
        self._store()

    async def fetch(self, wanted: Sequence[Wanted], seconds_max: float) -> list[Stored]:
        """What is stored of each."""
        if self.away_because is not None:
            raise StateAwayError(self.away_because)
        return [Stored(self.logs.get((w.stage, w.entity_id), b""), self.taken, self.event_time_ms) for w in wanted]

    def _terminal(self, one: Transaction, kind: int, is_fraud: bool, striking: bool = False) -> Any:
        told = CardColumns.of([one])
        columns = TerminalColumns(
            np.array([kind], np.uint8), told.transaction_hash, told.occurred_at_ms, told.amount_minor,
            np.array([known_hash(one.card_id)], np.uint64), np.array([is_fraud], np.uint8),
            np.array([striking], np.uint8),
        )  # fmt: skip
        return self._folds["terminal"].apply([one.terminal_id], columns)  # type: ignore[arg-type]

    def _store(self) -> None:
        for stage, fold in self._folds.items():
            for entity, operation, blob in fold.take_changes():
                self.compactions += operation == "set"
                before = self.logs.get((stage, entity), b"") if operation == "append" else b""
                self.logs[stage, entity] = before + blob


@dataclass
class Slot:
    """A model slot that is filled by hand."""

    model: Model | None = None

    @property
    def version(self) -> str:
        return "rules" if self.model is None else self.model.version


class Asked:
    """The application, and requests to it."""

    def __init__(
        self, memory: Memory | None = None, entities_max: int = 100, rate_per_s: float = 0, burst: int = 1
    ) -> None:
        self.memory = Memory() if memory is None else memory
        self.slot = Slot()
        self.now_s = 0.0
        self.service = Service(self.memory, VectorReader(1, entities_max), self.slot, 60.0, 0.0)
        self.app = Gate(make_app(self.service), TokenBuckets(rate_per_s, burst, lambda: self.now_s))

    def __call__(self, method: str, path: str, content: Any = None, **more: Any) -> httpx.Response:
        """One request."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                return await client.request(method, path, content=content, **more)

        return asyncio.run(ask())

    def score(self, one: Transaction | bytes, features: bool = True) -> httpx.Response:
        """POST /score."""
        body = one if isinstance(one, bytes) else one.to_json()
        return self("POST", f"/score?features={str(features).lower()}", body)


def vector_of(told: dict[str, Any]) -> bytes:
    """The bits of an answer's vector; null is the quiet NaN that the fold writes."""
    values = [np.nan if value is None else value for value in told["features"].values()]
    return np.array(values, np.float32).tobytes()
