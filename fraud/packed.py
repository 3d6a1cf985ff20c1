"""Packed batches: the value of a record on an internal topic, many rows in columns behind a small header.

Rule 1. A batch describes itself: kind, schema version, feature hash and columns stand in its header.
Rule 2. Every row carries its origin: the partition and offset of the public record that it came from. Rows of one origin
        partition ascend, also from batch to batch; a reader drops what is at or below the last origin it has seen
        (OriginMarks), so a batch that was written again after a crash changes nothing.
Rule 3. Decoding copies nothing but text: columns are views into the record's bytes.

    "FSP1" | uint32 header length | JSON header, padded to 8 bytes | column | column | ...     each column padded to 8 bytes
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from fraud.dead_letters import BadMessageError, Reason

Array = npt.NDArray[Any]
Column = Array | list[str]

MAGIC: Final = b"FSP1"
ROWS_MAX: Final = (
    400  # of at most ~625 bytes (96 features, three ids of 64 characters): 250 KB, far below a producer batch
)
TEXT: Final = "text"

_TRANSACTION: Final = {
    "origin_partition": "<i4",
    "origin_offset": "<i8",
    "transaction_id": TEXT,
    "card_id": TEXT,
    "terminal_id": TEXT,
    "amount_minor": "<i8",
    "occurred_at_ms": "<i8",
    "ingested_at_ms": "<i8",
}
# Kinds and their columns. `vector` is float32 [rows, features]; text columns hold ids, which never contain a newline.
CARD_VECTORS: Final = "card-vectors"
LABELS: Final = "labels"
VECTORS: Final = "vectors"
SCORES: Final = "scores"
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    # is_striking: 1 where the amount explains a fraud by itself (fraud.fold.is_striking): what a terminal must know of a card
    CARD_VECTORS: {**_TRANSACTION, "transaction_hash": "<u8", "vector": "<f4", "is_striking": "|u1"},
    LABELS: {
        "origin_partition": "<i4",
        "origin_offset": "<i8",
        "transaction_id": TEXT,
        "transaction_hash": "<u8",
        "terminal_id": TEXT,
        "occurred_at_ms": "<i8",
        "known_at_ms": "<i8",
        "is_fraud": "|u1",
    },
    VECTORS: {**_TRANSACTION, "vector": "<f4"},
    # score: of the deciding model or rules, in [0, 1]; rules_score: of the rules; decision: index into fraud.decision.DECISIONS;
    # explored: 1 for what would have been declined and was let through; challenger_score: of the version that scores in
    # shadow (meta challenger_version), NaN when there is none; batch_score, batch_decision: of the batch path (meta
    # batch_version, and snapshot_date: ISO date of the snapshot's midnight, null when none was used), NaN without that path
    SCORES: {
        **_TRANSACTION,
        "score": "<f4",
        "rules_score": "<f4",
        "decision": "|u1",
        "explored": "|u1",
        "challenger_score": "<f4",
        "batch_score": "<f4",
        "batch_decision": "|u1",
    },
}
# Columns that came later, and what a record without them means: a log outlives the release that wrote it.
_ADDED: Final[Mapping[str, Mapping[str, float]]] = {
    CARD_VECTORS: {"is_striking": 0},
    SCORES: {"challenger_score": float("nan"), "batch_score": float("nan"), "batch_decision": 0},
}
_UNREADABLE: Final = (
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    RecursionError,
    msgspec.MsgspecError,
)
_ORIGIN_TOPIC: Final = {CARD_VECTORS: "transactions", LABELS: "labels", VECTORS: "transactions", SCORES: "transactions"}


@dataclass(frozen=True, slots=True)
class Batch:
    """A decoded batch: `columns` by name, `meta` what its writer said of it (feature_hash, stage_at_ms, model_version ...)."""

    kind: str
    rows: int
    columns: Mapping[str, Column]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def array(self, name: str) -> Array:
        """A numeric column, shape [rows] or [rows, width]."""
        column = self.columns[name]
        assert isinstance(column, np.ndarray), name
        return column

    def text(self, name: str) -> list[str]:
        """A text column."""
        column = self.columns[name]
        assert isinstance(column, list), name
        return column

    @property
    def origin_topic(self) -> str:
        """The public topic that `origin_partition` and `origin_offset` speak of."""
        return _ORIGIN_TOPIC[self.kind]

    def take(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Batch:
        """The rows of a mask, or at indices."""
        index = np.flatnonzero(keep) if keep.dtype == np.bool_ else keep
        rows = index.tolist()
        columns: dict[str, Column] = {
            name: [c[i] for i in rows] if isinstance(c, list) else c[index] for name, c in self.columns.items()
        }
        return Batch(self.kind, len(rows), columns, self.meta)


def pack(kind: str, columns: Mapping[str, Column], meta: Mapping[str, Any]) -> bytes:
    """Encode the columns of `kind` (all of one length) as one record value. Columns that came later may be left out.

    Raises KeyError for another missing column and ValueError for columns of unequal length.
    """
    specs: list[list[Any]] = []
    payload: list[bytes] = []
    rows = -1
    for name, dtype in COLUMNS[kind].items():
        column = columns[name] if name in columns else _absent(kind, name, max(rows, 0))
        if rows not in (-1, len(column)):
            raise ValueError(f"column {name} has {len(column)} rows, the others {rows}")
        rows = len(column)
        if dtype == TEXT:
            data, width = "\n".join(column).encode(), 1
        else:
            array = np.ascontiguousarray(column, dtype=dtype)
            data, width = array.tobytes(), (array.shape[1] if array.ndim == 2 else 0)
        specs.append([name, dtype, len(data), width])
        payload += (data, bytes(-len(data) % 8))
    header = msgspec.json.encode({"v": 1, "kind": kind, "rows": rows, "columns": specs, "meta": dict(meta)})
    header += b" " * (-len(header) % 8)
    return b"".join([MAGIC, struct.pack("<I", len(header)), header, *payload])


def unpack(raw: bytes | None, kinds: Sequence[str]) -> Batch:
    """Decode one record value of one of `kinds`. Raises BadMessageError(PACKED_INVALID) for anything else."""
    try:
        if raw is None or raw[:4] != MAGIC:
            raise ValueError("no packed batch")
        (header_bytes,) = struct.unpack_from("<I", raw, 4)
        header = msgspec.json.decode(raw[8 : 8 + header_bytes])
        if header["v"] != 1 or header["kind"] not in kinds:
            raise ValueError(f"version {header['v']}, kind {header['kind']}, expected {'/'.join(kinds)}")
        if not isinstance(header["meta"], dict):
            raise ValueError("meta is no object")
        columns = _columns(raw, 8 + header_bytes, header)
    except _UNREADABLE as error:
        raise BadMessageError(Reason.PACKED_INVALID, str(error)[:200]) from error
    return Batch(header["kind"], header["rows"], columns, header["meta"])


class _Header(msgspec.Struct):
    """What `peek` needs of a header."""

    v: int
    kind: str
    rows: int
    columns: list[tuple[str, str, int, int]]


_decode_header = msgspec.json.Decoder(_Header).decode


def peek(raw: bytes | None, kind: str, name: str) -> Array:
    """One numeric column of shape [rows] of a record value, at a tenth of what `unpack` costs.

    For a reader that needs few records whole. Raises BadMessageError(PACKED_INVALID) where the column cannot be found.
    """
    try:
        if raw is None or raw[:4] != MAGIC:
            raise ValueError("no packed batch")
        (header_bytes,) = struct.unpack_from("<I", raw, 4)
        header = _decode_header(raw[8 : 8 + header_bytes])
        if header.v != 1 or header.kind != kind:
            raise ValueError(f"version {header.v}, kind {header.kind}, expected {kind}")
        at = 8 + header_bytes
        for each, dtype, size, width in header.columns:
            if each == name:
                if dtype != COLUMNS[kind][name] or width:
                    raise ValueError(f"column {name} has type {dtype} and width {width}")
                column = np.frombuffer(raw[at : at + size], dtype)
                if len(column) != header.rows:
                    raise ValueError(f"column {name} has {len(column)} rows, the header says {header.rows}")
                return column
            at += size + -size % 8
        raise ValueError(f"there is no column {name}")
    except _UNREADABLE as error:
        raise BadMessageError(Reason.PACKED_INVALID, str(error)[:200]) from error


def _columns(raw: bytes, at: int, header: Mapping[str, Any]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    rows = header["rows"]
    for name, dtype, size, width in header["columns"]:
        if dtype != COLUMNS[header["kind"]][name]:
            raise ValueError(f"column {name} has type {dtype}")
        if not 0 <= size <= len(raw) - at:
            raise ValueError(f"column {name} is cut off")
        column: Column
        if dtype == TEXT:
            column = raw[at : at + size].decode().split("\n") if rows else []
        else:
            column = np.frombuffer(raw, np.dtype(dtype), size // np.dtype(dtype).itemsize, at)
            if width:
                column = column.reshape(-1, width)
        if len(column) != rows:
            raise ValueError(f"column {name} has {len(column)} rows, the header says {rows}")
        columns[name] = column
        at += size + -size % 8
    for name in _ADDED.get(header["kind"], ()):
        if name not in columns:
            columns[name] = _absent(header["kind"], name, rows)
    if columns.keys() != COLUMNS[header["kind"]].keys():
        raise ValueError(f"columns {sorted(columns)} are not those of {header['kind']}")
    return columns


def _absent(kind: str, name: str, rows: int) -> Array:
    """A column that the writer does not know. Raises KeyError for one that every writer knows."""
    return np.full(rows, _ADDED.get(kind, {})[name], COLUMNS[kind][name])


class OriginMarks:
    """The last origin offset seen of each origin (topic, partition): what a reader needs to drop repeated rows."""

    def __init__(self, marks: Mapping[tuple[str, int], int] | None = None) -> None:
        self.marks: dict[tuple[str, int], int] = dict(marks or {})

    def fresh(self, batch: Batch) -> Batch:
        """The rows of `batch` that were not seen before; the marks move past them."""
        partitions, offsets = batch.array("origin_partition"), batch.array("origin_offset")
        keep = np.zeros(batch.rows, np.bool_)
        for partition in np.unique(partitions).tolist():
            source = (batch.origin_topic, partition)
            mine = (partitions == partition) & (offsets > self.marks.get(source, -1))
            if mine.any():
                self.marks[source] = int(offsets[mine].max())
                keep |= mine
        return batch if keep.all() else batch.take(keep)
