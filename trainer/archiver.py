"""The archiver: copies the topics into the lake.

Rule 1. It resumes from the lake's own highest `next`, never from the group offset, which is only a lag gauge.
Rule 2. A file is on disk before its offsets are committed; a kill at any moment loses and doubles nothing.
Rule 3. Offsets that the log no longer has and the lake never had end the process: a lake with a hole is not the truth.
        Only before its first record a lake may lack some, and then a file says so.
Rule 4. It keeps its own house: small files are merged, and rows that are older than the settings want are let go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from adapters.lake import NEVER_THERE, Lake, LakeFile, LakeGapError, LakeLockedError
from adapters.telemetry import counter, gauge
from fraud import metrics
from fraud.packed import OriginMarks
from fraud.topics import ARCHIVED
from trainer.chunk import Chunk, PackedChunk, Record, chunk_for
from trainer.compaction import SWEEP_AFTER_S, CompactionLimits, compact
from trainer.retention import Retention, retire

GROUP: Final = "archiver"
STAGE: Final = "archiver"
_MEMORY_BYTES_MAX: Final = 192 * 1024 * 1024  # of all chunks together, before the largest is written early
LOG_SETTLES_SECONDS: Final = 10.0
LOG_POLL_SECONDS: Final = 0.2
_SMALL_FILE_SHARE: Final = 0.5  # a file below this share of chunk_rows_max is small: worth merging
_FETCH_MS_MAX: Final = 1_000
_RETIRE_EVERY_S: Final = 600.0
_RETRY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ArchiverLimits:
    """When a chunk becomes a file, and when small files become one."""

    chunk_rows_max: int = 200_000
    chunk_bytes_max: int = 64 * 1024 * 1024
    chunk_age_max_s: float = 5.0
    small_files_max: int = 64
    write_retry_s: float = 60.0


class MissingTopicError(RuntimeError):
    """A topic is not there: the init step has not run, or the broker is another."""


@dataclass(slots=True)
class _Partition:
    """One topic's partition: the chunk being filled and what stands in the lake."""

    source: TopicPartition
    chunk: Chunk
    opened_at_s: float | None = None
    small_files: int = 0


