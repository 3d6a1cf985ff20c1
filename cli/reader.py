"""Reading topics for a person: no consumer group, so that nothing of the stack notices.

Rule 1. A reader begins at the end of the log, or at its oldest record when asked to.
Rule 2. A broker or topic that is not there is a message with the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from adapters.kafka_admin import refuse_silence
from cli.failure import CommandError

_BOOTSTRAP_S_MAX: Final = 8


@contextmanager
def connected(bootstrap: str) -> Iterator[KafkaConsumer]:
    """A consumer with nothing assigned. Raises CommandError when no broker answers."""
    try:
        refuse_silence(bootstrap)
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=_BOOTSTRAP_S_MAX * 1000,
            reconnect_backoff_max_ms=1_000,
        )
    except KafkaError:
        raise CommandError(
            f"no Kafka answers at {bootstrap}: start the stack with `fraudstream up`, or set FRAUD_STATE_DIR to its folder "
            "or FRAUD_KAFKA_BOOTSTRAP to its address"
        ) from None
    try:
        yield consumer
    finally:
        consumer.close()


def begin(consumer: KafkaConsumer, from_start: Sequence[str] = (), from_end: Sequence[str] = ()) -> None:
    """Assign every partition of the topics. Raises CommandError when one is not there."""
    oldest = _partitions(consumer, from_start)
    newest = _partitions(consumer, from_end)
    consumer.assign([*oldest, *newest])
    if oldest:
        consumer.seek_to_beginning(*oldest)
    if newest:
        consumer.seek_to_end(*newest)
    for partition in (*oldest, *newest):
        consumer.position(partition)  # now, not at the first poll: what comes after this call is read


def _partitions(consumer: KafkaConsumer, names: Sequence[str]) -> list[TopicPartition]:
    found = []
    for name in names:
        numbers = consumer.partitions_for_topic(name)
        if not numbers:
            raise CommandError(
                f"the broker has no topic {name}: `fraudstream up` makes them, `python -m adapters.init_topics` too"
            )
        found += [TopicPartition(name, number) for number in sorted(numbers)]
    return found
