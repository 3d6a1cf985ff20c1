"""Messages from columns: the JSON of many transactions or labels at once.

Rule 1. The bytes are those of Transaction.to_json() and Label.to_json(); a test compares them.
Rule 2. Ids were checked (producer.transaction_file), so none needs an escape in JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any, Final

import polars as pl

from adapters.kafka import Headers, Record, partition_for
from fraud import labels, transaction
from fraud.truth import Truth

_NO_HEADERS: Final[Headers] = []
_TRANSACTION_JSON: Final = (
    '{{"transaction_id":"{}","card_id":"{}","terminal_id":"{}","amount_minor":{},"currency":"'
    + transaction.LEDGER_CURRENCY
    + '","occurred_at_ms":{},"sent_at_ms":{},"schema_version":'
    + f"{transaction.BARE_VERSION}"
    "}}"
)
_PLACED_JSON: Final = (
    '{{"transaction_id":"{}","card_id":"{}","terminal_id":"{}","amount_minor":{},"currency":"'
    + transaction.LEDGER_CURRENCY
    + '","occurred_at_ms":{},"sent_at_ms":{},"schema_version":'
    + f"{transaction.PLACED_VERSION}"
    + ',"merchant_id":"{}","mcc":"{}","country":"{}","channel":"{}","device_id":{},"latitude_cdeg":{},"longitude_cdeg":{}}}'
)
_LABEL_JSON: Final = (
    '{{"transaction_id":"{}","card_id":"{}","terminal_id":"{}","occurred_at_ms":{},"is_fraud":{},"known_at_ms":{},'
    '"source":"benchmark","sent_at_ms":{},"schema_version":' + f"{labels.SCHEMA_VERSION}"
    "}}"
)


def transaction_values(rows: pl.DataFrame) -> list[bytes]:
    """The messages of transactions, sent at their clock_ms."""
    columns = ("transaction_id", "card_id", "terminal_id", "amount_minor", "occurred_at_ms", "clock_ms")
    return _formatted(rows, _TRANSACTION_JSON, columns)


def placed_transaction_values(rows: pl.DataFrame) -> list[bytes]:
    """The messages of a world's transactions, sent at their clock_ms: of version 2, or 1 where there is no merchant."""
    quoted = pl.when(pl.col("device_id").is_null()).then(pl.lit("null")).otherwise(pl.format('"{}"', "device_id"))
    numbers = [pl.col(name).cast(pl.String).fill_null("null") for name in ("latitude_cdeg", "longitude_cdeg")]
    columns = ("transaction_id", "card_id", "terminal_id", "amount_minor", "occurred_at_ms", "clock_ms")
    places = ("merchant_id", "mcc", "country", "channel")
    placed = pl.format(_PLACED_JSON, *columns, *places, quoted, *numbers)
    message = pl.when(pl.col("merchant_id").is_null()).then(pl.format(_TRANSACTION_JSON, *columns)).otherwise(placed)
    values: list[bytes] = rows.select(message.cast(pl.Binary)).to_series().to_list()
    return values


def truth_records(rows: pl.DataFrame, run_id: str | None) -> list[Record]:
    """The truth about the frauds among a plan's rows."""
    frauds = rows.filter((pl.col("scenario") != "") & ~pl.col("is_copy"))
    columns = frauds.select("transaction_id", "card_id", "occurred_at_ms", "scenario")
    return [
        (None, Truth(transaction_id, card_id, at_ms, scenario, run_id).to_json(), _NO_HEADERS)
        for transaction_id, card_id, at_ms, scenario in columns.iter_rows()
    ]


def label_values(rows: pl.DataFrame) -> list[bytes]:
    """The messages of labels, sent at their due_ms."""
    columns = ("transaction_id", "card_id", "terminal_id", "occurred_at_ms", "is_fraud", "known_at_ms", "due_ms")
    return _formatted(rows, _LABEL_JSON, columns)


def partitions_of(ids: pl.Series, partitions: int) -> pl.Series:
    """The partition of each card's or terminal's messages."""
    if partitions == 1:
        return pl.repeat(0, len(ids), dtype=pl.Int32, eager=True)
    distinct = ids.unique()
    numbers = [partition_for(entity_id, partitions) for entity_id in distinct]
    return ids.replace_strict(distinct, pl.Series(numbers, dtype=pl.Int32), return_dtype=pl.Int32)


def transaction_writes(rows: pl.DataFrame, partitions: int) -> Iterator[tuple[int, list[Record]]]:
    """Records of the transactions, by partition."""
    return _writes(rows, "card_id", transaction_values(rows), partitions)


def placed_transaction_writes(rows: pl.DataFrame, partitions: int) -> Iterator[tuple[int, list[Record]]]:
    """Records of a world's transactions, by partition."""
    return _writes(rows, "card_id", placed_transaction_values(rows), partitions)


def label_writes(rows: pl.DataFrame, partitions: int) -> Iterator[tuple[int, list[Record]]]:
    """Records of the labels, by partition."""
    return _writes(rows, "terminal_id", label_values(rows), partitions)


def _writes(rows: pl.DataFrame, key: str, values: list[bytes], partitions: int) -> Iterator[tuple[int, list[Record]]]:
    keys: list[bytes] = rows[key].cast(pl.Binary).to_list()
    records: list[Record] = list(zip(keys, values, repeat(_NO_HEADERS)))
    if partitions == 1:
        yield 0, records
        return
    of_row = partitions_of(rows[key], partitions)
    for partition in range(partitions):
        mine = (of_row == partition).arg_true().to_list()
        if mine:
            yield partition, [records[i] for i in mine]


def _formatted(rows: pl.DataFrame, template: str, columns: tuple[str, ...]) -> list[bytes]:
    values: list[Any] = rows.select(pl.format(template, *columns).cast(pl.Binary)).to_series().to_list()
    return values
