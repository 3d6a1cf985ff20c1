"""Writing what was decided: alerts first, then scores, and nothing goes on before both are acknowledged.

Rule 1. A row in `scores` implies that its alert stands in `alerts`: alerts are acknowledged before scores are sent.
Rule 2. A write that fails ends the process; after the restart the marks say what is done, and the rest is written.
Rule 3. A scores record stands in the partition that its vectors came from, and holds at most ROWS_MAX rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from kafka import KafkaProducer

from adapters.kafka import Record, partition_for
from fraud import topics
from fraud.alert import Alert

BATCH_BYTES: Final = 256 * 1024


class ScoreWriter:
    """A producer whose `flush` returns only when every record sent is acknowledged.

    away_seconds_max: how long a write is retried in place while Kafka is away.
    """

    def __init__(self, bootstrap: str, partitions: int, away_seconds_max: float) -> None:
        self._partitions = partitions
        self._away_seconds_max = away_seconds_max
        self._sent: list[Any] = []
        away_ms = int(away_seconds_max * 1000)
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            client_id="scorer",
            acks="all",
            linger_ms=0,
            batch_size=BATCH_BYTES,
            max_request_size=topics.dead_letter_topic(topics.FEATURES).max_message_bytes,
            request_timeout_ms=min(10_000, away_ms),
            delivery_timeout_ms=away_ms,
            max_block_ms=away_ms,
            bootstrap_timeout_ms=away_ms,
            reconnect_backoff_max_ms=1000,
            allow_auto_create_topics=False,
        )

    def alerts(self, alerts: Sequence[Alert]) -> None:
        """Write alerts, each to its card's partition; return when they are acknowledged. Raises KafkaError."""
        for alert in alerts:
            partition = partition_for(alert.card_id, self._partitions)
            self._send(topics.ALERTS.name, partition, (alert.card_id.encode(), alert.to_json(), []))
        self._flush()

    def records(self, topic: str, records: Iterable[tuple[int, Record]]) -> None:
        """Write records, each to its partition, in order; return when they are acknowledged. Raises KafkaError."""
        for partition, record in records:
            self._send(topic, partition, record)
        self._flush()

    def close(self) -> None:
        """Disconnect; everything that was sent has been acknowledged."""
        self._producer.close(timeout=1)

    def _send(self, topic: str, partition: int, record: Record) -> None:
        key, value, headers = record
        self._sent.append(self._producer.send(topic, value=value, key=key, headers=headers, partition=partition))

    def _flush(self) -> None:
        sent, self._sent = self._sent, []
        if sent:
            self._producer.flush(timeout=self._away_seconds_max)
        for future in sent:
            future.get(timeout=1)  # done already; raises what went wrong
