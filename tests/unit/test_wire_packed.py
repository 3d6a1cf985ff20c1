"""Packed batches: what is written is read, and nothing that is not a batch gets through.

Rule 1. Any bytes give a batch or BadMessageError(PACKED_INVALID), never another exception.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.kafka import WRITE_BATCH_BYTES
from fraud import packed, topics
from fraud.dead_letters import BadMessageError, Reason
from fraud.features import FEATURE_HASH, NAMES
from fraud.packed import LABELS, VECTORS, OriginMarks, pack, peek, unpack


def columns(first_offset: int = 0, rows: int = 3, partition: int = 0) -> dict[str, Any]:
    return {
        "origin_partition": np.full(rows, partition),
        "origin_offset": np.arange(first_offset, first_offset + rows),
        "transaction_id": [f"tx-{i}" for i in range(rows)],
        "card_id": ["c1"] * rows,
        "terminal_id": ["t1"] * rows,
        "amount_minor": np.full(rows, 500),
        "occurred_at_ms": np.arange(rows),
        "ingested_at_ms": np.arange(rows),
        "vector": np.arange(rows * 4, dtype=np.float32).reshape(rows, 4),
    }


RAW = pack(VECTORS, columns(), {"feature_hash": "abc"})
(HEADER_BYTES,) = struct.unpack_from("<I", RAW, 4)
HEADER = json.loads(RAW[8 : 8 + HEADER_BYTES])


def with_header(**fields: Any) -> bytes:
    header = json.dumps({**HEADER, **fields}).encode()
    header += b" " * (-len(header) % 8)
    return packed.MAGIC + struct.pack("<I", len(header)) + header + RAW[8 + HEADER_BYTES :]


def with_column(index: int, *spec: Any) -> bytes:
    specs = [list(spec) if i == index else column for i, column in enumerate(HEADER["columns"])]
    return with_header(columns=specs)


@pytest.mark.parametrize("rows", [0, 1, 500])
def test_a_batch_survives_packing(rows: int) -> None:
    batch = unpack(pack(VECTORS, columns(rows=rows), {"feature_hash": "abc"}), [VECTORS])
    assert (batch.kind, batch.rows, batch.meta) == (VECTORS, rows, {"feature_hash": "abc"})
    for name, column in columns(rows=rows).items():
        assert np.array_equal(batch.columns[name], column)


@pytest.mark.parametrize("kind", [packed.CARD_VECTORS, VECTORS])
def test_the_largest_record_fits_in_a_producers_batch(kind: str) -> None:
    rows, longest = packed.ROWS_MAX, "x" * 64
    largest = {
        **columns(rows=rows),
        **{name: [longest] * rows for name in ("transaction_id", "card_id", "terminal_id")},
        "transaction_hash": np.zeros(rows, np.uint64),
        "vector": np.zeros((rows, len(NAMES)), np.float32),
    }
    record = pack(kind, largest, {"feature_hash": FEATURE_HASH, "stage_at_ms": 2**42})
    assert len(record) < WRITE_BATCH_BYTES - 1024


def test_every_topic_takes_a_producers_batch() -> None:
    assert min(topic.max_message_bytes for topic in topics.ALL) > WRITE_BATCH_BYTES + 1024


def test_card_vectors_of_a_release_without_striking_amounts_have_none() -> None:
    told = {**columns(), "transaction_hash": np.arange(3, dtype=np.uint64)}
    batch = unpack(
        pack(packed.CARD_VECTORS, {**told, "is_striking": np.array([0, 1, 0], np.uint8)}, {}), [packed.CARD_VECTORS]
    )
    assert batch.array("is_striking").tolist() == [0, 1, 0]
    known = dict(packed.COLUMNS[packed.CARD_VECTORS])
    del known["is_striking"]
    with pytest.MonkeyPatch.context() as before:
        before.setattr(packed, "COLUMNS", {**packed.COLUMNS, packed.CARD_VECTORS: known})
        old = pack(packed.CARD_VECTORS, told, {})
    assert unpack(old, [packed.CARD_VECTORS]).array("is_striking").tolist() == [0, 0, 0]


def test_columns_of_unequal_length_are_not_packed() -> None:
    with pytest.raises(ValueError, match="card_id"):
        pack(VECTORS, {**columns(), "card_id": ["c1"]}, {})


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"{}",
        RAW[:-9],
        RAW[:20],
        packed.MAGIC + struct.pack("<I", 2**32 - 1) + RAW[8:],
        packed.MAGIC + struct.pack("<I", 16) + b"[" * 16,
        with_header(v=2),
        with_header(kind=LABELS),
        with_header(kind=["vectors"]),
        with_header(rows=4),
        with_header(rows=None),
        with_header(columns=HEADER["columns"][:-1]),
        with_header(columns=[*HEADER["columns"], ["extra", "<i8", 0, 0]]),
        with_header(columns=5),
        with_column(0, "origin_partition", "<i8", 12, 0),
        with_column(0, "origin_partition", "V0", 12, 0),
        with_column(0, "origin_partition", "<i4", -12, 0),
        with_column(0, "origin_partition", "<i4", 10**40, 0),
        with_column(0, "origin_partition", "<i4", 12, 10**40),
        with_column(0, ["origin_partition"], "<i4", 12, 0),
        with_column(2, "transaction_id", "text", 3, 1),
    ],
)
def test_what_is_not_a_batch_of_the_kind_is_refused(raw: bytes | None) -> None:
    with pytest.raises(BadMessageError) as refused:
        unpack(raw, [VECTORS])
    assert refused.value.reason == Reason.PACKED_INVALID


@settings(deadline=None)
@given(st.integers(0, len(RAW)), st.binary(max_size=12), st.integers(0, 12))
def test_no_damage_makes_unpack_raise_anything_else(at: int, noise: bytes, cut: int) -> None:
    try:
        unpack(RAW[:at] + noise + RAW[at + cut :], [VECTORS, LABELS])
    except BadMessageError as error:
        assert error.reason == Reason.PACKED_INVALID


@pytest.mark.parametrize("name", ["origin_partition", "origin_offset", "amount_minor"])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_a_peek_at_a_column_gives_what_unpack_gives(name: str, rows: int) -> None:
    raw = pack(VECTORS, columns(7, rows=rows), {"feature_hash": "abc"})
    assert np.array_equal(peek(raw, VECTORS, name), unpack(raw, [VECTORS]).array(name))


@pytest.mark.parametrize("name", ["no_such", "card_id", "vector"])
def test_a_peek_is_at_a_column_of_numbers_that_there_is(name: str) -> None:
    with pytest.raises(BadMessageError, match=name):
        peek(RAW, VECTORS, name)
    with pytest.raises(BadMessageError, match="expected labels"):
        peek(RAW, LABELS, "origin_offset")


@settings(deadline=None)
@given(st.integers(0, len(RAW)), st.binary(max_size=12), st.integers(0, 12))
def test_no_damage_makes_a_peek_raise_anything_else(at: int, noise: bytes, cut: int) -> None:
    try:
        assert len(peek(RAW[:at] + noise + RAW[at + cut :], VECTORS, "origin_offset")) >= 0
    except BadMessageError as error:
        assert error.reason == Reason.PACKED_INVALID


def test_rows_that_were_written_again_after_a_crash_are_dropped_once() -> None:
    marks = OriginMarks()
    first = unpack(pack(VECTORS, columns(10, rows=3), {}), [VECTORS])
    again = unpack(pack(VECTORS, columns(11, rows=4), {}), [VECTORS])
    other = unpack(pack(VECTORS, columns(0, rows=2, partition=1), {}), [VECTORS])
    assert marks.fresh(first).array("origin_offset").tolist() == [10, 11, 12]
    assert marks.fresh(again).array("origin_offset").tolist() == [13, 14]
    assert marks.fresh(other).array("origin_offset").tolist() == [0, 1]
    assert marks.fresh(other).rows == 0
    assert marks.marks == {("transactions", 0): 14, ("transactions", 1): 1}


def test_scores_of_a_release_before_challengers_are_read_and_say_that_nobody_scored_beside() -> None:
    rows = 3
    before = {
        **{name: column for name, column in columns(rows=rows).items() if name != "vector"},
        "score": np.full(rows, 0.5),
        "rules_score": np.zeros(rows),
        "decision": np.zeros(rows),
        "explored": np.zeros(rows),
    }
    raw = pack(packed.SCORES, before, {})
    (size,) = struct.unpack_from("<I", raw, 4)
    header = json.loads(raw[8 : 8 + size])
    header["columns"] = [spec for spec in header["columns"] if spec[0] in before]  # the added ones stand last
    old = json.dumps(header).encode()
    old += b" " * (-len(old) % 8)
    batch = unpack(packed.MAGIC + struct.pack("<I", len(old)) + old + raw[8 + size :], [packed.SCORES])
    assert np.isnan(batch.array("challenger_score")).all()
    assert batch.array("score").tolist() == [0.5] * rows
    assert set(batch.columns) == set(packed.COLUMNS[packed.SCORES])
    with pytest.raises(KeyError):
        pack(packed.SCORES, {name: column for name, column in before.items() if name != "score"}, {})
