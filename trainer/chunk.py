"""A chunk: records of one topic's partition on their way to one file of the lake.

Rule 1. A chunk stands for a run of offsets, whether or not they hold rows: `first` inclusive, `next` exclusive.
Rule 2. What cannot be parsed is kept as bytes with the reason; the lake refuses nothing.
Rule 3. Packed rows go from array to column, never one by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from fraud import packed, topics
from fraud.alert import Alert, parse_alert
from fraud.dead_letters import BadMessageError, Reason
from fraud.disposition import Disposition, parse_disposition
from fraud.features import FEATURE_HASH, NAMES
from fraud.labels import Label, parse_label
from fraud.packed import Batch, OriginMarks
from fraud.switches import META, in_words
from fraud.transaction import Transaction, parse_transaction

Headers = Sequence[tuple[str, bytes]]

_POLARS: Final[Mapping[str, Any]] = {
    packed.TEXT: pl.String,
    "<i4": pl.Int32,
    "<i8": pl.Int64,
    "<f4": pl.Float32,
    "|u1": pl.UInt8,
}


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as it stands in the log; `ingested_at_ms` is the broker's append time."""

    offset: int
    key: bytes | None
    value: bytes | None
    ingested_at_ms: int
    headers: Headers = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


class Chunk(ABC):
    """Rows of the offsets first <= offset < next."""

    def __init__(self, first: int, marks: OriginMarks) -> None:
        self.first = first
        self.next = first
        self.rows = 0
        self.size_bytes = 0
        self.marks = marks
        self.feature_hash: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the chunk stands for no offset at all."""
        return self.next == self.first

    def accepts(self, record: LogRecord) -> bool:
        """Whether the record may stand in the same file as those before it."""
        return True

    def add(self, record: LogRecord) -> None:
        """Take the next record of the partition."""
        self._take(record)
        self.size_bytes += record.size_bytes
        self.next = record.offset + 1

    @abstractmethod
    def _take(self, record: LogRecord) -> None: ...

    @abstractmethod
    def frame(self) -> pl.DataFrame:
        """The rows as the file's columns."""


class RawChunk(Chunk):
    """Records of a topic whose value is one message: the bytes, and the columns that `parse` finds in them."""

    def __init__(
        self, first: int, marks: OriginMarks, schema: Mapping[str, Any], parse: Callable[[LogRecord], Any]
    ) -> None:
        super().__init__(first, marks)
        self._schema = schema
        self._parse = parse
        self._records: list[LogRecord] = []

    def _take(self, record: LogRecord) -> None:
        self._records.append(record)
        self.rows += 1

    def frame(self) -> pl.DataFrame:
        """The records, and what could be parsed of each."""
        parsed: list[Any] = []
        refused: list[str | None] = []
        for record in self._records:
            try:
                parsed.append(self._parse(record))
                refused.append(None)
            except BadMessageError as error:
                parsed.append(None)
                refused.append(str(error.reason))
        columns = {
            "log_offset": pl.Series([r.offset for r in self._records], dtype=pl.Int64),
            "key": pl.Series([r.key for r in self._records], dtype=pl.Binary),
            "ingested_at_ms": pl.Series([r.ingested_at_ms for r in self._records], dtype=pl.Int64),
            "value": pl.Series([r.value for r in self._records], dtype=pl.Binary),
        }
        for name, dtype in self._schema.items():
            columns[name] = pl.Series([None if p is None else getattr(p, name) for p in parsed], dtype=dtype)
        return pl.DataFrame({**columns, "refused": pl.Series(refused, dtype=pl.String)})


class PackedChunk(Chunk):
    """Rows of packed batches, those seen before left out; a vector becomes one float32 column per feature."""

    def __init__(self, first: int, marks: OriginMarks, kinds: Sequence[str], keep: Sequence[str]) -> None:
        super().__init__(first, marks)
        self._kinds = kinds
        self._keep = keep
        self._batches: list[tuple[int, Batch]] = []
        self._read_ahead: tuple[int, Batch | BadMessageError] | None = None
        self.refused: list[tuple[int, BadMessageError]] = []

    def accepts(self, record: LogRecord) -> bool:
        """Vectors of other features go to another file."""
        batch = self._unpacked(record)
        if isinstance(batch, BadMessageError) or not self._batches or "vector" not in self._keep:
            return True
        return _features_of(batch) == _features_of(self._batches[0][1])

    def _take(self, record: LogRecord) -> None:
        batch = self._unpacked(record)
        self._read_ahead = None
        if isinstance(batch, BadMessageError):
            self.refused.append((record.offset, batch))
            return
        fresh = self.marks.fresh(batch)
        if fresh.rows:
            self._batches.append((record.offset, fresh))
            self.rows += fresh.rows
            self.feature_hash = batch.meta.get("feature_hash") if "vector" in self._keep else None

    def _unpacked(self, record: LogRecord) -> Batch | BadMessageError:
        if self._read_ahead is None or self._read_ahead[0] != record.offset:
            try:
                self._read_ahead = record.offset, packed.unpack(record.value, self._kinds)
            except BadMessageError as error:
                self._read_ahead = record.offset, error
        return self._read_ahead[1]

    def frame(self) -> pl.DataFrame:
        """One row per packed row."""
        offsets = [np.full(batch.rows, offset, np.int64) for offset, batch in self._batches]
        columns = {"log_offset": pl.Series(_concatenated(offsets, np.int64), dtype=pl.Int64)}
        if len(self._kinds) > 1:
            origins = [batch.origin_topic for _, batch in self._batches for _ in range(batch.rows)]
            columns["origin_topic"] = pl.Series(origins, dtype=pl.String)
        for name in self._keep:
            columns |= self._vector_columns() if name == "vector" else {name: self._column(name)}
        if any(META in batch.meta for _, batch in self._batches):  # a column of its own only while somebody breaks it
            under = [
                in_words(batch.meta.get(META, ())) or None for _, batch in self._batches for _ in range(batch.rows)
            ]
            columns[META] = pl.Series(under, dtype=pl.String)
        if "score" in self._keep:
            versions = [batch.meta.get("model_version") for _, batch in self._batches for _ in range(batch.rows)]
            columns["model_version"] = pl.Series(versions, dtype=pl.String)
        return pl.DataFrame(columns)

    def _column(self, name: str) -> pl.Series:
        dtype = next(packed.COLUMNS[kind][name] for kind in self._kinds if name in packed.COLUMNS[kind])
        parts = [
            pl.Series(batch.columns[name], dtype=_POLARS[dtype])
            if name in batch.columns
            else pl.Series([None], dtype=_POLARS[dtype]).new_from_index(0, batch.rows)
            for _, batch in self._batches
        ]
        return pl.concat(parts, rechunk=True) if parts else pl.Series(dtype=_POLARS[dtype])

    def _vector_columns(self) -> dict[str, pl.Series]:
        vectors = [batch.array("vector") for _, batch in self._batches]
        names = _feature_names(self._batches[0][1]) if vectors else NAMES
        by_feature = np.concatenate(vectors).T if vectors else np.empty((len(names), 0), np.float32)
        return {name: pl.Series(np.ascontiguousarray(column)) for name, column in zip(names, by_feature, strict=True)}


