"""What aiokafka's parser makes of a fetch says the same as aiokafka's own records, from any offset and in any portions."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from adapters.parsed_records import use_parsed_records

TP = TopicPartition("transactions", 0)
FIELDS = ("offset", "timestamp", "timestamp_type", "key", "value")
POSSIBLE: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = [
    (b"c1", b"one", []),
    (None, b"no key", [("reason", b"why"), ("detail", b"")]),
    (b"c2", None, []),
    (b"", b"", [("topic", b"transactions")]),
]


@pytest.fixture
def theirs() -> Iterator[Any]:
    """aiokafka's own class, which is put back."""
    own = fetcher.PartitionRecords
    yield own
    fetcher.PartitionRecords = own


@pytest.mark.parametrize("begin", [0, 2, 5])
@pytest.mark.parametrize("at_once", [1, 3, 1_000])
def test_the_parsers_records_are_aiokafkas(theirs: Any, begin: int, at_once: int) -> None:
    log = _log()
    wanted = _taken(theirs, log, begin, at_once)
    use_parsed_records()
    got = _taken(fetcher.PartitionRecords, log, begin, at_once)
    assert [record.offset for record in wanted] == list(range(begin, 12))
    for one, other in zip(got, wanted, strict=True):
        assert [getattr(one, name) for name in FIELDS] == [getattr(other, name) for name in FIELDS]
        assert tuple(one.headers) == other.headers


def test_the_copy_is_what_is_left_out(theirs: Any) -> None:
    use_parsed_records()
    (record, *_) = _taken(fetcher.PartitionRecords, _log(), 0, 100)
    assert not hasattr(record, "topic")
    assert hasattr(_taken(theirs, _log(), 0, 100)[0], "topic")


def test_a_broken_batch_is_still_refused(theirs: Any) -> None:
    use_parsed_records()
    log = bytearray(_log())
    log[-1] ^= 1
    with pytest.raises(Exception, match="Invalid CRC"):
        _taken(fetcher.PartitionRecords, bytes(log), 0, 100)


def _log() -> bytes:
    """Two batches of six records."""
    batches = []
    for first in (0, 6):
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 100_000)
        for i in range(6):
            key, value, headers = POSSIBLE[(first + i) % len(POSSIBLE)]
            builder.append(i, 1_700_000_000_000 + first + i, key, value, headers)
        batch = builder.build()
        batch[:8] = first.to_bytes(8)  # the broker sets the base offset; it is not under the checksum
        batches.append(bytes(batch))
    return b"".join(batches)


def _taken(records: Any, log: bytes, begin: int, at_once: int) -> list[Any]:
    """As a consumer takes them: portions of at most `at_once`, until nothing is left; its position must follow."""
    state = SimpleNamespace(position=begin)
    state.consumed_to = lambda offset: setattr(state, "position", offset)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    state.has_valid_position, state.paused, state.assignment = True, False, assignment
    parsed = records(TP, MemoryRecords(log), [], begin, None, None, True, fetcher.READ_UNCOMMITTED)
    fetched = fetcher.FetchResult(TP, assignment=assignment, partition_records=parsed, backoff=0)
    taken: list[Any] = []
    while fetched.has_more():
        portion = fetched.getall(at_once)
        assert len(portion) <= at_once
        taken += portion
        assert state.position == (taken[-1].offset + 1 if taken else begin)
    return taken
