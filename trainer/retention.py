"""Retention: the oldest rows of the lake go, by age of event or by size, but none that a training run could still need.

Rule 1. Age is event time, counted back from the newest transaction; where partitions differ, from the one furthest behind.
Rule 2. What a training run may need is kept whatever the settings say: its training and validation days, the label delay
        before each, the longest look back of a feature (vectors may have to be computed again), and a week for a run that
        comes late. An age below that is refused; a size that would cut into it is exceeded, and said.
Rule 3. Files go from the oldest on and whole. One without rows then stands for their offsets: a file that is missing by
        accident is still told from rows that were let go.
Rule 4. Dead letters stay: they have no event time of their own, and are few.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from adapters.lake import Lake, LakeFile
from fraud import topics
from fraud.features import CARD_SPAN_MS, TERMINAL_SPAN_MS
from fraud.windows import DAY_MS
from trainer.settings import TrainerSettings

LATE_RUN_DAYS: Final = 7
LOOK_BACK_DAYS: Final = max(CARD_SPAN_MS, TERMINAL_SPAN_MS) / DAY_MS
GIB: Final = 1 << 30

# The column that says how old a row is; of a label when it became known, which is never before its transaction.
TIME_COLUMN: Final = {
    topics.TRANSACTIONS.name: "occurred_at_ms",
    topics.LABELS.name: "known_at_ms",
    topics.TERMINAL_LOG.name: "occurred_at_ms",
    topics.FEATURES.name: "occurred_at_ms",
    topics.SCORES.name: "occurred_at_ms",
    topics.ALERTS.name: "occurred_at_ms",
    topics.DISPOSITIONS.name: "occurred_at_ms",
}


@dataclass(frozen=True, slots=True)
class Retention:
    """keep_days of event time and size_max_bytes: None for no limit. needed_days: what is kept in any case."""

    keep_days: float | None
    size_max_bytes: int | None
    needed_days: float

    @classmethod
    def of(cls, settings: TrainerSettings) -> Retention:
        """As the settings say. Raises ValueError for an age that a training run would miss."""
        parts = {
            "FRAUD_TRAIN_DAYS": settings.train_days,
            "FRAUD_VALIDATION_DAYS": settings.validation_days,
            "twice FRAUD_LABEL_DELAY_DAYS": 2 * settings.label_delay_days,
            "look back of the features": LOOK_BACK_DAYS,
            "for a late run": LATE_RUN_DAYS,
        }
        needed = sum(parts.values())
        if settings.lake_keep_days is not None and settings.lake_keep_days < needed:
            told = " + ".join(f"{days:g} ({name})" for name, days in parts.items())
            raise ValueError(
                f"FRAUD_LAKE_KEEP_DAYS is {settings.lake_keep_days:g}, and a training run may need {needed:g} days = {told}: "
                f"set it to {needed:g} or more, or leave it unset to keep all"
            )
        size = settings.lake_size_max_gib
        return cls(settings.lake_keep_days, None if size is None else int(size * GIB), needed)

    @property
    def is_limited(self) -> bool:
        """Whether anything may go at all."""
        return self.keep_days is not None or self.size_max_bytes is not None


@dataclass(frozen=True, slots=True)
class Leaving:
    """The first files of a partition whose rows may go, and their bytes; newest_ms: their newest event."""

    files: tuple[LakeFile, ...]
    bytes: int
    newest_ms: int

    @property
    def place(self) -> str:
        """The topic's partition."""
        return f"{self.files[0].topic}/{self.files[0].partition}"


@dataclass(frozen=True, slots=True)
class Plan:
    """leaving: by partition. bytes: of the lake now. excess_bytes: above size_max_bytes that must stay for training."""

    leaving: tuple[Leaving, ...]
    bytes: int
    excess_bytes: int


def plan(lake: Lake, retention: Retention) -> Plan:
    """What may go now. Raises LakeGapError for a lake that is not whole: nothing of it is deleted."""
    counted = {
        (topic, partition): lake.files(topic, partition)
        for topic in lake.topics()
        if topic in TIME_COLUMN
        for partition in lake.partitions(topic)
    }
    total = sum(file.path.stat().st_size for files in counted.values() for file in files)
    now_ms = _now_ms(counted)
    if now_ms is None or not retention.is_limited:
        return Plan((), total, 0)
    floor_ms = now_ms - round(retention.needed_days * DAY_MS)
    old = {place: list(_older(files, floor_ms)) for place, files in counted.items()}
    cut_ms = _cut_ms(old, retention, now_ms, total)
    leaving: list[Leaving] = []
    for files in old.values() if cut_ms > 0 else ():
        going = [aged for aged in files if aged.newest_ms < cut_ms]
        if any(not aged.file.gone for aged in going):
            parts = tuple(aged.file for aged in going)
            newest_ms = max(aged.newest_ms for aged in going)
            leaving.append(Leaving(parts, sum(aged.bytes for aged in going), newest_ms))
    excess = 0
    if retention.size_max_bytes is not None:
        excess = max(0, total - sum(each.bytes for each in leaving) - retention.size_max_bytes)
    return Plan(tuple(leaving), total, excess)


def retire(lake: Lake, retention: Retention) -> Plan:
    """Let go of what may go; what somebody reads stays until the next time. Raises as plan(), LakeLockedError, OSError."""
    with lake.locked_for_compaction():
        found = plan(lake, retention)
        went = tuple(each for each in found.leaving if lake.retire(each.files) is not None)
    return Plan(went, found.bytes, found.excess_bytes)


@dataclass(frozen=True, slots=True)
class _Aged:
    """A file whose newest event is as old as it and all before it are; newest_ms: -1 where it has none."""

    file: LakeFile
    newest_ms: int
    bytes: int


def _older(files: list[LakeFile], floor_ms: int) -> Iterator[_Aged]:
    """The first files of a partition, as long as all their events are before floor_ms."""
    newest_ms = -1
    for file in files:
        newest_ms = max(newest_ms, -1 if (own := _newest_ms(file)) is None else own)
        if newest_ms >= floor_ms:
            return
        yield _Aged(file, newest_ms, file.path.stat().st_size)


def _cut_ms(old: dict[tuple[str, int], list[_Aged]], retention: Retention, now_ms: int, total: int) -> int:
    """Events before this moment may go: by age, and as many more, oldest first, as the size wants."""
    cut_ms = 0 if retention.keep_days is None else now_ms - round(retention.keep_days * DAY_MS)
    if retention.size_max_bytes is None:
        return cut_ms
    size = total
    for aged in sorted((aged for files in old.values() for aged in files), key=lambda aged: aged.newest_ms):
        if size <= retention.size_max_bytes and aged.newest_ms >= cut_ms:
            break
        size -= aged.bytes
        cut_ms = max(cut_ms, aged.newest_ms + 1)
    return cut_ms


def _now_ms(counted: dict[tuple[str, int], list[LakeFile]]) -> int | None:
    """The newest event of the partition of `transactions` that is furthest behind; None without any."""
    newest = []
    for (topic, _), files in counted.items():
        if topic == topics.TRANSACTIONS.name:
            with_rows = (_newest_ms(file) for file in reversed(files))
            newest.append(next((time_ms for time_ms in with_rows if time_ms is not None), None))
    told = [time_ms for time_ms in newest if time_ms is not None]
    return min(told) if told else None


def _newest_ms(file: LakeFile) -> int | None:
    column = TIME_COLUMN[file.topic]
    newest = pl.scan_parquet(file.path, glob=False).select(pl.col(column).max()).collect().item()
    return None if newest is None else int(newest)
