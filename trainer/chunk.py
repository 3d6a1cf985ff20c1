"""A chunk: records of one topic's partition on their way to one file of the lake.

Rule 1. A chunk stands for a run of offsets, whether or not they hold rows: `first` inclusive, `next` exclusive.
Rule 2. What cannot be parsed is kept as bytes with the reason; the lake refuses nothing.
Rule 3. Rows go from record to column many at a time, never one by one.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from fraud import packed, topics
from fraud.alert import Alert, parse_alert
from fraud.dead_letters import BadMessageError, Reason
from fraud.disposition import Disposition, parse_disposition
from fraud.features import FEATURE_HASH, NAMES
from fraud.labels import Label, parse_label
from fraud.packed import Batch, OriginMarks
from fraud.switches import META, in_words
from fraud.transaction import Transaction
from fraud.transactions import parse_transactions

Headers = Sequence[tuple[str, bytes]]
Values = Sequence[bytes | None]
Parse = Callable[[Values, Values, Sequence[Headers]], pl.DataFrame]  # keys, values, headers: what each record says

# Still in the processor's cache when they become columns: the archiver takes 10.5 us a transaction, 11.7 with a whole chunk at once.
_READ_AT_ONCE: Final = 2_000

_POLARS: Final[Mapping[str, Any]] = {
    packed.TEXT: pl.String,
    "<i4": pl.Int32,
    "<i8": pl.Int64,
    "<f4": pl.Float32,
    "|u1": pl.UInt8,
}


class Record(Protocol):
    """What counts of a record of the log; aiokafka's have it."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def value(self) -> bytes | None:
        """Its message, or its packed batch."""

    @property
    def timestamp(self) -> int:
        """When the broker took it, epoch milliseconds."""

    @property
    def headers(self) -> Headers:
        """Its headers."""


class LogRecord(NamedTuple):
    """A record that no consumer has made."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = ()


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

    def is_full(self, rows_max: int, bytes_max: int) -> bool:
        """Whether it has so many rows, or so many bytes of keys and values."""
        return self.rows >= rows_max or self.size_bytes >= bytes_max

    @abstractmethod
    def take(self, records: Sequence[Record], rows_max: int = sys.maxsize, bytes_max: int = sys.maxsize) -> int:
        """Take the next records of the partition, until it is full or one must not stand in the same file; how many."""

    @abstractmethod
    def frame(self) -> pl.DataFrame:
        """The rows as the file's columns."""


def _size_bytes(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"")


class RawChunk(Chunk):
    """Records of a topic whose value is one message: the bytes, and the columns that `parse` finds in all of them."""

    def __init__(self, first: int, marks: OriginMarks, parse: Parse) -> None:
        super().__init__(first, marks)
        self._parse = parse
        self._offset: list[int] = []
        self._key: list[bytes | None] = []
        self._value: list[bytes | None] = []
        self._timestamp: list[int] = []
        self._headers: list[Headers] = []

    def take(self, records: Sequence[Record], rows_max: int = sys.maxsize, bytes_max: int = sys.maxsize) -> int:
        """See Chunk.take: any record may stand beside any other."""
        taken = records[: rows_max - self.rows]
        sizes = [_size_bytes(record) for record in taken]
        if self.size_bytes + sum(sizes) > bytes_max:
            sums = accumulate(sizes, initial=self.size_bytes)
            sizes = sizes[: sum(before < bytes_max for before in sums)]
            taken = taken[: len(sizes)]
        self._offset += [record.offset for record in taken]
        self._key += [record.key for record in taken]
        self._value += [record.value for record in taken]
        self._timestamp += [record.timestamp for record in taken]
        self._headers += [record.headers for record in taken]
        self.rows += len(taken)
        self.size_bytes += sum(sizes)
        self.next = self._offset[-1] + 1 if self._offset else self.next
        return len(taken)

    def frame(self) -> pl.DataFrame:
        """The records, and what could be parsed of each."""
        whole = pl.DataFrame(
            {
                "log_offset": pl.Series(self._offset, dtype=pl.Int64),
                "key": pl.Series(self._key, dtype=pl.Binary),
                "ingested_at_ms": pl.Series(self._timestamp, dtype=pl.Int64),
                "value": pl.Series(self._value, dtype=pl.Binary),
            }
        )
        return whole.hstack(self._read())

    def _read(self) -> pl.DataFrame:
        parts = [slice(at, at + _READ_AT_ONCE) for at in range(0, max(1, len(self._value)), _READ_AT_ONCE)]
        return pl.concat(
            [self._parse(self._key[part], self._value[part], self._headers[part]) for part in parts], rechunk=True
        )


