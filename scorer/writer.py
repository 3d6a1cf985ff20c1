"""Writing what was decided: alerts first, then scores, and nothing goes on before both are acknowledged.

Rule 1. A row in `scores` implies that its alert stands in `alerts`: alerts are acknowledged before scores are sent.
Rule 2. A write that fails ends the process; after the restart the marks say what is done, and the rest is written.
Rule 3. A scores record stands in the partition that its vectors came from, and holds at most ROWS_MAX rows.
Rule 4. While Kafka is away the producer, an idempotent one, retries for ever; the deadline is set here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adapters.kafka import AsyncWriter, Record, partition_for, write_all
from fraud import topics
from fraud.alert import Alert
from scorer.kafka_away import answered_within


class ScoreWriter:
    """Each call returns when everything is acknowledged.

    away_seconds_max: how long a write is retried in place while Kafka is away.
    """

    def __init__(self, bootstrap: str, partitions: int, away_seconds_max: float) -> None:
        self._partitions = partitions
        self._away_seconds_max = away_seconds_max
        self._writer = AsyncWriter(bootstrap, "scorer")

    async def start(self) -> None:
        """Connect. Raises aiokafka's KafkaError, or KafkaAwayError."""
        async with answered_within(self._away_seconds_max):
            await self._writer.start()

    async def alerts(self, alerts: Sequence[Alert]) -> None:
        """Write alerts, each to its card's partition. Raises aiokafka's KafkaError, or KafkaAwayError."""
        await self.records(
            topics.ALERTS.name,
            (
                (partition_for(alert.card_id, self._partitions), (alert.card_id.encode(), alert.to_json(), []))
                for alert in alerts
            ),
        )

    async def records(self, topic: str, records: Iterable[tuple[int, Record]]) -> None:
        """Write records, each to its partition, in order. Raises aiokafka's KafkaError, or KafkaAwayError."""
        by_partition: dict[int, list[Record]] = {}
        for partition, record in records:
            by_partition.setdefault(partition, []).append(record)
        if not by_partition:
            return
        async with answered_within(self._away_seconds_max):
            if len(by_partition) == 1:  # as a rule; without a task of its own
                await self._writer.write(topic, *by_partition.popitem())
            else:
                await write_all(self._writer, [(topic, partition, each) for partition, each in by_partition.items()])

    async def close(self) -> None:
        """Disconnect; everything that was sent has been acknowledged."""
        await self._writer.stop()
