"""Backfill: the fold of the stream, over a file.

Rule 1. The file's row order is the arrival order; event time never reorders it.
Rule 2. A label takes its place before the first transaction with occurred_at_ms >= label_known_at_ms; labels with the same place
        follow each other by label_known_at_ms, then by row.
Rule 3. What the stream would refuse in a message, is refused here by row and column, and then nothing is written. What the stream
        would not serve (duplicates, too late transactions) has no row in the output and is counted.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import typer

from fraud import features
from fraud.columns import NOWHERE_CDEG, CardColumns, TerminalColumns, country_code, known_hash, transaction_hashes
from fraud.fold import (
    ACCEPTED,
    CARD_WIDTH,
    DUPLICATE,
    LABEL,
    LABEL_APPLIED,
    LABEL_EXPIRED,
    LABEL_UNKNOWN,
    TERMINAL_WIDTH,
    TOO_LATE,
    TRANSACTION,
    CardFold,
    TerminalFold,
    is_striking,
)
from fraud.transaction import AMOUNT_MINOR_MAX, LATITUDE_MAX_CDEG, LONGITUDE_MAX_CDEG
from fraud.wire import ID_PATTERN, TIME_MAX_MS, TIME_MIN_MS

IDS: Final = ("transaction_id", "card_id", "terminal_id")
NUMBERS: Final = ("amount_minor", "occurred_at_ms")
LABELS: Final = ("label_is_fraud", "label_known_at_ms")
PLACE_IDS: Final = ("merchant_id", "device_id")
PLACE: Final = ("latitude_cdeg", "longitude_cdeg")
COLUMNS: Final = (*IDS, *NUMBERS, *LABELS, *PLACE_IDS, "country", *PLACE)
EXIT_BAD_FILE: Final = 2
BLOCK_ROWS: Final = 1024
CPUS: Final = os.cpu_count() or 1
POOL_ROWS_MAX: Final = 8_000_000  # memory that is given and not used costs nothing; a pool that grows is copied

Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Vectors = npt.NDArray[np.float32]


class BadFileError(ValueError):
    """The input cannot be folded; the message names column and row (the first row is 1) and what is expected."""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """vectors: `transaction_id` and one float32 column per feature, a row per served transaction in input order.

    counts: what became of the input's transactions and labels.
    """

    vectors: pl.DataFrame
    counts: dict[str, int]


def backfill(table: pl.DataFrame, terminal_fold: type[TerminalFold] = TerminalFold) -> Backfilled:
    """Fold all rows of `table` (its columns: see checked()). Raises BadFileError.

    terminal_fold: in place of the stream's, for a benchmark that asks what another label delay would have given.
    """
    table = checked(table)
    told = card_columns(table)
    pool_rows = min(2 * table.height, POOL_ROWS_MAX) // CPUS
    card = _folded(
        partial(CardFold, rows=pool_rows, keep_changes=False), table["card_id"], told.__getitem__, CARD_WIDTH
    )
    log = _terminal_log(table, told.occurred_at_ms, card.outcome == ACCEPTED)
    card_hash, amounts = _hashes(table["card_id"]), np.empty(table.height, np.int64)
    amounts[card.at] = told.amount_minor
    striking = is_striking(card.vectors, amounts)[card.at]

    def log_columns(at: Int64s) -> TerminalColumns:
        row, kind = log.row[at], log.kind[at]
        is_fraud = np.where(kind == LABEL, log.is_fraud[row], 0).astype(np.uint8)
        return TerminalColumns(
            kind, told.transaction_hash[row], told.occurred_at_ms[row], told.amount_minor[row], card_hash[row], is_fraud,
            striking[row],
        )  # fmt: skip

    make = partial(terminal_fold, rows=pool_rows, keep_changes=False)
    terminal = _folded(make, table["terminal_id"][log.row], log_columns, TERMINAL_WIDTH)
    served = np.flatnonzero(terminal.outcome == ACCEPTED)
    rows = log.row[served]
    by_name = np.empty((len(features.NAMES), len(rows)), np.float32)

    def turn(begin: int, end: int) -> None:
        _turn(card.vectors, card.at[rows[begin:end]], by_name[:CARD_WIDTH, begin:end])
        _turn(terminal.vectors, terminal.at[served[begin:end]], by_name[CARD_WIDTH:, begin:end])

    _in_threads(turn, len(rows))
    vectors = [table["transaction_id"][rows], *map(pl.Series, features.NAMES, by_name)]
    counts = {
        "transactions": table.height,
        "served": len(rows),
        "of them late": int((card.late[rows] | terminal.late[served]).sum()),
        "duplicates": int((card.outcome == DUPLICATE).sum()),
        "too late": int((card.outcome == TOO_LATE).sum() + (terminal.outcome == TOO_LATE).sum()),
        "labels applied": int((terminal.outcome == LABEL_APPLIED).sum()),
        "labels of unknown transactions": int((terminal.outcome == LABEL_UNKNOWN).sum()),
        "labels expired": int((terminal.outcome == LABEL_EXPIRED).sum()),
        "labels known after the last transaction": log.labels_after_end,
    }
    return Backfilled(pl.DataFrame(vectors), counts)


@dataclass(frozen=True, slots=True)
class _Folded:
    """What a fold made of rows. Row i has its outcome and whether it is late at i, its vector at at[i]."""

    vectors: Vectors
    at: Int64s
    outcome: npt.NDArray[np.uint8]
    late: Mask


def _folded(
    make: Callable[[], CardFold] | Callable[[], TerminalFold],
    ids: pl.Series,
    columns_at: Callable[[Int64s], Any],
    width: int,
) -> _Folded:
    """Fold rows entity by entity, whose histories know nothing of each other: each then stays in the processor's cache, and
    each CPU folds a share of them."""
    names = ids.unique(maintain_order=True)
    numbers = pl.DataFrame({"id": names, "number": np.arange(len(names))})
    number = ids.alias("id").to_frame().join(numbers, on="id", how="left", maintain_order="left")["number"].to_numpy()
    order = np.argsort(number, kind="stable")
    number = number[order]
    vectors = np.empty((len(ids), width), np.float32)
    outcome, late, at = np.empty(len(ids), np.uint8), np.empty(len(ids), np.bool_), np.empty(len(ids), np.int64)
    at[order] = np.arange(len(ids))

    def fold(begin: int, end: int) -> None:
        begin, end = _entity_edge(number, begin), _entity_edge(number, end)
        if begin == end:
            return
        one, rows, first = make(), order[begin:end], number[begin]
        one.slots(names[first : number[end - 1] + 1].to_list())
        result = one.apply_slots(number[begin:end] - first, columns_at(rows), vectors[begin:end])
        outcome[rows], late[rows] = result.outcome, result.late

    _in_threads(fold, len(ids))
    return _Folded(vectors, at, outcome, late)


def _entity_edge(number: Int64s, row: int) -> int:
    """The first row of the entity that `row` is of; the end for the end."""
    return row if row == len(number) else int(np.searchsorted(number, number[row]))


def _in_threads(work: Callable[[int, int], None], rows: int) -> None:
    """work(begin, end) for an equal share of the rows on each CPU."""
    edges = [rows * i // CPUS for i in range(CPUS + 1)]
    with ThreadPoolExecutor(CPUS) as threads:
        list(threads.map(work, edges[:-1], edges[1:]))


def _turn(vectors: Vectors, rows: Int64s, columns: Vectors) -> None:
    """Write the rows of vectors into `columns`, [features, rows], in blocks that fit into a cache."""
    for at in range(0, len(rows), BLOCK_ROWS):
        columns[:, at : at + BLOCK_ROWS] = vectors[rows[at : at + BLOCK_ROWS]].T


def card_columns(table: pl.DataFrame) -> CardColumns:
    """The columns of a checked() table as the cards' fold takes them."""
    codes = _mapped(table["country"], country_code, pl.Int64)
    latitude, longitude = (table[name].fill_null(NOWHERE_CDEG).to_numpy() for name in PLACE)
    return CardColumns(
        transaction_hash=transaction_hashes(table["transaction_id"].to_list()),
        occurred_at_ms=table["occurred_at_ms"].to_numpy(),
        amount_minor=table["amount_minor"].to_numpy(),
        terminal_hash=_hashes(table["terminal_id"]),
        merchant_hash=_hashes(table["merchant_id"]),
        device_hash=_hashes(table["device_id"]),
        country=codes,
        latitude_cdeg=latitude,
        longitude_cdeg=longitude,
    )


