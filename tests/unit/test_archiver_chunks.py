"""Chunks: many records at once have the outcome that each of them has alone.

Rule 1. What a record of `transactions` is, is told by parse_transaction alone; the columns must not know better.
"""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from fraud import packed, topics
from fraud.dead_letters import BadMessageError
from fraud.features import FEATURE_HASH, NAMES
from fraud.packed import OriginMarks
from fraud.transaction import FIELDS, parse_transaction
from trainer.chunk import LogRecord, chunk_for

BARE = {
    "transaction_id": "t1", "card_id": "c1", "terminal_id": "m1", "amount_minor": 100, "currency": "EUR",
    "occurred_at_ms": 1_522_540_800_000, "sent_at_ms": 1_522_540_800_000, "schema_version": 1,
}  # fmt: skip
PLACED = {
    **BARE, "schema_version": 2, "merchant_id": "s1", "mcc": "5411", "country": "DE", "channel": "online", "device_id": None,
    "latitude_cdeg": 5477, "longitude_cdeg": 837,
}  # fmt: skip
ODD: tuple[Any, ...] = (
    None, "", "x" * 64, "x" * 65, "a b", "a\n", "t\u00e9", '"', -1, 0, 1, 1.0, True, 10**12, 10**12 + 1, 2**63, 10**25, "5411",
    "5411\n",
    "DE", "de", "EUR", "USD", 9000, -9001, 18_000, 18_001, 946_684_799_999, 946_684_800_000, 4_102_444_799_999, 4_102_444_800_000,
    1_522_540_800_000 + 300_000, 1_522_540_800_000 + 300_001, 2, 3, [], {},
)  # fmt: skip
Pair = tuple[bytes | None, bytes | None]


def keyed(value: dict[str, Any]) -> Pair:
    return str(value.get("card_id")).encode(), json.dumps(value).encode()


def nasty() -> list[Pair]:
    """Each field of each version with each odd value, without it, and what is no message of ours."""
    found: list[Pair] = [keyed(BARE), keyed(PLACED), keyed({**PLACED, "device_id": "d1"}), keyed({**BARE, "more": 1})]
    for whole in (BARE, PLACED, {**PLACED, "schema_version": 1}):
        found += [keyed({**whole, name: odd}) for name in FIELDS for odd in ODD]
        found += [keyed({name: value for name, value in whole.items() if name != gone}) for gone in whole]
    good = json.dumps(PLACED).encode()
    raw = [
        None,
        b"",
        b"{",
        b"[]",
        b"1",
        b"\xff",
        good + good,
        good[:-1] + b',"card_id":"c1"}',
        good[:-1] + b',"new":{"a":1,"a":2}}',
    ]
    found += [(b"c1", value) for value in raw]
    found += [(b"c1", good.replace(b"{", b"{" + b" " * 16_400)), (None, good), (b"", good), (b"c2", good)]
    found += [(b"c1", good.replace(b'"t1"', b'"t\\u0031"')), (b"c1", good.replace(b", ", b","))]
    return found


def alone(key: bytes | None, value: bytes | None) -> dict[str, Any]:
    try:
        parsed = parse_transaction(value, key)
    except BadMessageError as error:
        return {**dict.fromkeys(FIELDS), "refused": str(error.reason)}
    return {**{name: getattr(parsed, name) for name in FIELDS}, "refused": None}


def rows_of(pairs: list[Pair]) -> list[dict[str, Any]]:
    chunk = chunk_for(topics.TRANSACTIONS.name, 0, OriginMarks())
    assert chunk.take([LogRecord(i, key, value, i) for i, (key, value) in enumerate(pairs)]) == len(pairs)
    frame = chunk.frame()
    assert frame["value"].to_list() == [value for _, value in pairs]
    return frame.select(*FIELDS, "refused").to_dicts()


def test_every_message_has_the_outcome_that_it_has_alone() -> None:
    pairs = nasty()
    expected = [alone(*pair) for pair in pairs]
    assert {row["refused"] for row in expected} >= {
        None,
        "NOT_JSON",
        "ID_INVALID",
        "PLACE_INVALID",
        "DUPLICATE_KEY",
        "KEY_MISMATCH",
    }
    assert [rows_of([pair])[0] for pair in pairs] == expected  # alone: no neighbour sends its block the slow way
    random.Random(1).shuffle(pairs)
    assert rows_of(pairs) == [alone(*pair) for pair in pairs]


