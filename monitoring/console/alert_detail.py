"""An alert opened: its transaction, its vector beside the card's recent ones, and why the score is what it is.

Rule 1. The transaction is read from the log, at the place that the alert names; the vectors come from the lake, which is a
        few seconds behind: until then that part is absent, with the reason.
Rule 2. Only what the card's history has shown before the transaction is drawn: arrival later, as the lake has it.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
from kafka import TopicPartition
from kafka.errors import KafkaError

from adapters.lake import Lake, LakeGapError
from fraud import rules, topics
from fraud.alert import Alert
from fraud.features import FEATURE_HASH, FEATURES, NAMES
from fraud.model import ModelRefusedError
from fraud.windows import DAY_MS
from monitoring.console.explain import Explainer
from monitoring.peek import peeking_consumer

HISTORY_MS: Final = 30 * DAY_MS
HISTORY_ROWS_MAX: Final = 200
_READ_S_MAX: Final = 5.0
_IDENTITY: Final = ("transaction_id", "occurred_at_ms", "amount_minor", "terminal_id")


class AlertDetail:
    """Opens alerts, from any thread."""

    def __init__(self, bootstrap: str, lake: Lake, explainer: Explainer) -> None:
        self._bootstrap = bootstrap
        self._lake = lake
        self._explainer = explainer

    def open(self, alert: Alert) -> dict[str, Any]:
        """Everything about an alert that is not in it."""
        history, absent = self._history(alert)
        own = None if history is None else history.filter(pl.col("transaction_id") == alert.transaction_id)
        found: dict[str, Any] = {
            "transaction": self._transaction(alert),
            "history": [] if history is None else _points(history),
            "features": [],
            "explanation": None,
            "absent": absent,
        }
        if history is None or own is None or not own.height:
            found["absent"] = absent or "the lake does not have this transaction yet: it is a few seconds behind"
            return found
        vector = own.select(NAMES).to_numpy()[-1].astype(np.float32)
        found["features"] = _features(vector, history)
        found["explanation"], found["unexplained"] = self._explanation(alert, vector)
        return found

    def _history(self, alert: Alert) -> tuple[pl.DataFrame | None, str | None]:
        """The card's vectors up to this transaction, oldest first; and why there are none."""
        at_ms = alert.occurred_at_ms
        try:
            rows = (
                self._lake.scan(topics.FEATURES.name, FEATURE_HASH)
                .filter(
                    pl.col("occurred_at_ms").is_between(at_ms - HISTORY_MS, at_ms)
                    & (pl.col("card_id") == alert.card_id)
                )
                .select(*_IDENTITY, *NAMES)
                .collect()
            )
        except FileNotFoundError:
            return None, "the lake has no vectors yet: it is a few seconds behind"
        except (LakeGapError, OSError, pl.exceptions.PolarsError) as error:
            return None, f"the lake cannot be read: {error}"
        return rows.sort("occurred_at_ms", maintain_order=True).tail(HISTORY_ROWS_MAX), None

    def _explanation(self, alert: Alert, vector: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[Any, str | None]:
        if alert.model_version == rules.VERSION:
            return None, "the rules decided: they fired or they did not, there is nothing to add up"
        try:
            explained = self._explainer.explain(alert.model_version, vector)
        except (ModelRefusedError, ImportError) as error:
            return None, str(error)
        return {"bias": explained.bias, "contributions": explained.contributions}, None

    def _transaction(self, alert: Alert) -> dict[str, Any] | None:
        """The transaction as it stands in the log; None when the log no longer has it, or does not answer."""
        place = TopicPartition(topics.TRANSACTIONS.name, alert.origin_partition)
        try:
            with closing(peeking_consumer(self._bootstrap, "console-detail")) as consumer:
                consumer.assign([place])
                begins, ends = consumer.beginning_offsets([place]), consumer.end_offsets([place])
                if not begins[place] <= alert.origin_offset < ends[place]:
                    return None
                consumer.seek(place, alert.origin_offset)
                deadline_s = time.monotonic() + _READ_S_MAX
                while time.monotonic() < deadline_s:
                    for record in consumer.poll(timeout_ms=200, max_records=1).get(place, ()):
                        return _decoded(record.value)
        except KafkaError:
            return None
        return None


def _decoded(raw: bytes | None) -> dict[str, Any] | None:
    """The message as it was sent: unknown fields too."""
    try:
        found = msgspec.json.decode(raw or b"")
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) else None


def _points(history: pl.DataFrame) -> list[dict[str, Any]]:
    return history.select(_IDENTITY).to_dicts()


def _features(vector: np.ndarray[Any, np.dtype[np.float32]], history: pl.DataFrame) -> list[dict[str, Any]]:
    """Each feature: its value, and its values in the card's recent history; no value is None."""
    earlier = history.select(NAMES)
    return [
        {
            "name": feature.name,
            "value": _or_none(value),
            "default": _or_none(feature.default),
            "recent": [_or_none(each) for each in earlier[feature.name].to_list()],
        }
        for feature, value in zip(FEATURES, vector.tolist(), strict=True)
    ]


def _or_none(value: float | None) -> float | None:
    return None if value is None or value != value or value in (float("inf"), float("-inf")) else round(value, 6)