def _hashes(ids: pl.Series) -> npt.NDArray[np.uint64]:
    return _mapped(ids, known_hash, pl.UInt64)


def _mapped(column: pl.Series, number: Callable[[str | None], int], dtype: type[pl.DataType]) -> npt.NDArray[Any]:
    """number() of each value, by way of the distinct ones."""
    distinct = column.unique().rename("value")
    numbers = pl.Series("number", [number(value) for value in distinct.to_list()], dtype)
    of_value = pl.DataFrame([distinct, numbers])
    joined = (
        column.rename("value")
        .to_frame()
        .join(of_value, on="value", how="left", maintain_order="left", nulls_equal=True)
    )
    return joined["number"].to_numpy()


@dataclass(frozen=True, slots=True)
class _TerminalLog:
    """Transactions and labels in the one order that the terminals' fold sees; `row` is the input's row of each."""

    kind: npt.NDArray[np.uint8]
    row: Int64s
    is_fraud: npt.NDArray[np.uint8]
    labels_after_end: int


def _terminal_log(table: pl.DataFrame, times: Int64s, accepted: Mask) -> _TerminalLog:
    rows = table.height
    is_fraud = table["label_is_fraud"].fill_null(False).cast(pl.UInt8).to_numpy()
    labelled = np.flatnonzero(table["label_known_at_ms"].is_not_null().to_numpy())
    known = table["label_known_at_ms"].gather(labelled).to_numpy()
    before = np.searchsorted(np.maximum.accumulate(times), known, side="left") if rows else known
    inside = before < rows
    order = np.lexsort((labelled[inside], known[inside], before[inside]))
    before, label_row = before[inside][order], labelled[inside][order]
    kind = np.full(rows + len(before), TRANSACTION, np.uint8)
    row = np.empty(len(kind), np.int64)
    label_at = before + np.arange(len(before))
    kind[label_at], row[label_at] = LABEL, label_row
    row[kind == TRANSACTION] = np.arange(rows)
    kept = (kind == LABEL) | accepted[row]
    return _TerminalLog(kind[kept], row[kept], is_fraud, int((~inside).sum()))


