"""Fraud scoring as a Quix Streams application: a streaming dataframe, state per card, repartitioned to state per terminal.

Rule 1. State is Quix's own (RocksDB with changelog topics, its default): this is how its documentation keeps histories.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from agreed_features import CARD_KEPT_MS, TERMINAL_KEPT_MS, TERMINAL_WINDOWS_MS, vector
from quixstreams import Application, State
from xgboost import XGBClassifier

SHOW_FEATURES = bool(os.environ.get("PEER_SHOW_FEATURES"))
RUN = os.environ.get("PEER_RUN", "")  # state is kept under the group: the check has its own

model = XGBClassifier(n_jobs=1)
model.load_model(os.environ["PEER_MODEL"])


def with_card_history(transaction: dict[str, Any], state: State) -> dict[str, Any]:
    """Read the card's history of 30 days, and add the transaction to it."""
    at_ms = transaction["occurred_at_ms"]
    history = [one for one in state.get("history", []) if one[0] > at_ms - CARD_KEPT_MS]
    state.set("history", [*history, [at_ms, transaction["amount_minor"]]])
    return {
        "transaction_id": transaction["transaction_id"],
        "terminal_id": transaction["terminal_id"],
        "amount_minor": transaction["amount_minor"],
        "occurred_at_ms": at_ms,
        "history": history,
    }


def scored(transaction: dict[str, Any], state: State) -> dict[str, Any]:
    """Read the terminal's moments of 7 days, add this one, and score."""
    at_ms = transaction["occurred_at_ms"]
    moments = [moment for moment in state.get("moments", []) if moment > at_ms - TERMINAL_KEPT_MS]
    state.set("moments", [*moments, at_ms])
    counts = [sum(moment > at_ms - length_ms for moment in moments) for length_ms in TERMINAL_WINDOWS_MS]
    features = vector(transaction["amount_minor"], at_ms, transaction["history"], counts)
    probability = float(model.predict_proba(np.array([features], np.float32))[0, 1])
    answer: dict[str, Any] = {"transaction_id": transaction["transaction_id"], "score": probability}
    if SHOW_FEATURES:
        answer["features"] = [None if value != value else value for value in features]
    return answer


def main() -> None:
    """Score until the process is ended."""
    app = Application(
        broker_address=os.environ["PEER_BOOTSTRAP"],
        consumer_group=f"peer-quix{RUN}",
        auto_offset_reset="earliest",
        state_dir=os.environ["PEER_FOLDER"],
        loglevel="WARNING",
    )
    transactions = app.topic(os.environ["PEER_INPUT"], key_deserializer="str", value_deserializer="json")
    output = app.topic(os.environ["PEER_OUTPUT"], value_serializer="json")
    cards = app.dataframe(transactions).apply(with_card_history, stateful=True)
    terminals = cards.group_by("terminal_id").apply(scored, stateful=True)
    terminals.to_topic(output)
    app.run()


if __name__ == "__main__":
    main()
