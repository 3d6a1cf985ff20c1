"""Files of transactions: both forms, and every way to be refused, by row and column."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from fraud.windows import DAY_MS
from producer.transaction_file import SLICE, BadFileError, TransactionFile

BEGIN_MS = 1_522_540_800_000
OWN = {
    "transaction_id": ["a", "b", "c"],
    "card_id": ["c1", "c2", "c1"],
    "terminal_id": ["t1", "t1", "t2"],
    "amount_minor": [100, 0, 10**12],
    "occurred_at_ms": [BEGIN_MS, BEGIN_MS + 1000, BEGIN_MS + 500],
}
HANDBOOK = {
    "TRANSACTION_ID": [0, 1, 2],
    "TX_DATETIME": [datetime(2018, 4, 1), datetime(2018, 4, 1, 0, 0, 1), datetime(2018, 4, 2)],
    "CUSTOMER_ID": [596, 4961, 2],
    "TERMINAL_ID": [3156, 3412, 1365],
    "TX_AMOUNT": [57.16, 81.51, 0.29],
    "TX_FRAUD": [0, 1, 0],
}


def written(tmp_path: Path, columns: dict[str, object]) -> Path:
    path = tmp_path / "input.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def read(path: Path, **settings: object) -> pl.DataFrame:
    file = TransactionFile(path, **settings)  # type: ignore[arg-type]
    return pl.concat(file.slices(0, file.height))


def test_a_handbook_file_is_read_in_our_columns(tmp_path: Path):
    rows = read(written(tmp_path, HANDBOOK))
    assert tuple(rows.columns) == SLICE
    assert rows["transaction_id"].to_list() == ["0", "1", "2"]
    assert rows["card_id"].to_list() == ["c596", "c4961", "c2"]
    assert rows["terminal_id"].to_list() == ["t3156", "t3412", "t1365"]
    assert rows["amount_minor"].to_list() == [5716, 8151, 29]
    assert rows["occurred_at_ms"].to_list() == [BEGIN_MS, BEGIN_MS + 1000, BEGIN_MS + DAY_MS]
    assert rows["is_fraud"].to_list() == [False, True, False]


def test_labels_are_known_exactly_seven_days_later_unless_said_otherwise(tmp_path: Path):
    path = written(tmp_path, HANDBOOK)
    week, day = read(path), read(path, label_delay_ms=DAY_MS)
    assert (week["known_at_ms"] - week["occurred_at_ms"]).to_list() == [7 * DAY_MS] * 3
    assert (day["known_at_ms"] - day["occurred_at_ms"]).to_list() == [DAY_MS] * 3


def test_without_labels_no_row_has_one(tmp_path: Path):
    rows = read(written(tmp_path, HANDBOOK), label_delay_ms=None)
    assert rows["known_at_ms"].null_count() == rows["is_fraud"].null_count() == 3


def test_our_own_columns_are_read_in_the_files_order(tmp_path: Path):
    rows = read(written(tmp_path, OWN))
    assert rows["transaction_id"].to_list() == ["a", "b", "c"]
    assert rows["row"].to_list() == [0, 1, 2]
    assert rows["known_at_ms"].null_count() == 3


def test_our_own_labels_keep_their_known_at_and_may_be_absent(tmp_path: Path):
    labels = {"label_is_fraud": [True, None, False], "label_known_at_ms": [BEGIN_MS + 5, None, BEGIN_MS + 500]}
    rows = read(written(tmp_path, OWN | labels))
    assert rows["is_fraud"].to_list() == [True, None, False]
    assert rows["known_at_ms"].to_list() == [BEGIN_MS + 5, None, BEGIN_MS + 500]


def test_integer_ids_become_text(tmp_path: Path):
    rows = read(written(tmp_path, OWN | {"card_id": [1, 2, 3]}))
    assert rows["card_id"].to_list() == ["1", "2", "3"]


def test_the_extent_ends_before_the_first_row_at_or_after_until(tmp_path: Path):
    file = TransactionFile(written(tmp_path, OWN))
    extent = file.check(until_ms=BEGIN_MS + 1000)
    assert (extent.rows, extent.begin_ms, extent.end_ms) == (1, BEGIN_MS, BEGIN_MS)
    assert file.check(rows_max=2).rows == 2
    assert file.check().end_ms == BEGIN_MS + 1000


def test_what_is_not_streamed_is_not_judged(tmp_path: Path):
    file = TransactionFile(written(tmp_path, OWN | {"amount_minor": [1, 2, -3]}))
    assert file.check(rows_max=2).rows == 2


BAD = [
    (OWN, {"amount_minor": [1, -5, 2]}, "column amount_minor, row 2 .*'-5'"),
    (OWN, {"amount_minor": [1, 2, 10**12 + 1]}, "column amount_minor, row 3 .*1000000000000, is expected"),
    (OWN, {"amount_minor": [1, None, 2]}, "column amount_minor, row 2 .*null"),
    (OWN, {"amount_minor": [1.0, 2.0, 3.5]}, "column amount_minor, row 1: it has type Float64"),
    (OWN, {"card_id": ["a", "b", None]}, "column card_id, row 3 .*null"),
    (OWN, {"card_id": ["a", "", "b"]}, "column card_id, row 2 .*1 .. 64 characters"),
    (OWN, {"terminal_id": ["a", "b", 'x"y']}, "column terminal_id, row 3 .*1 .. 64 characters"),
    (OWN, {"transaction_id": ["a", "b\n", "c"]}, "column transaction_id, row 2 .*1 .. 64 characters"),
    (OWN, {"transaction_id": ["a" * 65, "b", "c"]}, "column transaction_id, row 1 .*1 .. 64 characters"),
    (OWN, {"card_id": [1.0, 2.0, 3.0]}, "column card_id, row 1: it has type Float64"),
    (OWN, {"occurred_at_ms": [BEGIN_MS, BEGIN_MS // 1000, BEGIN_MS]}, "column occurred_at_ms, row 2 .*milliseconds"),
    (OWN, {"label_is_fraud": [True, True, True]}, "column label_known_at_ms is missing"),
    (
        OWN,
        {"label_is_fraud": [True, True, None], "label_known_at_ms": [BEGIN_MS + 9, BEGIN_MS, None]},
        "column label_known_at_ms, row 2 .*before the row's occurred_at_ms",
    ),
    (
        OWN,
        {"label_is_fraud": [None, None, None], "label_known_at_ms": [None, BEGIN_MS + DAY_MS, None]},
        "column label_is_fraud, row 2 .*but label_known_at_ms is given",
    ),
    (OWN, {"is_fraud": [0, 1, 2]}, "column is_fraud, row 3 .*0 or 1"),
    (HANDBOOK, {"TX_AMOUNT": [1.0, -0.01, 2.0]}, "column TX_AMOUNT, row 2 .*'-0.01'"),
    (HANDBOOK, {"TX_AMOUNT": [1.0, 2.0, float("nan")]}, "column TX_AMOUNT, row 3 .*finite"),
    (HANDBOOK, {"TX_AMOUNT": [1.0, 2.005, 3.0]}, "column TX_AMOUNT, row 2 .*two decimals"),
    (HANDBOOK, {"TX_AMOUNT": ["1", "2", "3"]}, "column TX_AMOUNT, row 1: it has type String"),
    (HANDBOOK, {"TX_DATETIME": [None, *HANDBOOK["TX_DATETIME"][1:]]}, "column TX_DATETIME, row 1 .*null"),
    (HANDBOOK, {"CUSTOMER_ID": ["a b", "c", "d"]}, "column CUSTOMER_ID, row 1 .*1 .. 64 characters"),
]


@pytest.mark.parametrize(("columns", "change", "message"), BAD, ids=[message for _, _, message in BAD])
def test_a_bad_value_is_refused_by_row_and_column(tmp_path: Path, columns: dict, change: dict, message: str):
    path = written(tmp_path, columns | change)
    with pytest.raises(BadFileError, match=message):
        TransactionFile(path).check()


@pytest.mark.parametrize("absent", list(OWN))
def test_a_missing_column_is_named(tmp_path: Path, absent: str):
    path = written(tmp_path, {name: values for name, values in OWN.items() if name != absent})
    with pytest.raises(BadFileError, match=f"column {absent} is missing; the file has"):
        TransactionFile(path)


def test_rows_are_counted_over_slices(tmp_path: Path):
    count = 120_000
    columns = {name: [values[0]] * count for name, values in OWN.items()}
    columns["amount_minor"] = [1] * (count - 1) + [-1]
    with pytest.raises(BadFileError, match="row 120000 "):
        TransactionFile(written(tmp_path, columns)).check()


def test_what_is_no_parquet_file_is_refused(tmp_path: Path):
    text = tmp_path / "text.parquet"
    text.write_text("a,b\n1,2\n")
    for path, message in ((text, "not a Parquet file"), (tmp_path, "not a file"), (tmp_path / "none", "no such file")):
        with pytest.raises(BadFileError, match=message):
            TransactionFile(path)
