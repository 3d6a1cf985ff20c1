"""Fraud scoring as a plain loop: kafka-python's consumer and producer, Redis sorted sets, one event at a time.

Rule 1. Nothing here is slower than it has to be in this style: one Redis round trip an event, a C parser for Redis, sends that
        are not waited for.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import numpy as np
import redis
from agreed_features import CARD_KEPT_MS, TERMINAL_KEPT_MS, TERMINAL_WINDOWS_MS, amount_of, member, vector
from kafka import KafkaConsumer, KafkaProducer
from xgboost import XGBClassifier

SHOW_FEATURES = bool(os.environ.get("PEER_SHOW_FEATURES"))


def features_of(store: redis.Redis, transaction: dict) -> list[float]:
    """Read the histories and add the transaction to them, in one round trip."""
    at_ms, amount = transaction["occurred_at_ms"], transaction["amount_minor"]
    card, terminal = f"card:{transaction['card_id']}", f"terminal:{transaction['terminal_id']}"
    pipe = store.pipeline(transaction=False)
    pipe.zrangebyscore(card, f"({at_ms - CARD_KEPT_MS}", at_ms, withscores=True)
    for length_ms in TERMINAL_WINDOWS_MS:
        pipe.zcount(terminal, f"({at_ms - length_ms}", at_ms)
    pipe.zadd(card, {member(transaction["transaction_id"], amount): at_ms})
    pipe.zremrangebyscore(card, "-inf", at_ms - CARD_KEPT_MS)
    pipe.zadd(terminal, {transaction["transaction_id"]: at_ms})
    pipe.zremrangebyscore(terminal, "-inf", at_ms - TERMINAL_KEPT_MS)
    history, *told = pipe.execute()
    card_history = ((int(moment_ms), amount_of(stored)) for stored, moment_ms in history)
    return vector(amount, at_ms, card_history, told[: len(TERMINAL_WINDOWS_MS)])


def main() -> None:
    """Score until the process is ended."""
    store = redis.Redis.from_url(os.environ["PEER_REDIS_URL"], decode_responses=True)
    model = XGBClassifier(n_jobs=1)
    model.load_model(os.environ["PEER_MODEL"])
    consumer = KafkaConsumer(
        os.environ["PEER_INPUT"],
        bootstrap_servers=os.environ["PEER_BOOTSTRAP"],
        group_id="peer-kafka-python",
        auto_offset_reset="earliest",
        value_deserializer=json.loads,
    )
    producer = KafkaProducer(
        bootstrap_servers=os.environ["PEER_BOOTSTRAP"],
        linger_ms=5,
        value_serializer=lambda value: json.dumps(value).encode(),
    )
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        for message in consumer:
            features = features_of(store, message.value)
            probability = float(model.predict_proba(np.array([features], np.float32))[0, 1])
            answer = {"transaction_id": message.value["transaction_id"], "score": probability}
            if SHOW_FEATURES:
                answer["features"] = [None if value != value else value for value in features]
            producer.send(os.environ["PEER_OUTPUT"], answer)
    finally:  # leave the group at once: the next start does not wait for a session to time out
        producer.close()
        consumer.close()


if __name__ == "__main__":
    main()
