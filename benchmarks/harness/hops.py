"""Where a transaction's time went: read from the topics after a hold, so that the hold is not disturbed.

Rule 1. Moments are those that the records carry: the broker's append times, and each stage's own time of writing, all to the
        millisecond and of one machine's clock.
Rule 2. A hop is from one moment to the next; the hops of a transaction add up to its latency.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from benchmarks.harness.hold import Moments
from benchmarks.harness.pacing import Seconds
from benchmarks.harness.rows import of_hold
from fraud import packed, topics

HOPS: Final = (
    "due -> in transactions",
    "-> card stage has folded",
    "-> in terminal-log",
    "-> terminal stage has folded",
    "-> in features",
    "-> scorer has judged",
    "-> in scores",
    "-> at the reader",
)
_READ = ((topics.TERMINAL_LOG, packed.CARD_VECTORS), (topics.FEATURES, packed.VECTORS), (topics.SCORES, packed.SCORES))
_EMPTY_POLLS_MAX: Final = 3
POLL_MS: Final = 500


def ends_of(bootstrap: str) -> dict[TopicPartition, int]:
    """Where the internal topics end now."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        found: dict[TopicPartition, int] = consumer.end_offsets(_sources(consumer))
        return found
    finally:
        consumer.close()


def _sources(consumer: KafkaConsumer) -> list[TopicPartition]:
    return [
        TopicPartition(topic.name, partition)
        for topic, _ in _READ
        for partition in consumer.partitions_for_topic(topic.name) or ()
    ]


def moments_of(bootstrap: str, since: dict[TopicPartition, int], told: Moments) -> Seconds:
    """Seconds after the beginning, float64 [transactions, hops + 1], NaN where a moment is not known."""
    count = told.schedule.count
    at: Seconds = np.full((count, len(HOPS) + 1), np.nan)
    at[:, 0], at[:, -1] = told.schedule.moments(), told.scored_s
    kinds = {topic.name: (kind, place) for place, (topic, kind) in enumerate(_READ)}
    for record in _records(bootstrap, since):
        kind, place = kinds[record.topic]
        if record.topic == topics.TERMINAL_LOG.name and b'"kind": "labels"' in record.value[:64]:
            continue
        batch = packed.unpack(record.value, (kind,))
        mine, rows = of_hold(batch.text("transaction_id"), told.hold)
        at[rows, 1] = batch.array("ingested_at_ms")[mine] / 1e3 - told.begin_ns / 1e9
        at[rows, 2 + 2 * place] = batch.meta["stage_at_ms"] / 1e3 - told.begin_ns / 1e9
        at[rows, 3 + 2 * place] = record.timestamp / 1e3 - told.begin_ns / 1e9
    return at


def _records(bootstrap: str, since: dict[TopicPartition, int]) -> list[Any]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        consumer.assign(list(since))
        ends = consumer.end_offsets(list(since))
        for source, offset in since.items():
            consumer.seek(source, offset)
        records: list[Any] = []
        empty = 0
        while empty < _EMPTY_POLLS_MAX and any(consumer.position(source) < ends[source] for source in since):
            polled = consumer.poll(timeout_ms=POLL_MS, max_records=5_000)
            empty = 0 if polled else empty + 1
            records += [record for one in polled.values() for record in one]
        return records
    finally:
        consumer.close()


def hops_of(moments: Seconds) -> dict[str, tuple[float, float]]:
    """Median and 99th percentile of each hop in ms. moments: as moments_of gives them."""
    known = moments[~np.isnan(moments).any(axis=1)]
    if not len(known):
        return {}
    lengths = np.diff(known, axis=1) * 1e3
    return {
        name: (round(float(np.median(one)), 2), round(float(np.quantile(one, 0.99)), 2))
        for name, one in zip(HOPS, lengths.T, strict=True)
    }


def slowest_hops(moments: Seconds, slow_s: float) -> dict[str, int]:
    """Of the transactions with a latency above slow_s: in which hop each lost the most."""
    known = moments[~np.isnan(moments).any(axis=1)]
    slow = known[known[:, -1] - known[:, 0] > slow_s]
    most = np.diff(slow, axis=1).argmax(axis=1) if len(slow) else np.empty(0, np.int64)
    return {HOPS[hop]: int((most == hop).sum()) for hop in np.unique(most).tolist()}
