"""A consumer for whoever looks at a few records at known places of a log.

Rule 1. It has no group, commits nothing and makes no topic: to look changes nothing.
"""

from __future__ import annotations

from kafka import KafkaConsumer


def peeking_consumer(bootstrap: str, client_id: str) -> KafkaConsumer:
    """Not assigned to anything yet, fetches little at once. Raises KafkaError when no broker answers within 5 s."""
    return KafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=64 * 1024,
        bootstrap_timeout_ms=5_000,
        allow_auto_create_topics=False,
    )