class PackedChunk(Chunk):
    """Rows of packed batches, those seen before left out; a vector becomes one float32 column per feature."""

    def __init__(self, first: int, marks: OriginMarks, kinds: Sequence[str], keep: Sequence[str]) -> None:
        super().__init__(first, marks)
        self._kinds = kinds
        self._keep = keep
        self._batches: list[tuple[int, Batch]] = []
        self.refused: list[tuple[int, BadMessageError]] = []

    def take(self, records: Sequence[Record], rows_max: int = sys.maxsize, bytes_max: int = sys.maxsize) -> int:
        """See Chunk.take: vectors of other features go to another file."""
        for taken, record in enumerate(records):
            batch = self._unpacked(record)
            if self.is_full(rows_max, bytes_max) or not self._accepts(batch):
                return taken
            self._add(record, batch)
        return len(records)

    def _accepts(self, batch: Batch | BadMessageError) -> bool:
        if isinstance(batch, BadMessageError) or not self._batches or "vector" not in self._keep:
            return True
        return _features_of(batch) == _features_of(self._batches[0][1])

    def _add(self, record: Record, batch: Batch | BadMessageError) -> None:
        self.size_bytes += _size_bytes(record)
        self.next = record.offset + 1
        if isinstance(batch, BadMessageError):
            self.refused.append((record.offset, batch))
            return
        fresh = self.marks.fresh(batch)
        if fresh.rows:
            self._batches.append((record.offset, fresh))
            self.rows += fresh.rows
            self.feature_hash = batch.meta.get("feature_hash") if "vector" in self._keep else None

    def _unpacked(self, record: Record) -> Batch | BadMessageError:
        try:
            return packed.unpack(record.value, self._kinds)
        except BadMessageError as error:
            return error

    def frame(self) -> pl.DataFrame:
        """One row per packed row."""
        batches = [batch for _, batch in self._batches]
        columns = {"log_offset": self._repeated([offset for offset, _ in self._batches], pl.Int64)}
        if len(self._kinds) > 1:
            columns["origin_topic"] = self._repeated([batch.origin_topic for batch in batches], pl.String)
        for name in self._keep:
            columns |= self._vector_columns() if name == "vector" else {name: self._column(name)}
        if any(META in batch.meta for batch in batches):  # a column of its own only while somebody breaks it
            under = [in_words(batch.meta.get(META, ())) or None for batch in batches]
            columns[META] = self._repeated(under, pl.String)
        if "score" in self._keep:
            versions = [batch.meta.get("model_version") for batch in batches]
            columns["model_version"] = self._repeated(versions, pl.String)
        return pl.DataFrame(columns)

    def _repeated(self, told: Sequence[Any], dtype: Any) -> pl.Series:
        """What each batch says, in each of its rows."""
        rows = np.repeat(np.arange(len(told)), [batch.rows for _, batch in self._batches])
        return pl.Series(told, dtype=dtype).gather(rows)

    def _column(self, name: str) -> pl.Series:
        """A column of all batches; null where a batch's kind does not have it."""
        specs = [spec for kind in self._kinds if (spec := packed.COLUMNS[kind].get(name)) is not None]
        dtype, has = _POLARS[specs[0]], [name in batch.columns for _, batch in self._batches]
        told = [batch.columns[name] for _, batch in self._batches if name in batch.columns]
        if specs[0] == packed.TEXT:
            column = pl.Series(list(chain.from_iterable(told)), dtype=dtype)
        else:
            column = pl.Series(_concatenated(told, np.dtype(specs[0]).type), dtype=dtype)
        return column if all(has) else self._spread(column, np.array(has, np.bool_))

    def _spread(self, column: pl.Series, has: npt.NDArray[np.bool_]) -> pl.Series:
        """The column with nulls in the rows of batches that do not have it."""
        is_there = np.repeat(has, [batch.rows for _, batch in self._batches])
        place = pl.Series(np.cumsum(is_there) - 1).set(pl.Series(~is_there), None)
        return column.gather(place)

    def _vector_columns(self) -> dict[str, pl.Series]:
        vectors = [batch.array("vector") for _, batch in self._batches]
        names = _feature_names(self._batches[0][1]) if vectors else NAMES
        by_feature = np.concatenate(vectors).T if vectors else np.empty((len(names), 0), np.float32)
        return {name: pl.Series(np.ascontiguousarray(column)) for name, column in zip(names, by_feature, strict=True)}