def _concatenated(parts: Sequence[packed.Array], dtype: type[np.generic]) -> packed.Array:
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _features_of(batch: Batch) -> tuple[Any, int]:
    return batch.meta.get("feature_hash"), batch.array("vector").shape[1]


def _feature_names(batch: Batch) -> Sequence[str]:
    """This code's names when the vectors are of its features, numbers when another version wrote them."""
    feature_hash, width = _features_of(batch)
    return NAMES if (feature_hash, width) == (FEATURE_HASH, len(NAMES)) else [f"vector_{i:03d}" for i in range(width)]


@dataclass(frozen=True, slots=True)
class _DeadLetterRow:
    reason: str
    detail: str
    source_topic: str
    source_partition: int
    source_offset: int


def _parse_dead_letter(record: LogRecord) -> _DeadLetterRow:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    try:
        partition, offset = int(headers["partition"]), int(headers["offset"])
        return _DeadLetterRow(headers["reason"], headers["detail"], headers["topic"], partition, offset)
    except (KeyError, ValueError) as error:
        raise BadMessageError(Reason.FIELD_MISSING, f"header {error}") from error


_TYPES: Final[Mapping[Any, Any]] = {
    str: pl.String,
    int: pl.Int64,
    int | None: pl.Int64,
    float: pl.Float64,
    bool: pl.Boolean,
    tuple[str, ...]: pl.List(pl.String),
}


def _schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: _TYPES.get(field.type, pl.String) for field in msgspec.structs.fields(struct)}


_TRANSACTIONS_SCHEMA: Final = _schema(Transaction)
_LABELS_SCHEMA: Final = _schema(Label)
_ALERTS_SCHEMA: Final = _schema(Alert)
_DISPOSITIONS_SCHEMA: Final = _schema(Disposition)
_DEAD_LETTERS_SCHEMA: Final = {
    "reason": pl.String,
    "detail": pl.String,
    "source_topic": pl.String,
    "source_partition": pl.Int64,
    "source_offset": pl.Int64,
}
# The terminal's log in the lake: order and identity; amounts and verdicts for reading, no vectors.
_TERMINAL_LOG_COLUMNS: Final = (
    "origin_partition",
    "origin_offset",
    "terminal_id",
    "transaction_id",
    "occurred_at_ms",
    "amount_minor",
    "is_striking",
    "is_fraud",
    "known_at_ms",
)
_PACKED: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    topics.TERMINAL_LOG.name: ((packed.CARD_VECTORS, packed.LABELS), _TERMINAL_LOG_COLUMNS),
    topics.FEATURES.name: ((packed.VECTORS,), tuple(packed.COLUMNS[packed.VECTORS])),
    topics.SCORES.name: ((packed.SCORES,), tuple(packed.COLUMNS[packed.SCORES])),
}


def chunk_for(topic: str, first: int, marks: OriginMarks) -> Chunk:
    """An empty chunk for a topic, beginning at offset `first`."""
    if topic in _PACKED:
        return PackedChunk(first, marks, *_PACKED[topic])
    if topic == topics.TRANSACTIONS.name:
        return RawChunk(first, marks, _TRANSACTIONS_SCHEMA, lambda r: parse_transaction(r.value, r.key))
    if topic == topics.LABELS.name:
        return RawChunk(first, marks, _LABELS_SCHEMA, lambda r: parse_label(r.value, r.key))
    if topic == topics.ALERTS.name:
        return RawChunk(first, marks, _ALERTS_SCHEMA, lambda r: parse_alert(r.value))
    if topic == topics.DISPOSITIONS.name:
        return RawChunk(first, marks, _DISPOSITIONS_SCHEMA, lambda r: parse_disposition(r.value))
    return RawChunk(first, marks, _DEAD_LETTERS_SCHEMA, _parse_dead_letter)