# -- the input's rules ----------------------------------------------------------------------------------------------------------


def checked(table: pl.DataFrame) -> pl.DataFrame:
    """The columns that the fold takes, with ids as text, numbers as Int64, labels as Boolean and Int64 (null: no label).

    Required: transaction_id, card_id, terminal_id (text or integers), amount_minor, occurred_at_ms (integers).
    Optional, null where there is none: merchant_id, device_id (text or integers), country (two capitals).
    Optional, but only together: latitude_cdeg, longitude_cdeg (integers, both null for no place); label_is_fraud (Boolean, or 0 and
    1), label_known_at_ms (integer), both null for no label.
    Other columns are left out. Raises BadFileError for the first thing wrong.
    """
    _check_columns(table)
    columns = [_checked_id(table[name]) for name in IDS]
    columns.append(_checked_number(table["amount_minor"], 0, AMOUNT_MINOR_MAX, "an amount in minor units"))
    columns.append(_checked_time(table["occurred_at_ms"]))
    if LABELS[0] in table.columns:
        columns += _checked_labels(table)
    else:
        none = [None] * table.height
        columns += [pl.Series(LABELS[0], none, pl.Boolean), pl.Series(LABELS[1], none, pl.Int64)]
    columns += [_checked_id(_column(table, name, pl.String), required=False) for name in PLACE_IDS]
    columns += [_checked_country(_column(table, "country", pl.String)), *_checked_place(table)]
    return pl.DataFrame(columns)