def _concatenated(parts: Sequence[Any], dtype: type[np.generic]) -> packed.Array:
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


def _parse_dead_letter(told: Headers) -> _DeadLetterRow:
    headers = {name: value.decode(errors="replace") for name, value in told}
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


def _columns(outcomes: Sequence[Any], schema: Mapping[str, Any]) -> pl.DataFrame:
    """The fields of what was read of each record, null where it is refused, and `refused`: why, null where nothing is wrong."""
    refused = [str(each.reason) if isinstance(each, BadMessageError) else None for each in outcomes]
    read = [each if why is None else None for each, why in zip(outcomes, refused, strict=True)]
    series = {
        name: pl.Series([None if each is None else getattr(each, name) for each in read], dtype=dtype)
        for name, dtype in schema.items()
    }
    return pl.DataFrame({**series, "refused": pl.Series(refused, dtype=pl.String)})


def _each(schema: Mapping[str, Any], parse: Callable[[bytes | None, bytes | None, Headers], Any]) -> Parse:
    """Columns of topics that say little: one message after the other. parse(key, value, headers): raises BadMessageError."""

    def columns(keys: Values, values: Values, headers: Sequence[Headers]) -> pl.DataFrame:
        outcomes: list[Any] = []
        for record in zip(keys, values, headers, strict=True):
            try:
                outcomes.append(parse(*record))
            except BadMessageError as error:
                outcomes.append(error)
        return _columns(outcomes, schema)

    return columns


_RAW: Final[Mapping[str, Parse]] = {
    topics.TRANSACTIONS.name: lambda keys, values, _: _columns(parse_transactions(keys, values), _TRANSACTIONS_SCHEMA),
    topics.LABELS.name: _each(_LABELS_SCHEMA, lambda key, value, _: parse_label(value, key)),
    topics.ALERTS.name: _each(_ALERTS_SCHEMA, lambda _key, value, _: parse_alert(value)),
    topics.DISPOSITIONS.name: _each(_DISPOSITIONS_SCHEMA, lambda _key, value, _: parse_disposition(value)),
}
_DEAD_LETTERS: Final = _each(_DEAD_LETTERS_SCHEMA, lambda _key, _value, headers: _parse_dead_letter(headers))


def chunk_for(topic: str, first: int, marks: OriginMarks) -> Chunk:
    """An empty chunk for a topic, beginning at offset `first`."""
    if topic in _PACKED:
        return PackedChunk(first, marks, *_PACKED[topic])
    return RawChunk(first, marks, _RAW.get(topic, _DEAD_LETTERS))
