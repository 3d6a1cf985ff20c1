"""Parquet files of transactions: read in slices, checked before anything is sent.

Rule 1. The file's row order is the arrival order.
Rule 2. What the stream would refuse in a message is refused here, by row (the first is 1) and column, before any row
        is sent.
Rule 3. Two forms are read: this project's columns, and the Handbook's. In both, slices have the columns of SLICE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from fraud.transaction import AMOUNT_MINOR_MAX
from fraud.windows import DAY_MS
from fraud.wire import ID_PATTERN, TIME_MAX_MS, TIME_MIN_MS

OWN: Final = ("transaction_id", "card_id", "terminal_id", "amount_minor", "occurred_at_ms")
OWN_LABELS: Final = ("label_is_fraud", "label_known_at_ms")
OWN_TRUTH: Final = "is_fraud"
HANDBOOK: Final = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT")
HANDBOOK_TRUTH: Final = "TX_FRAUD"
SLICE: Final = (*OWN, "row", "is_fraud", "known_at_ms")
LABEL_DELAY_MS: Final = 7 * DAY_MS
_SLICE_ROWS: Final = 50_000
_ID: Final = ID_PATTERN.replace(r"\Z", r"\z")
_IDS: Final = frozenset({"transaction_id", "card_id", "terminal_id", "TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID"})
_CENT_TOLERANCE: Final = 1e-4  # of a cent: far above a double's error below 10^10 cents, far below a real third decimal


class BadFileError(ValueError):
    """The file cannot be streamed; the message names row and column and what is expected."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What of a file is streamed: its first `rows` rows; they happen from begin_ms to end_ms."""

    rows: int
    begin_ms: int
    end_ms: int

    @property
    def rows_per_event_second(self) -> float:
        """Mean rate in event time."""
        return self.rows / max(1.0, (self.end_ms - self.begin_ms) / 1000)


