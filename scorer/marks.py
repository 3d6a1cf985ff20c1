"""The scorer's memory across restarts: the origin marks, kept in what it writes.

Rule 1. Every record of `scores` carries the marks as they stood after it: the last origin offset of each partition of
        `transactions` that stands in this partition of `scores`. So the last record alone tells what is done.
Rule 2. The consumer group's offset is where to begin reading, never the judge of what is done.
Rule 3. Of several records the larger mark counts: a scorer that wakes up late may have written older marks last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from fraud import topics
from fraud.dead_letters import BadMessageError
from fraud.packed import SCORES, Array, OriginMarks, unpack
from scorer.kafka_away import answered_within, connected

META_KEY: Final = "marks"
TAIL_RECORDS: Final = 20
_POLL_MS: Final = 200
_ORIGIN: Final = topics.TRANSACTIONS.name

log = structlog.get_logger("scorer.marks")


def to_meta(marks: OriginMarks) -> dict[str, int]:
    """Marks as they stand in the meta of a record: last origin offset by origin partition."""
    return {str(partition): offset for (_, partition), offset in sorted(marks.marks.items())}


def advance(marks: OriginMarks, partitions: Array, offsets: Array) -> None:
    """Move the marks past rows of these origins, int [rows] each, of which each partition ascends."""
    for partition in set(partitions.tolist()):
        marks.marks[_ORIGIN, partition] = int(offsets[partitions == partition][-1])


def merged(metas: Iterable[Mapping[str, Any]]) -> OriginMarks:
    """The marks that the records with these metas leave."""
    marks: dict[tuple[str, int], int] = {}
    for meta in metas:
        for partition, offset in meta.get(META_KEY, {}).items():
            source = (_ORIGIN, int(partition))
            marks[source] = max(int(offset), marks.get(source, -1))
    return OriginMarks(marks)


async def read_marks(bootstrap: str, partitions: Iterable[int], timeout_s: float) -> dict[int, OriginMarks]:
    """The marks of these partitions of `scores`, from their newest records; empty where nothing was written yet.

    Raises KafkaAwayError or aiokafka's KafkaError when Kafka does not answer within `timeout_s`.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="scorer-marks",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        async with answered_within(timeout_s):
            await connected(consumer.start, timeout_s)
            tails = await _tails(consumer, [TopicPartition(topics.SCORES.name, p) for p in partitions])
    finally:
        await consumer.stop()
    marks = {tp.partition: merged(_metas(tail)) for tp, tail in tails.items()}
    log.info("marks", partitions={partition: to_meta(mark) for partition, mark in marks.items()})
    return marks


async def _tails(consumer: AIOKafkaConsumer, wanted: list[TopicPartition]) -> dict[TopicPartition, list[bytes]]:
    consumer.assign(wanted)
    ends = await consumer.end_offsets(wanted)
    begins = await consumer.beginning_offsets(wanted)
    tails: dict[TopicPartition, list[bytes]] = {tp: [] for tp in wanted}
    for tp in wanted:
        consumer.seek(tp, max(begins[tp], ends[tp] - TAIL_RECORDS))
    left = {tp for tp in wanted if ends[tp] > begins[tp]}
    while left:
        for tp, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
            tails[tp] += [record.value for record in records]
            if records[-1].offset + 1 >= ends[tp]:
                left.discard(tp)
    return tails


def _metas(tail: Iterable[bytes]) -> list[Mapping[str, Any]]:
    metas: list[Mapping[str, Any]] = []
    for raw in tail:
        try:
            metas.append(unpack(raw, (SCORES,)).meta)
        except BadMessageError as error:
            log.warning("a record of scores is no packed batch of scores; it is left out", reason=error.detail)
    return metas
