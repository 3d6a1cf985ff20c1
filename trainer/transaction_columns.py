"""The columns of many records of `transactions` at once: what fraud.transaction.parse_transaction finds in each of them.

Rule 1. Each record has the outcome that parse_transaction gives it. A message that all checks pass here passes there; every
        other one is handed to parse_transaction, which says why it is refused.
Rule 2. Checks go over columns: at thousands of messages a second, five regular expressions for each would be most of the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import polars as pl
from msgspec.structs import astuple

from fraud.dead_letters import BadMessageError
from fraud.transaction import (
    AMOUNT_MINOR_MAX,
    BARE_FIELDS,
    BARE_VERSION,
    FIELDS,
    LATITUDE_MAX_CDEG,
    LEDGER_CURRENCY,
    LONGITUDE_MAX_CDEG,
    PLACED_FIELDS,
    PLACED_VERSION,
    Transaction,
    parse_transaction,
)
from fraud.wire import CLOCK_SKEW_MAX_MS, MESSAGE_BYTES_MAX, TIME_MAX_MS, TIME_MIN_MS

_BLOCK_ROWS: Final = 10_000  # a message that cannot be read at all costs so many the slow way
_ID: Final = r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z"  # of fraud.wire, in the words of polars' regular expressions
_QUOTES_BARE: Final = 2 * len(BARE_FIELDS) + 2 * 4
_QUOTES_PLACED: Final = 2 * len(FIELDS) + 2 * 8  # and two more with a device
_decode = msgspec.json.Decoder(Transaction).decode


def transaction_columns(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], schema: Mapping[str, Any]
) -> pl.DataFrame:
    """The fields of `schema` (all of Transaction's, in their order) of each record, null where it is refused, and `refused`: why.

    [records]; `refused` is null where nothing is wrong.
    """
    blocks = [
        _block(keys[at : at + _BLOCK_ROWS], values[at : at + _BLOCK_ROWS], schema)
        for at in range(0, len(values), _BLOCK_ROWS)
    ]
    return pl.concat(blocks) if blocks else pl.DataFrame(schema={**schema, "refused": pl.String})


def _block(keys: Sequence[bytes | None], values: Sequence[bytes | None], schema: Mapping[str, Any]) -> pl.DataFrame:
    whole = {**schema, "refused": pl.String}
    try:
        rows: list[tuple[Any, ...]] = [astuple(_decode(value)) for value in values]  # type: ignore[arg-type]  # None: caught
        columns = zip(schema.items(), zip(*rows, strict=True), strict=True)
        read = pl.DataFrame([pl.Series(name, column, dtype=dtype) for (name, dtype), column in columns])
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
        TypeError,
        OverflowError,
        pl.exceptions.PolarsError,
    ):
        return pl.DataFrame([_parsed(*record) for record in zip(keys, values, strict=True)], schema=whole, orient="row")
    suspect = (~_is_good(read, keys, values)).arg_true().to_list()
    if not suspect:
        return read.with_columns(refused=pl.lit(None, pl.String))
    rows = [(*row, None) for row in rows]
    for row in suspect:
        rows[row] = _parsed(keys[row], values[row])
    return pl.DataFrame(rows, schema=whole, orient="row")


def _parsed(key: bytes | None, value: bytes | None) -> tuple[Any, ...]:
    try:
        return (*astuple(parse_transaction(value, key)), None)
    except BadMessageError as error:
        return (*(None,) * len(FIELDS), str(error.reason))


def _is_good(read: pl.DataFrame, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> pl.Series:
    """Which rows surely pass every check of parse_transaction, [rows]."""
    told = {
        "key": pl.Series(keys, dtype=pl.Binary),
        "quotes": pl.Series([(value or b"").count(b'"') for value in values], dtype=pl.Int64),
        "bytes": pl.Series([len(value or b"") for value in values], dtype=pl.Int64),
    }
    return read.with_columns(**told).select(_GOOD.fill_null(False)).to_series()


def _within(name: str, least: int, most: int) -> pl.Expr:
    return pl.col(name).is_between(least, most)


def _is_id(name: str) -> pl.Expr:
    return pl.col(name).str.contains(_ID)


def _both(name: str, most: int, other: str) -> pl.Expr:
    """A coordinate: within its range beside the other one, or neither."""
    return pl.when(pl.col(name).is_null()).then(pl.col(other).is_null()).otherwise(_within(name, -most, most))


_IS_BARE: Final = (
    (pl.col("schema_version") == BARE_VERSION)
    & (pl.col("quotes") == _QUOTES_BARE)
    & pl.all_horizontal(pl.col(name).is_null() for name in PLACED_FIELDS)
)
_IS_PLACED: Final = (
    (pl.col("schema_version") == PLACED_VERSION)
    & (pl.col("quotes") == _QUOTES_PLACED + 2 * pl.col("device_id").is_not_null().cast(pl.Int64))
    & _is_id("merchant_id")
    & (pl.col("device_id").is_null() | _is_id("device_id"))
    & pl.col("mcc").str.contains(r"\A[0-9]{4}\z")
    & pl.col("country").str.contains(r"\A[A-Z]{2}\z")
    & pl.col("channel").is_not_null()
    & _both("latitude_cdeg", LATITUDE_MAX_CDEG, "longitude_cdeg")
    & _both("longitude_cdeg", LONGITUDE_MAX_CDEG, "latitude_cdeg")
)
_GOOD: Final = (
    (pl.col("bytes") <= MESSAGE_BYTES_MAX)
    & (pl.col("key") == pl.col("card_id").cast(pl.Binary))
    & _is_id("transaction_id")
    & _is_id("card_id")
    & _is_id("terminal_id")
    & _within("amount_minor", 0, AMOUNT_MINOR_MAX)
    & (pl.col("currency") == LEDGER_CURRENCY)
    & _within("occurred_at_ms", TIME_MIN_MS, TIME_MAX_MS - 1)
    & _within("sent_at_ms", TIME_MIN_MS, TIME_MAX_MS - 1)
    & (pl.col("occurred_at_ms") - pl.col("sent_at_ms") <= CLOCK_SKEW_MAX_MS)
    & (_IS_BARE.fill_null(False) | _IS_PLACED.fill_null(False))
)