def _column(table: pl.DataFrame, name: str, dtype: type[pl.DataType]) -> pl.Series:
    """A column, or nulls in its place where it is left out or has nothing but nulls."""
    if name in table.columns and table[name].dtype != pl.Null:
        return table[name]
    return pl.Series(name, [None] * table.height, dtype)


def _check_columns(table: pl.DataFrame) -> None:
    together = [name for pair in (PLACE, LABELS) if any(n in table.columns for n in pair) for name in pair]
    for name in (*IDS, *NUMBERS, *together):
        if name not in table.columns:
            raise BadFileError(f"column {name} is missing; the file has {', '.join(table.columns) or 'no columns'}")


def _checked_id(column: pl.Series, *, required: bool = True) -> pl.Series:
    if column.dtype.is_integer():
        column = column.cast(pl.String)
    elif column.dtype != pl.String:
        raise BadFileError(f"column {column.name} has type {column.dtype}; text or integers are expected")
    if required:
        _refuse_first(column, column.is_null(), "null; an id is expected")
    wrong = ~column.str.contains(ID_PATTERN.replace(r"\Z", r"\z"))
    _refuse_first(column, wrong, "1 .. 64 characters of A-Z a-z 0-9 . _ - are expected, the first a letter or digit")
    return column


def _checked_number(column: pl.Series, low: int, high: int, meaning: str) -> pl.Series:
    if not column.dtype.is_integer():
        raise BadFileError(f"column {column.name} has type {column.dtype}; integers are expected ({meaning})")
    _refuse_first(column, column.is_null(), f"null; {meaning} is expected")
    return _in_range(column, low, high, meaning)


def _in_range(column: pl.Series, low: int, high: int, meaning: str) -> pl.Series:
    wide = column.cast(pl.Int64, strict=False)
    outside = column.is_not_null() & (wide.is_null() | (wide < low) | (wide > high))
    _refuse_first(column, outside.fill_null(True), f"{meaning}, {low} .. {high}, is expected")
    return wide


def _checked_country(column: pl.Series) -> pl.Series:
    if column.dtype != pl.String:
        raise BadFileError(f"column {column.name} has type {column.dtype}; text is expected (ISO 3166-1 alpha-2)")
    _refuse_first(column, ~column.str.contains(r"\A[A-Z]{2}\z"), "two capitals are expected (ISO 3166-1 alpha-2)")
    return column


def _checked_place(table: pl.DataFrame) -> list[pl.Series]:
    checked = []
    for name, limit in zip(PLACE, (LATITUDE_MAX_CDEG, LONGITUDE_MAX_CDEG), strict=True):
        column = _column(table, name, pl.Int64)
        if not column.dtype.is_integer():
            raise BadFileError(f"column {name} has type {column.dtype}; integers are expected (hundredths of a degree)")
        checked.append(_in_range(column, -limit, limit, "hundredths of a degree"))
    for one, other in (checked, reversed(checked)):
        _refuse_first(one, one.is_null() & other.is_not_null(), f"null, but {other.name} is given")
    return checked


def _checked_time(column: pl.Series) -> pl.Series:
    return _checked_number(column, TIME_MIN_MS, TIME_MAX_MS - 1, "a time in epoch milliseconds")


def _checked_labels(table: pl.DataFrame) -> list[pl.Series]:
    fraud, known = table[LABELS[0]], table[LABELS[1]]
    if fraud.dtype.is_integer():
        _refuse_first(fraud, fraud.is_not_null() & ~fraud.is_in([0, 1]), "true, false, 0, 1 or null is expected")
        fraud = fraud.cast(pl.Boolean)
    elif fraud.dtype not in (pl.Boolean, pl.Null):
        raise BadFileError(f"column {fraud.name} has type {fraud.dtype}; Boolean, or 0 and 1, is expected")
    if known.dtype == pl.Null:
        known = known.cast(pl.Int64)
    if not known.dtype.is_integer():
        raise BadFileError(f"column {known.name} has type {known.dtype}; integers are expected (epoch milliseconds)")
    known = _in_range(known, TIME_MIN_MS, TIME_MAX_MS - 1, "a time in epoch milliseconds")
    _refuse_first(fraud, fraud.is_null() & known.is_not_null(), "null, but label_known_at_ms is given")
    _refuse_first(known, known.is_null() & fraud.is_not_null(), "null, but label_is_fraud is given")
    _refuse_first(known, (known < table["occurred_at_ms"]).fill_null(False), "before the row's occurred_at_ms")
    return [fraud.cast(pl.Boolean), known]