class Archiver:
    """Copies every topic of ARCHIVED from `bootstrap` to `lake` until `stop` is set."""

    def __init__(
        self,
        bootstrap: str,
        lake: Lake,
        limits: ArchiverLimits,
        log: structlog.stdlib.BoundLogger,
        clock: Callable[[], float] = time.monotonic,
        retention: Retention | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._lake = lake
        self._limits = limits
        self._log = log
        self._clock = clock
        self._retention = retention
        self._fetch_ms = min(_FETCH_MS_MAX, round(limits.chunk_age_max_s * 1000))
        self._retire_at_s = clock()
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._fault: str | None = "not assigned yet"
        self.stop = asyncio.Event()

    def health(self) -> str | None:
        """None when assigned and the last write succeeded, else the reason."""
        return self._fault

    async def run(self) -> None:
        """Archive until `stop`; then write what is left.

        Raises LakeGapError for lost offsets, MissingTopicError, OSError when the disk refuses for too long, KafkaError.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id=STAGE,
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=self._fetch_ms,
            fetch_min_bytes=1024 * 1024,  # nobody waits for it: a fetch a second, not one for each small batch
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        await consumer.start()
        try:
            await self._assign(consumer)
            self._fault = None
            while not self.stop.is_set():
                await self._poll(consumer)
                await self._write_due(consumer)
                await self._retire_due()
            await self._write(consumer, [p for p in self._partitions.values() if not p.chunk.is_empty])
        finally:
            await consumer.stop()

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        sources = await self._sources()
        consumer.assign(sources)
        begins, ends = await consumer.beginning_offsets(sources), await self._settled_ends(consumer, sources)
        for source in sources:
            self._partitions[source] = self._resumed(source, begins[source], ends[source])
            consumer.seek(source, self._partitions[source].chunk.next)
        self._log.info("archiving", partitions=len(sources), lake=str(self._lake.root))

    async def _settled_ends(
        self, consumer: AIOKafkaConsumer, sources: list[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """The ends of the logs; a broker that was killed shows lower ones for a moment while it recovers."""
        deadline = time.monotonic() + LOG_SETTLES_SECONDS
        lake = {source: self._lake.files(source.topic, source.partition) for source in sources}
        while True:
            ends: dict[TopicPartition, int] = await consumer.end_offsets(sources)
            behind = any(files and ends[source] < files[-1].next for source, files in lake.items())
            if not behind or time.monotonic() > deadline:
                return ends
            await asyncio.sleep(LOG_POLL_SECONDS)

    async def _sources(self) -> list[TopicPartition]:
        """Every partition of every archived topic, as the broker has them."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap, client_id=STAGE)
        await admin.start()
        try:
            described = await admin.describe_topics([topic.name for topic in ARCHIVED])
        finally:
            await admin.close()
        counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
        if missing := sorted(topic.name for topic in ARCHIVED if not counts.get(topic.name)):
            raise MissingTopicError(
                f"no topic {', '.join(missing)} at {self._bootstrap}: the init step has not made it yet"
            )
        return [TopicPartition(topic.name, number) for topic in ARCHIVED for number in range(counts[topic.name])]

    def _resumed(self, source: TopicPartition, begin: int, end: int) -> _Partition:
        """Where the lake ends, the log must go on."""
        where = f"{source.topic}/{source.partition}"
        files = self._lake.files(source.topic, source.partition)
        at = files[-1].next if files else begin
        if at < begin:
            raise LakeGapError(
                f"{where}: the log begins at offset {begin}, the lake ends at {at}: offsets {at} .. {begin - 1} are lost; "
                "lengthen the topic's retention, and archive into an empty folder (FRAUD_LAKE_DIR)"
            )
        if at > end:
            raise LakeGapError(
                f"{where}: the log ends at offset {end}, the lake at {at}: this lake belongs to another Kafka; "
                "archive into an empty folder (FRAUD_LAKE_DIR)"
            )
        if not files and begin > 0:
            files = [self._absent(source, begin)]
        self._lake.sweep(source.topic, source.partition, SWEEP_AFTER_S)
        chunk = chunk_for(source.topic, at, OriginMarks(files[-1].marks if files else None))
        return _Partition(source, chunk, small_files=sum(file.rows < self._small_rows for file in files))

    def _absent(self, source: TopicPartition, begin: int) -> LakeFile:
        """Say in the lake itself that the log had lost its first records before anyone archived them."""
        self._log.warning(
            "the log no longer has its first records", topic=source.topic, partition=source.partition, begins_at=begin
        )
        nothing = chunk_for(source.topic, 0, OriginMarks()).frame()
        return self._lake.write_chunk(source.topic, source.partition, (0, begin), nothing, {}, gone=NEVER_THERE)

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        try:
            fetched = await consumer.getmany(timeout_ms=self._fetch_ms, max_records=20_000)
        except OffsetOutOfRangeError as error:
            lost = {f"{s.topic}/{s.partition}": offset for s, offset in error.args[0].items()}
            raise LakeGapError(
                f"the log no longer has the next offsets {lost}: lengthen the topics' retention"
            ) from error
        for source, records in fetched.items():
            partition = self._partitions[source]
            await self._take(consumer, partition, records)
            lag = (consumer.highwater(source) or partition.chunk.next) - partition.chunk.next
            gauge(metrics.LAG_RECORDS).labels(STAGE, source.topic, source.partition).set(max(0, lag))

    async def _take(self, consumer: AIOKafkaConsumer, partition: _Partition, records: Sequence[Record]) -> None:
        full = self._limits.chunk_rows_max, self._limits.chunk_bytes_max
        at = 0
        while at < len(records):
            if partition.opened_at_s is None:
                partition.opened_at_s = self._clock()
            at += partition.chunk.take(records[at:], *full)
            if at < len(records) or partition.chunk.is_full(*full):
                await self._write(consumer, [partition])

    async def _write_due(self, consumer: AIOKafkaConsumer) -> None:
        now, limit = self._clock(), self._limits.chunk_age_max_s
        opened = [p for p in self._partitions.values() if p.opened_at_s is not None]
        due = [p for p in opened if p.opened_at_s is not None and now - p.opened_at_s >= limit]
        if not due and sum(p.chunk.size_bytes for p in opened) > _MEMORY_BYTES_MAX:
            due = [max(opened, key=lambda p: p.chunk.size_bytes)]
        await self._write(consumer, due)

    async def _write(self, consumer: AIOKafkaConsumer, partitions: Sequence[_Partition]) -> None:
        for partition in partitions:
            chunk, source = partition.chunk, partition.source
            await self._write_with_retries(source, chunk)
            partition.chunk = chunk_for(source.topic, chunk.next, chunk.marks)
            partition.opened_at_s = None
            counter(metrics.ARCHIVED_ROWS_TOTAL).labels(source.topic).inc(chunk.rows)
            counter(metrics.ARCHIVED_FILES_TOTAL).labels(source.topic).inc()
            await self._merge_small(partition, chunk.rows)
        if partitions:
            await self._commit(consumer, {p.source: p.chunk.first for p in partitions})

    async def _write_with_retries(self, source: TopicPartition, chunk: Chunk) -> LakeFile:
        """A disk that is full for a moment is waited for; the log keeps what is not written."""
        for offset, error in chunk.refused if isinstance(chunk, PackedChunk) else ():
            self._log.warning(
                "no packed batch", topic=source.topic, partition=source.partition, offset=offset, why=error.detail
            )
        frame = await asyncio.to_thread(chunk.frame)
        deadline = self._clock() + self._limits.write_retry_s
        while True:
            try:
                file = await asyncio.to_thread(
                    self._lake.write_chunk,
                    source.topic,
                    source.partition,
                    (chunk.first, chunk.next),
                    frame,
                    chunk.marks.marks,
                    chunk.feature_hash,
                )
                self._fault = None
                return file
            except OSError as error:
                self._fault = f"{source.topic}/{source.partition} cannot be written to {self._lake.root}: {error}"
                if self.stop.is_set() or self._clock() >= deadline:
                    raise
                self._log.warning("the lake cannot be written, trying again", error=str(error))
                await asyncio.sleep(_RETRY_S)

    @property
    def _small_rows(self) -> int:
        return int(self._limits.chunk_rows_max * _SMALL_FILE_SHARE)

    async def _merge_small(self, partition: _Partition, rows: int) -> None:
        """Merge when there are too many small files; while another process merges, at the next file."""
        partition.small_files += rows < self._small_rows
        if partition.small_files <= self._limits.small_files_max:
            return
        topic, number = partition.source.topic, partition.source.partition
        try:
            done = await asyncio.to_thread(
                compact, self._lake, topic, number, CompactionLimits(self._small_rows), SWEEP_AFTER_S
            )
        except LakeLockedError:
            return
        except OSError as error:
            self._log.warning("small files not merged", topic=topic, partition=number, error=str(error))
            return
        partition.small_files = 0
        self._log.info("merged small files", topic=topic, partition=number, files=done.merged, into=done.into)

    async def _retire_due(self) -> None:
        """Let go of what the settings do not want any more, every ten minutes."""
        if self._retention is None or not self._retention.is_limited or self._clock() < self._retire_at_s:
            return
        self._retire_at_s = self._clock() + _RETIRE_EVERY_S
        try:
            done = await asyncio.to_thread(retire, self._lake, self._retention)
        except (LakeLockedError, OSError) as error:
            self._log.warning("nothing retired this time", error=str(error))
            return
        for each in done.leaving:
            self._log.info("retired", place=each.place, files=len(each.files), bytes=each.bytes)
        if done.excess_bytes:
            self._log.warning(
                "the lake is above FRAUD_LAKE_SIZE_MAX_GIB: training may need what is left",
                excess_bytes=done.excess_bytes,
                needed_days=self._retention.needed_days,
            )

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
        """Say where the lake stands, for people; nothing depends on it."""
        try:
            await consumer.commit(offsets)
        except KafkaError as error:
            self._log.warning("group offsets not committed; the lake is written", error=str(error))