def test_one_bad_message_among_good_ones_is_refused_and_no_other() -> None:
    pairs = [keyed({**PLACED, "transaction_id": f"t{i}"}) for i in range(5000)]
    pairs[3000] = keyed({**PLACED, "currency": "USD"})
    assert [i for i, row in enumerate(rows_of(pairs)) if row["refused"]] == [3000]
    pairs[4001] = b"c1", b"{"  # nothing can be read of it: the blocks around it are cut
    assert [i for i, row in enumerate(rows_of(pairs)) if row["refused"]] == [3000, 4001]


def test_a_chunk_takes_what_it_has_room_for() -> None:
    records = [LogRecord(i, b"c1", b"x" * 8, i) for i in range(10)]
    by_rows, by_bytes = (chunk_for(topics.TRANSACTIONS.name, 0, OriginMarks()) for _ in range(2))
    assert by_rows.take(records, rows_max=4) == by_rows.next == 4
    assert by_rows.take(records[4:], rows_max=4) == 0
    assert by_bytes.take(records, bytes_max=25) == by_bytes.next == 3  # the third one fills it
    assert by_bytes.is_full(10, 25)
    assert not by_bytes.is_full(10, 31)


def vectors(first: int, count: int, width: int = len(NAMES), feature_hash: str = FEATURE_HASH) -> bytes:
    offsets = np.arange(first, first + count)
    columns: dict[str, packed.Column] = {
        "origin_partition": np.zeros(count), "origin_offset": offsets, "transaction_id": [f"t{i}" for i in offsets],
        "card_id": ["c1"] * count, "terminal_id": ["m1"] * count, "amount_minor": offsets, "occurred_at_ms": offsets,
        "ingested_at_ms": offsets, "vector": np.full((count, width), first, np.float32),
    }  # fmt: skip
    return packed.pack(packed.VECTORS, columns, {"feature_hash": feature_hash})


def test_vectors_of_other_features_go_to_another_file() -> None:
    records = [
        LogRecord(0, None, vectors(0, 3), 0),
        LogRecord(1, None, b"?", 0),
        LogRecord(2, None, vectors(3, 2, 5, "x"), 0),
    ]
    chunk = chunk_for(topics.FEATURES.name, 0, OriginMarks())
    assert chunk.take(records) == 2
    assert (chunk.rows, chunk.next) == (3, 2)
    other = chunk_for(topics.FEATURES.name, chunk.next, chunk.marks)
    assert other.take(records[2:]) == 1
    assert other.frame()["log_offset"].to_list() == [2, 2]
    assert other.feature_hash == "x"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_column_that_a_kind_does_not_have_is_null_in_its_rows(order: tuple[int, int]) -> None:
    told = packed.pack(
        packed.LABELS,
        {
            "origin_partition": np.zeros(2), "origin_offset": np.arange(2), "transaction_id": ["t0", "t1"],
            "transaction_hash": np.arange(2), "terminal_id": ["m1", "m2"], "occurred_at_ms": np.arange(2),
            "known_at_ms": np.arange(2), "is_fraud": np.array([0, 1]),
        },
        {},
    )  # fmt: skip
    cards = packed.pack(
        packed.CARD_VECTORS,
        {
            "origin_partition": np.zeros(1), "origin_offset": np.zeros(1), "transaction_id": ["t9"], "card_id": ["c1"],
            "terminal_id": ["m3"], "amount_minor": np.array([7]), "occurred_at_ms": np.zeros(1), "ingested_at_ms": np.zeros(1),
            "transaction_hash": np.zeros(1), "vector": np.zeros((1, 4)), "is_striking": np.ones(1),
        },
        {},
    )  # fmt: skip
    chunk = chunk_for(topics.TERMINAL_LOG.name, 0, OriginMarks())
    chunk.take([LogRecord(i, None, (told, cards)[which], 0) for i, which in enumerate(order)])
    frame = chunk.frame().sort("terminal_id")
    assert frame["is_fraud"].to_list() == [0, 1, None]
    assert frame["amount_minor"].to_list() == [None, None, 7]
    assert frame["origin_topic"].to_list() == ["labels", "labels", "transactions"]
    assert frame["log_offset"].to_list() == [order.index(0)] * 2 + [order.index(1)]