def _refuse_first(column: pl.Series, wrong: pl.Series, reason: str) -> None:
    rows = wrong.arg_true()
    if len(rows):
        row, value = rows[0], column[rows[0]]
        shown = "" if value is None else f"{str(value)[:80]!r}; "
        raise BadFileError(f"column {column.name}, row {row + 1} (the first is 1): {shown}{reason}")


# -- the command ----------------------------------------------------------------------------------------------------------------

features_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Features over files, without Kafka.")


@features_app.callback()
def _features() -> None:
    """Features over files, without Kafka."""


@features_app.command("backfill")
def backfill_command(
    output_path: Annotated[
        Path, typer.Option("--output", help="Parquet file to write: transaction_id and the features")
    ],
    input_path: Annotated[
        Path | None, typer.Option("--input", help="Parquet file of transactions in arrival order")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="`lake`: the lake's transactions and labels in the order of its logs")
    ] = None,
) -> None:
    """Compute the vector of every transaction of a file or of the lake, exactly as the stream would have served it."""
    if (input_path is None) == (source is None) or source not in (None, "lake"):
        typer.echo("give either --input FILE or --from lake", err=True)
        raise typer.Exit(EXIT_BAD_FILE)
    if input_path is None:
        from trainer.lake_command import backfill_from_lake

        backfill_from_lake(output_path)
    else:
        _backfill_file(input_path, output_path)


def _backfill_file(input_path: Path, output_path: Path) -> None:
    started_s = time.perf_counter()
    try:
        if not output_path.parent.is_dir():
            raise NotADirectoryError(None, f"there is no folder {output_path.parent}")
        result = backfill(read_table(input_path))
        write_whole(
            output_path, lambda path: result.vectors.write_parquet(path, compression="zstd", compression_level=1)
        )
    except BadFileError as error:
        typer.echo(f"{input_path}: {error}. Nothing was written.", err=True)
        raise typer.Exit(EXIT_BAD_FILE) from None
    except OSError as error:
        typer.echo(
            f"--output {output_path}: {error.strerror or error}; choose a folder that exists and has room.", err=True
        )
        raise typer.Exit(EXIT_BAD_FILE) from None
    elapsed_s = time.perf_counter() - started_s
    for name, count in result.counts.items():
        typer.echo(f"{count:>12,}  {name}")
    per_row_us = elapsed_s / max(1, result.counts["transactions"]) * 1e6
    typer.echo(
        f"{output_path}: {len(features.NAMES)} features ({features.FEATURE_HASH}) in {elapsed_s:.1f} s, {per_row_us:.1f} us "
        f"per transaction ({platform.machine()}, {os.cpu_count()} CPUs, Python {sys.version.split()[0]})"
    )


def read_table(path: Path) -> pl.DataFrame:
    """The columns of a Parquet file that the fold takes. Raises BadFileError when it cannot be read."""
    if path.exists() and not path.is_file():
        raise BadFileError("is not a file; give one Parquet file")
    try:
        present = pl.read_parquet_schema(path)
        names: list[str] = [name for name in COLUMNS if name in present]
        return pl.read_parquet(path, columns=names, glob=False)
    except OSError as error:
        raise BadFileError(f"cannot be read: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        raise BadFileError(f"is not a Parquet file that can be read: {str(error).splitlines()[0]}") from None


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file that appears complete or not at all: beside its place, then fsync and rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