class TransactionFile:
    """One Parquet file. label_delay_ms: known-at of a row that has only its truth; None: no labels at all."""

    def __init__(self, path: Path, label_delay_ms: int | None = LABEL_DELAY_MS) -> None:
        self.path = path
        self._delay_ms = label_delay_ms
        self._schema = _schema(path)
        self._is_handbook = "TX_DATETIME" in self._schema
        _check_schema(self._schema, self._columns)
        self.height: int = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()

    @property
    def _columns(self) -> tuple[str, ...]:
        required = HANDBOOK if self._is_handbook else OWN
        return (*required, *self._label_columns)

    @property
    def _label_columns(self) -> tuple[str, ...]:
        if self._delay_ms is None:
            return ()
        if not self._is_handbook and any(name in self._schema for name in OWN_LABELS):
            return OWN_LABELS
        truth = HANDBOOK_TRUTH if self._is_handbook else OWN_TRUTH
        return (truth,) if truth in self._schema else ()

    def check(
        self,
        rows_max: int | None = None,
        until_ms: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Extent:
        """Read what is to be streamed, once: at most rows_max rows, up to the first at or after until_ms.

        Raises BadFileError for the first thing wrong.
        """
        wanted = self.height if rows_max is None else min(self.height, rows_max)
        rows, begin_ms, end_ms = 0, TIME_MAX_MS, 0
        for piece in self.slices(0, wanted):
            ended = piece["occurred_at_ms"] >= until_ms if until_ms is not None else None
            if ended is not None and ended.any():
                first = ended.arg_max()
                piece = piece.head(first or 0)
            if piece.height:
                begin_ms = min(begin_ms, int(piece["occurred_at_ms"].min()))  # type: ignore[arg-type]  # not null here
                end_ms = max(end_ms, int(piece["occurred_at_ms"].max()))  # type: ignore[arg-type]  # not null here
            rows += piece.height
            if progress is not None:
                progress(rows, wanted)
            if ended is not None and ended.any():
                break
        return Extent(rows, begin_ms if rows else 0, end_ms)

    def slices(self, first: int, end: int) -> Iterator[pl.DataFrame]:
        """Rows [first, end) in slices of some ten thousand, with the columns SLICE. Raises BadFileError.

        row: 0 for the file's first. is_fraud and known_at_ms are null where a row has no label.
        """
        columns = list(self._columns)
        for at in range(first, end, _SLICE_ROWS):
            count = min(_SLICE_ROWS, end - at)
            try:
                raw = pl.scan_parquet(self.path, glob=False).slice(at, count).select(columns).collect()
            except pl.exceptions.PolarsError as error:
                raise BadFileError(f"cannot be read at row {at + 1}: {str(error).splitlines()[0]}") from None
            yield self._normalised(raw, at)

    def _normalised(self, raw: pl.DataFrame, at: int) -> pl.DataFrame:
        for name in raw.columns:
            if name not in OWN_LABELS:
                _refuse_first(raw[name], raw[name].is_null(), "null", at)
        rows = _handbook_rows(raw, at) if self._is_handbook else raw.select(OWN)
        rows = rows.select(*OWN).with_columns(pl.col(*OWN[:3]).cast(pl.String))
        for name in OWN[:3]:
            expected = "1 .. 64 characters of A-Z a-z 0-9 . _ - are expected, the first a letter or digit"
            _refuse_first(raw[_source(name, raw)], ~rows[name].str.contains(_ID), expected, at)
        amount = _in_range(rows["amount_minor"], 0, AMOUNT_MINOR_MAX, raw[_source("amount_minor", raw)], at)
        times = _in_range(rows["occurred_at_ms"], TIME_MIN_MS, TIME_MAX_MS - 1, raw[_source("occurred_at_ms", raw)], at)
        rows = rows.with_columns(amount, times, pl.int_range(at, at + rows.height).alias("row"))
        return rows.with_columns(*self._labels(raw, times, at)).select(SLICE)

    def _labels(self, raw: pl.DataFrame, times: pl.Series, at: int) -> list[pl.Series]:
        names = self._label_columns
        if not names or self._delay_ms is None:
            none = [None] * raw.height
            return [pl.Series("is_fraud", none, pl.Boolean), pl.Series("known_at_ms", none, pl.Int64)]
        fraud = _truth(raw[names[0]], at).alias("is_fraud")
        if names != OWN_LABELS:
            return [fraud, (times + self._delay_ms).alias("known_at_ms")]
        known_name = names[1]
        known = raw[known_name].cast(pl.Int64, strict=False)
        outside = raw[known_name].is_not_null() & (known.is_null() | (known < TIME_MIN_MS) | (known >= TIME_MAX_MS))
        _refuse_first(raw[known_name], outside.fill_null(True), "a time in epoch milliseconds is expected", at)
        _refuse_first(raw[known_name], (known < times).fill_null(False), "before the row's occurred_at_ms", at)
        _refuse_first(
            fraud.alias(names[0]), fraud.is_null() & known.is_not_null(), "null, but label_known_at_ms is given", at
        )
        _refuse_first(known, known.is_null() & fraud.is_not_null(), "null, but label_is_fraud is given", at)
        return [fraud, known.alias("known_at_ms")]


def _schema(path: Path) -> dict[str, pl.DataType]:
    if not path.is_file():
        raise BadFileError("there is no such file" if not path.exists() else "is not a file; give one Parquet file")
    try:
        return dict(pl.read_parquet_schema(path))
    except OSError as error:
        raise BadFileError(f"cannot be read: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        raise BadFileError(f"is not a Parquet file that can be read: {str(error).splitlines()[0]}") from None


def _check_schema(schema: dict[str, pl.DataType], columns: tuple[str, ...]) -> None:
    for name in columns:
        if name not in schema:
            raise BadFileError(f"column {name} is missing; the file has {', '.join(schema) or 'no columns'}")
        fits, expected = _fits(name, schema[name])
        if not fits:
            raise BadFileError(f"column {name}, row 1: it has type {schema[name]}; {expected} expected")


def _fits(name: str, dtype: pl.DataType) -> tuple[bool, str]:
    if name in _IDS:
        return dtype == pl.String or dtype.is_integer(), "text or integers are"
    if name == "TX_DATETIME":
        return dtype == pl.Datetime, "a timestamp is"
    if name == "TX_AMOUNT":
        return dtype.is_numeric(), "a number is"
    if name in (OWN_TRUTH, OWN_LABELS[0], HANDBOOK_TRUTH):
        return dtype == pl.Boolean or dtype.is_integer() or dtype == pl.Null, "Boolean, or 0 and 1, is"
    return dtype.is_integer() or (dtype == pl.Null and name in OWN_LABELS), "integers are"


def _handbook_rows(raw: pl.DataFrame, at: int) -> pl.DataFrame:
    exact = raw["TX_AMOUNT"].cast(pl.Float64) * 100
    _refuse_first(raw["TX_AMOUNT"], ~exact.is_finite(), "a finite amount is expected", at)
    _refuse_first(
        raw["TX_AMOUNT"], (exact - exact.round()).abs() > _CENT_TOLERANCE, "at most two decimals are expected", at
    )
    return raw.select(
        transaction_id=pl.col("TRANSACTION_ID").cast(pl.String),
        card_id=pl.format("c{}", "CUSTOMER_ID"),
        terminal_id=pl.format("t{}", "TERMINAL_ID"),
        amount_minor=exact.round().cast(pl.Int64, strict=False),
        occurred_at_ms=pl.col("TX_DATETIME").dt.epoch("ms"),
    )


def _source(name: str, raw: pl.DataFrame) -> str:
    """The file's own name of one of our columns."""
    if name in raw.columns:
        return name
    return {
        "transaction_id": "TRANSACTION_ID",
        "card_id": "CUSTOMER_ID",
        "terminal_id": "TERMINAL_ID",
        "amount_minor": "TX_AMOUNT",
        "occurred_at_ms": "TX_DATETIME",
    }[name]


def _in_range(column: pl.Series, low: int, high: int, shown: pl.Series, at: int) -> pl.Series:
    wide = column.cast(pl.Int64, strict=False)
    outside = (wide.is_null() | (wide < low) | (wide > high)).fill_null(True)
    meaning = "an amount in minor units" if column.name == "amount_minor" else "a time in epoch milliseconds"
    _refuse_first(shown, outside, f"{meaning}, {low} .. {high}, is expected", at)
    return wide


def _truth(column: pl.Series, at: int) -> pl.Series:
    if column.dtype.is_integer():
        _refuse_first(column, column.is_not_null() & ~column.is_in([0, 1]), "0 or 1 is expected", at)
    return column.cast(pl.Boolean)


def _refuse_first(column: pl.Series, wrong: pl.Series, reason: str, at: int) -> None:
    if not wrong.any():
        return
    row = wrong.arg_max() or 0
    value = column[row]
    shown = "" if value is None else f"{str(value)[:80]!r}; "
    raise BadFileError(f"column {column.name}, row {at + row + 1} (the first is 1): {shown}{reason}")
