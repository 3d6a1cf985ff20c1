"""Fetched records as aiokafka's C parser makes them, for readers of a topic with a record for each transaction.

Rule 1. aiokafka copies each record into a frozen dataclass, in Python: a fetch of transactions costs 2.0 us a record, without the copy
        0.7. What the parser makes has offset, timestamp, timestamp_type, key, value and headers, but neither topic nor
        partition: those are the fetch's.
Rule 2. The overridden methods are private to aiokafka 0.14.0, hence the exact pin; a unit test compares both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher


class _ParsedRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    def __iter__(self) -> Iterator[Any]:
        iterator: Iterator[Any] = self._records_iterator
        return iterator

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        return record


def use_parsed_records() -> None:
    """From now on, every aiokafka consumer of this process returns them."""
    fetcher.PartitionRecords = _ParsedRecords
