"""Fraud scoring as a Bytewax dataflow: one branch keyed by card, one by terminal, joined by transaction, scored in batches.

Rule 1. State is Bytewax's own, in memory, with its recovery store as its documentation sets it up; offsets are part of it.
Rule 2. Both branches read the input itself. A stateful step hands a batch on grouped by key, so a second one behind it would
        see another order than the topic's, and its features would be wrong.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
from agreed_features import CARD_KEPT_MS, TERMINAL_KEPT_MS, TERMINAL_WINDOWS_MS, vector
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from xgboost import XGBClassifier

SHOW_FEATURES = bool(os.environ.get("PEER_SHOW_FEATURES"))
RECOVERY = Path(os.environ["PEER_FOLDER"]) / f"recovery{os.environ.get('PEER_RUN', '')}"
BROKERS = [os.environ["PEER_BOOTSTRAP"]]

Transaction = dict[str, Any]
model = XGBClassifier(n_jobs=1)
model.load_model(os.environ["PEER_MODEL"])


class CardHistory(StatefulBatchLogic):
    """A card's last 30 days: (event time, amount)."""

    def __init__(self, resumed: tuple[tuple[int, int], ...] | None) -> None:
        self.history = deque(resumed or ())

    def on_batch(self, values: list[Transaction]) -> tuple[Iterable[tuple[Transaction, list]], bool]:
        """Each transaction with the history as it stood before it."""
        told = []
        for transaction in values:
            at_ms = transaction["occurred_at_ms"]
            while self.history and self.history[0][0] <= at_ms - CARD_KEPT_MS:
                self.history.popleft()
            told.append((transaction, list(self.history)))
            self.history.append((at_ms, transaction["amount_minor"]))
        return told, StatefulBatchLogic.RETAIN

    def snapshot(self) -> tuple[tuple[int, int], ...]:
        """For recovery."""
        return tuple(self.history)


class TerminalHistory(StatefulBatchLogic):
    """A terminal's event times of the last 7 days."""

    def __init__(self, resumed: tuple[int, ...] | None) -> None:
        self.moments = deque(resumed or ())

    def on_batch(self, values: list[Transaction]) -> tuple[Iterable[tuple[Transaction, list[int]]], bool]:
        """Each transaction with the counts as they stood before it."""
        told = []
        for transaction in values:
            at_ms = transaction["occurred_at_ms"]
            while self.moments and self.moments[0] <= at_ms - TERMINAL_KEPT_MS:
                self.moments.popleft()
            told.append(
                (
                    transaction,
                    [sum(one > at_ms - length_ms for one in self.moments) for length_ms in TERMINAL_WINDOWS_MS],
                )
            )
            self.moments.append(at_ms)
        return told, StatefulBatchLogic.RETAIN

    def snapshot(self) -> tuple[int, ...]:
        """For recovery."""
        return tuple(self.moments)


def by_transaction(keyed: tuple[str, tuple[Transaction, list]]) -> tuple[str, tuple[Transaction, list]]:
    """The key of the join."""
    told = keyed[1]
    return told[0]["transaction_id"], told


def scored(joined: list[tuple[str, tuple]]) -> list[KafkaSinkMessage]:
    """Score what the runtime hands over at once."""
    features = [
        vector(transaction["amount_minor"], transaction["occurred_at_ms"], history, counts)
        for _, ((transaction, history), (_, counts)) in joined
    ]
    probabilities = model.predict_proba(np.array(features, np.float32))[:, 1].tolist()
    messages = []
    for (transaction_id, _), probability, told in zip(joined, probabilities, features, strict=True):
        answer: dict[str, Any] = {"transaction_id": transaction_id, "score": probability}
        if SHOW_FEATURES:
            answer["features"] = [None if value != value else value for value in told]
        messages.append(KafkaSinkMessage(transaction_id.encode(), json.dumps(answer).encode()))
    return messages


def dataflow() -> Dataflow:
    """The flow."""
    flow = Dataflow("peer")
    source = kop.input("transactions", flow, brokers=BROKERS, topics=[os.environ["PEER_INPUT"]])
    op.raises("errors", source.errs)
    transactions = op.map("parse", source.oks, lambda message: json.loads(message.value))
    by_card = op.key_on("by_card", transactions, lambda transaction: transaction["card_id"])
    by_terminal = op.key_on("by_terminal", transactions, lambda transaction: transaction["terminal_id"])
    cards = op.map("card_rekey", op.stateful_batch("card", by_card, CardHistory), by_transaction)
    terminals = op.map("terminal_rekey", op.stateful_batch("terminal", by_terminal, TerminalHistory), by_transaction)
    scores = op.flat_map_batch("score", op.join("join", cards, terminals), scored)
    kop.output("scores", scores, brokers=BROKERS, topic=os.environ["PEER_OUTPUT"])
    return flow


def main() -> None:
    """Score until the process is ended."""
    if not RECOVERY.exists():
        RECOVERY.mkdir(parents=True)
        init_db_dir(RECOVERY, 1)
    cli_main(dataflow(), recovery_config=RecoveryConfig(str(RECOVERY)))


if __name__ == "__main__":
    main()
