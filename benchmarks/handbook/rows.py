"""The benchmark's rows: a file of the published set, or a simulated Handbook world, and the fold's vectors of them.

Rule 1. Rows are in order of time, which is their order of arrival; a file that is not is refused.
Rule 2. Vectors come from trainer.backfill, the fold of the stream; a label enters it label_delay after its transaction, and
        what counts as matured is that old.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.features import TERMINAL_HISTORY, TERMINAL_RISK
from fraud.fold import TerminalFold
from fraud.windows import DAY_MS
from producer import handbook as simulator
from trainer.backfill import backfill

SIMULATE: Final = "simulate"
PUBLISHED: Final = (
    "TRANSACTION_ID",
    "TX_DATETIME",
    "CUSTOMER_ID",
    "TERMINAL_ID",
    "TX_AMOUNT",
    "TX_FRAUD",
    "TX_FRAUD_SCENARIO",
)

Say = Callable[[str], None]
Floats = npt.NDArray[np.float32]


class BadDataError(ValueError):
    """--data, or an option that does not fit it; the message names the option, its range and the remedy."""


def read_rows(data: str, days: int, say: Say) -> pl.DataFrame:
    """The columns of producer.handbook.COLUMNS from `FILE` or `simulate[:SEED]`. Raises BadDataError."""
    rows = _simulated(data, days, say) if data.split(":")[0] == SIMULATE else _from_file(Path(data))
    if not rows.height:
        raise BadDataError(f"--data {data}: it has no rows")
    if not rows["occurred_at_ms"].is_sorted():
        raise BadDataError(f"--data {data}: rows are not in order of time; sort the file by its time column")
    return rows


def _simulated(data: str, days: int, say: Say) -> pl.DataFrame:
    _, colon, text = data.partition(":")
    if colon and not (text.isdecimal() and int(text) <= simulator.SEED_MAX):
        raise BadDataError(
            f"--data {data}: the seed must be a whole number 0 .. {simulator.SEED_MAX}; simulate:0 is the published world"
        )
    seed = int(text) if text else 0
    say(f"simulating {days} days of Handbook world {seed}")
    return simulator.world(seed, days)


def _from_file(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise BadDataError(
            f"--data {path}: there is no such file; give the Handbook's Parquet file, or simulate[:SEED]"
        )
    try:
        present = pl.read_parquet_schema(path)
        if all(name in present for name in simulator.COLUMNS):
            return pl.read_parquet(path, columns=list(simulator.COLUMNS))
        if missing := [name for name in PUBLISHED if name not in present]:
            raise BadDataError(
                f"--data {path}: column {missing[0]} is missing; expected are {', '.join(PUBLISHED)}, "
                f"or {', '.join(simulator.COLUMNS)}"
            )
        return pl.read_parquet(path, columns=list(PUBLISHED)).select(
            pl.col("TRANSACTION_ID").cast(pl.String).alias("transaction_id"),
            pl.col("TX_DATETIME").dt.epoch("ms").alias("occurred_at_ms"),
            pl.format("c{}", "CUSTOMER_ID").alias("card_id"),
            pl.format("t{}", "TERMINAL_ID").alias("terminal_id"),
            (pl.col("TX_AMOUNT") * 100).round().cast(pl.Int64).alias("amount_minor"),
            (pl.col("TX_FRAUD") == 1).alias("is_fraud"),
            pl.col("TX_FRAUD_SCENARIO").cast(pl.Int8).alias("scenario"),
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise BadDataError(f"--data {path}: not a Parquet file of the Handbook's columns: {reason}") from None


def known_after(rows: pl.DataFrame, delay_days: float) -> pl.DataFrame:
    """The rows with label_is_fraud and label_known_at_ms; a label is known at least 1 ms after its transaction."""
    delay_ms = delay_ms_of(delay_days)
    return rows.with_columns(
        pl.col("is_fraud").alias("label_is_fraud"), (pl.col("occurred_at_ms") + delay_ms).alias("label_known_at_ms")
    )


def delay_ms_of(delay_days: float) -> int:
    """A label delay in ms, at least 1: no label is known with its own transaction."""
    return max(1, round(delay_days * DAY_MS))


def terminal_fold(delay_ms: int) -> type[TerminalFold]:
    """The stream's fold of terminals whose risk windows end this delay before a transaction, in place of the stream's 7 days."""
    if delay_ms == TERMINAL_RISK.delay_ms:
        return TerminalFold
    history = [window.length_ms for window in TERMINAL_HISTORY.windows]
    risk = [delay_ms + length_ms for length_ms in (0, *(window.length_ms for window in TERMINAL_RISK.windows))]

    class OtherDelay(TerminalFold):
        """TerminalFold with another label delay; its state is never stored."""

        windows_ms: ClassVar[npt.NDArray[np.int64]] = np.array(history + risk, np.int64)

    return OtherDelay


def vectors_of(labelled: pl.DataFrame, names: tuple[str, ...], delay_ms: int, say: Say) -> Floats:
    """The named features of every row, float32 [rows, names], in the order of the rows. Raises BadDataError."""
    say(f"folding {labelled.height:,} transactions with labels {delay_ms / DAY_MS:.1f} days late")
    folded = backfill(labelled, terminal_fold(delay_ms)).vectors
    if folded.height != labelled.height:
        raise BadDataError(
            f"--data: {labelled.height - folded.height} rows have the id of an earlier one or are too late; remove them"
        )
    # The fold answers in the order of arrival at the terminals, which is that of the rows.
    return np.column_stack([folded[name].to_numpy() for name in names])
