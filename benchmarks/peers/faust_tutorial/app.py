"""Fraud scoring as a good Faust tutorial writes it: a Record, one agent, one event at a time.

Rule 1. Nothing here is slower than it has to be in this style: one Redis round trip an event, uvloop, a C parser for Redis.
"""

from __future__ import annotations

import os

import faust
import numpy as np
import redis.asyncio as redis
from agreed_features import CARD_KEPT_MS, TERMINAL_KEPT_MS, TERMINAL_WINDOWS_MS, amount_of, member, vector
from xgboost import XGBClassifier

SHOW_FEATURES = bool(os.environ.get("PEER_SHOW_FEATURES"))


class Transaction(faust.Record, serializer="json"):
    """One payment attempt."""

    transaction_id: str
    card_id: str
    terminal_id: str
    amount_minor: int
    occurred_at_ms: int


class Score(faust.Record, serializer="json", include_metadata=False):
    """Its score; features only where the harness compares them."""

    transaction_id: str
    score: float
    features: list[float] | None = None


app = faust.App(
    "peer-faust",
    broker=f"kafka://{os.environ['PEER_BOOTSTRAP']}",
    store="memory://",
    stream_wait_empty=False,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
)
transactions = app.topic(os.environ["PEER_INPUT"], value_type=Transaction)
scores = app.topic(os.environ["PEER_OUTPUT"], value_type=Score)
store = redis.from_url(os.environ["PEER_REDIS_URL"], decode_responses=True)
model = XGBClassifier(n_jobs=1)
model.load_model(os.environ["PEER_MODEL"])


async def features_of(transaction: Transaction) -> list[float]:
    """Read the histories and add the transaction to them, in one round trip."""
    at_ms = transaction.occurred_at_ms
    card, terminal = f"card:{transaction.card_id}", f"terminal:{transaction.terminal_id}"
    async with store.pipeline(transaction=False) as pipe:
        pipe.zrangebyscore(card, f"({at_ms - CARD_KEPT_MS}", at_ms, withscores=True)
        for length_ms in TERMINAL_WINDOWS_MS:
            pipe.zcount(terminal, f"({at_ms - length_ms}", at_ms)
        pipe.zadd(card, {member(transaction.transaction_id, transaction.amount_minor): at_ms})
        pipe.zremrangebyscore(card, "-inf", at_ms - CARD_KEPT_MS)
        pipe.zadd(terminal, {transaction.transaction_id: at_ms})
        pipe.zremrangebyscore(terminal, "-inf", at_ms - TERMINAL_KEPT_MS)
        history, *told = await pipe.execute()
    card_history = ((int(moment_ms), amount_of(stored)) for stored, moment_ms in history)
    return vector(transaction.amount_minor, at_ms, card_history, told[: len(TERMINAL_WINDOWS_MS)])


@app.agent(transactions)
async def score(stream: faust.Stream[Transaction]) -> None:
    """Score each transaction as it comes."""
    async for transaction in stream:
        features = await features_of(transaction)
        probability = float(model.predict_proba(np.array([features], np.float32))[0, 1])
        shown = [None if value != value else value for value in features] if SHOW_FEATURES else None
        await scores.send(value=Score(transaction.transaction_id, probability, shown))
