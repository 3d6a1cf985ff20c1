"""The backfill against the oracle over the same file, and what it says of files that it cannot fold.

Rule 1. A file that is refused leaves nothing behind, and its message names column and row.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from fraud.features import NAMES
from fraud.transaction import id_hash
from fraud.windows import DAY_MS, HOUR_MS
from tests.parity.oracle import CardOracle, Paid, TerminalOracle
from trainer.backfill import BadFileError, backfill, features_app

TEN = 1_523_008_800_000
GOOD: dict[str, list[Any]] = {
    "transaction_id": ["x1", "x2", "x3"],
    "card_id": ["c1", "c1", "c2"],
    "terminal_id": ["t1", "t1", "t1"],
    "amount_minor": [500, 700, 900],
    "occurred_at_ms": [TEN, TEN + HOUR_MS, TEN + 8 * DAY_MS],
    "label_is_fraud": [True, None, False],
    "label_known_at_ms": [TEN + DAY_MS, None, TEN + 9 * DAY_MS],
}


def awkward_file(seed: int, rows: int = 1200) -> pl.DataFrame:
    """A year of a few entities, some rows late or repeated, labels early, late or missing."""
    random = np.random.default_rng(seed)
    times = TEN + np.cumsum(random.exponential(7 * HOUR_MS, rows)).astype(np.int64)
    times -= np.where(random.random(rows) < 0.06, random.integers(0, 70 * DAY_MS, rows), 0)
    source = np.arange(rows) - np.where(random.random(rows) < 0.06, random.integers(0, 60, rows), 0)
    known = [int(t + random.integers(0, 40 * DAY_MS)) if random.random() < 0.8 else None for t in times]
    return pl.DataFrame(
        {
            "transaction_id": [f"x{abs(i)}" for i in source],
            "card_id": random.integers(0, 5, rows),
            "terminal_id": [f"t{i}" for i in random.integers(0, 4, rows)],
            "amount_minor": random.lognormal(8, 3, rows).astype(np.int64),
            "occurred_at_ms": times,
            "label_is_fraud": [None if k is None else bool(random.random() < 0.3) for k in known],
            "label_known_at_ms": known,
            **places(random, rows),
        }
    )


def places(random: np.random.Generator, rows: int) -> dict[str, Any]:
    """Merchants, devices, countries and places, each absent here and there."""
    here = random.random(rows) < 0.7
    cells = np.column_stack([random.integers(-9000, 9001, 30), random.integers(-18000, 18001, 30)])
    cell = cells[random.integers(0, 30, rows)].tolist()
    return {
        "merchant_id": [int(i) if i else None for i in random.integers(0, 20, rows)],
        "device_id": [f"d{i}" if i else None for i in random.integers(0, 6, rows)],
        "country": [("DE", "FR", "US", None)[i] for i in random.integers(0, 4, rows)],
        "latitude_cdeg": [c[0] if placed else None for c, placed in zip(cell, here, strict=True)],
        "longitude_cdeg": [c[1] if placed else None for c, placed in zip(cell, here, strict=True)],
    }


def expected(table: pl.DataFrame) -> list[tuple[str, bytes]]:
    """(transaction_id, vector) of each served row, by the oracle."""
    rows = table.with_columns(pl.col("card_id").cast(pl.String)).to_dicts()
    labels: dict[int, list[tuple[int, int]]] = {}
    for i, row in enumerate(rows):
        known = row["label_known_at_ms"]
        place = next(
            (j for j, other in enumerate(rows) if known is not None and other["occurred_at_ms"] >= known), None
        )
        if place is not None:
            labels.setdefault(place, []).append((known, i))
    cards, terminals, served = CardOracle(), TerminalOracle(), list[tuple[str, bytes]]()
    for i, row in enumerate(rows):
        for _, of in sorted(labels.get(i, [])):
            about = rows[of]
            terminals.label(
                about["terminal_id"], id_hash(about["transaction_id"]), about["occurred_at_ms"], about["label_is_fraud"]
            )
        _, card, _ = cards.apply(row["card_id"], paid(row))
        if card is not None:
            is_striking = card[NAMES.index("card_amount_over_typical")] > 2.5 or row["amount_minor"] > 22_000
            _, terminal, _ = terminals.apply(row["terminal_id"], replace(paid(row), is_striking=bool(is_striking)))
            if terminal is not None:
                served.append((row["transaction_id"], card.tobytes() + terminal.tobytes()))
    return served


def paid(row: dict[str, Any]) -> Paid:
    place = None if row["latitude_cdeg"] is None else (row["latitude_cdeg"], row["longitude_cdeg"])
    return Paid(
        row["occurred_at_ms"], row["amount_minor"], id_hash(row["transaction_id"]), row["card_id"], row["terminal_id"],
        row["merchant_id"], row["device_id"], row["country"], place,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_the_backfill_of_an_awkward_file_equals_the_oracle_bit_for_bit(seed: int) -> None:
    table = awkward_file(seed)
    result = backfill(table)
    assert result.vectors.columns == ["transaction_id", *NAMES]
    vectors = np.ascontiguousarray(result.vectors.select(NAMES).to_numpy())
    assert vectors.dtype == np.float32
    got = list(zip(result.vectors["transaction_id"].to_list(), [v.tobytes() for v in vectors], strict=True))
    assert got == expected(table)
    counts = result.counts
    assert min(counts[n] for n in ("duplicates", "too late", "of them late", "labels applied")) > 0
    assert counts["transactions"] == counts["served"] + counts["duplicates"] + counts["too late"]


def test_a_file_without_places_is_one_with_nulls_for_them() -> None:
    none = dict.fromkeys(("merchant_id", "device_id", "country", "latitude_cdeg", "longitude_cdeg"))
    with_nulls = pl.DataFrame(GOOD).with_columns(**{name: pl.lit(value) for name, value in none.items()})
    assert backfill(with_nulls).vectors.equals(backfill(pl.DataFrame(GOOD)).vectors, null_equal=True)


def test_labels_may_be_left_out_and_integer_ids_become_text() -> None:
    table = pl.DataFrame(GOOD).drop("label_is_fraud", "label_known_at_ms").with_columns(card_id=pl.Series([7, 7, 8]))
    assert backfill(table).vectors["card_count_30d"].to_list() == [0, 1, 0]


def test_a_label_takes_its_place_before_the_first_transaction_at_its_time() -> None:
    third = TEN + 8 * DAY_MS
    label = {"label_is_fraud": [True, None, None], "label_known_at_ms": [third, None, None]}
    at_its_time = backfill(pl.DataFrame({**GOOD, **label}))
    assert at_its_time.vectors["terminal_fraud_count_7d"].to_list() == [0, 0, 1]
    after = backfill(pl.DataFrame({**GOOD, **label, "label_known_at_ms": [third + 1, None, None]}))
    assert after.vectors["terminal_fraud_count_7d"].to_list() == [0, 0, 0]
    assert after.counts["labels known after the last transaction"] == 1


def test_a_file_without_rows_gives_columns_without_rows() -> None:
    assert backfill(pl.DataFrame(GOOD).clear()).vectors.shape == (0, 1 + len(NAMES))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"amount_minor": [500, -5, 900]}, "column amount_minor, row 2 .*-5"),
    ({"amount_minor": [500, 700, 10**12 + 1]}, "column amount_minor, row 3"),
    ({"amount_minor": pl.Series([500, 2**63, 700], dtype=pl.UInt64)}, "column amount_minor, row 2"),
    ({"amount_minor": [500, None, 900]}, "column amount_minor, row 2 .*null"),
    ({"amount_minor": [5.0, 7.0, 9.0]}, "column amount_minor has type Float64"),
    ({"amount_minor": ["5", "7", "9"]}, "column amount_minor has type String"),
    ({"amount_minor": [True, False, True]}, "column amount_minor has type Boolean"),
    ({"amount_minor": [None, None, None]}, "column amount_minor has type Null"),
    ({"occurred_at_ms": [TEN // 1000, TEN, TEN]}, "column occurred_at_ms, row 1"),
    ({"occurred_at_ms": [TEN, TEN, 0]}, "column occurred_at_ms, row 3"),
    ({"occurred_at_ms": pl.Series([TEN, TEN, TEN]).cast(pl.Datetime("ms"))}, "column occurred_at_ms has type Datetime"),
    ({"transaction_id": ["x1", "", "x3"]}, "column transaction_id, row 2"),
    ({"transaction_id": ["x1", "x2\n", "x3"]}, "column transaction_id, row 2"),
    ({"card_id": ["c1", "c" * 300, "c3"]}, "column card_id, row 2"),
    ({"card_id": ["c1", "c2", None]}, "column card_id, row 3 .*null"),
    ({"card_id": [1, None, 3]}, "column card_id, row 2 .*null"),
    ({"card_id": [1, 2, -3]}, "column card_id, row 3"),
    ({"terminal_id": ["t:1", "t1", "t1"]}, "column terminal_id, row 1"),
    ({"terminal_id": [1.0, 2.0, 3.0]}, "column terminal_id has type Float64"),
    ({"label_is_fraud": [2, None, 0]}, "column label_is_fraud, row 1"),
    ({"label_is_fraud": ["yes", None, "no"]}, "column label_is_fraud has type String"),
    ({"label_is_fraud": [None, None, False]}, "column label_is_fraud, row 1 .*null"),
    ({"label_known_at_ms": [TEN + 1, None, None]}, "column label_known_at_ms, row 3 .*null"),
    ({"label_known_at_ms": [TEN - 1, None, TEN + 9 * DAY_MS]}, "column label_known_at_ms, row 1 .*before"),
    ({"label_known_at_ms": [1.5, None, 2.5]}, "column label_known_at_ms has type Float64"),
    ({"label_known_at_ms": [TEN + 1, None, 10**17]}, "column label_known_at_ms, row 3"),
    ({"merchant_id": ["m1", None, "m 3"]}, "column merchant_id, row 3"),
    ({"device_id": [1.5, None, 2.5]}, "column device_id has type Float64"),
    ({"country": ["DE", None, "de"]}, "column country, row 3 .*two capitals"),
    ({"country": [1, 2, 3]}, "column country has type Int64"),
    ({"latitude_cdeg": [1, 2, 3]}, "column longitude_cdeg is missing"),
    ({"latitude_cdeg": [1, 2, 9001], "longitude_cdeg": [1, 2, 3]}, "column latitude_cdeg, row 3 .*9001"),
    ({"latitude_cdeg": [1, 2, 3], "longitude_cdeg": [1, None, 3]}, "column longitude_cdeg, row 2 .*null"),
    ({"latitude_cdeg": [1.0, 2.0, 3.0], "longitude_cdeg": [1, 2, 3]}, "column latitude_cdeg has type Float64"),
]


@pytest.mark.parametrize(("columns", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_value_is_named_by_column_and_row(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(BadFileError, match=message):
        backfill(pl.DataFrame({**GOOD, **columns}))


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_column_is_named(name: str) -> None:
    with pytest.raises(BadFileError, match=f"column {name} is missing"):
        backfill(pl.DataFrame(GOOD).drop(name))


# -- the command ----------------------------------------------------------------------------------------------------------------


def run(*args: object) -> tuple[int, str]:
    app = typer.Typer()
    app.add_typer(features_app, name="features")
    result = CliRunner().invoke(app, ["features", "backfill", *map(str, args)])
    return result.exit_code, result.output


def test_the_command_writes_the_vectors_and_says_what_became_of_the_rows(tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pl.DataFrame(GOOD).with_columns(extra=pl.lit("ignored")).write_parquet(source)
    code, output = run("--input", source, "--output", target)
    assert code == 0
    assert "3  transactions" in output
    assert pl.read_parquet(target).equals(backfill(pl.DataFrame(GOOD)).vectors, null_equal=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a Parquet file"),
        (b"hello, world, this is text", "not a Parquet file"),
        (None, "cannot be read"),
        (pl.DataFrame({**GOOD, "amount_minor": [1, -1, 1]}), "column amount_minor, row 2"),
    ],
)
def test_a_file_that_is_refused_leaves_the_old_output_as_it_was(
    tmp_path: Path, content: bytes | pl.DataFrame | None, message: str
) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    target.write_text("old")
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif content is not None:
        content.write_parquet(source)
    code, output = run("--input", source, "--output", target)
    assert code == 2
    assert message in output
    assert "Nothing was written" in output
    assert target.read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} <= {"in.parquet", "out.parquet"}


def test_an_output_without_a_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    code, output = run("--input", tmp_path / "in.parquet", "--output", tmp_path / "nowhere" / "out.parquet")
    assert code == 2
    assert "nowhere" in output
