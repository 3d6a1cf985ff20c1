"""The Handbook benchmark's protocol, data and pages, on rows small enough to see through.

Rule 1. What must not change a result is changed, and what must change it too: a check that cannot fail is no check.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from benchmarks.handbook import page
from benchmarks.handbook.__main__ import DOCS
from benchmarks.handbook.columns import CHOSEN, check_chosen, is_terminal_risk
from benchmarks.handbook.curve import curve_svg
from benchmarks.handbook.nightly import nightly_vectors
from benchmarks.handbook.protocol import Table, Week, judged, learned, run_week, scored, weeks_of
from benchmarks.handbook.published import BAR, MEASURES, SINGLE_SPLIT, day_ms
from benchmarks.handbook.result import read_result
from benchmarks.handbook.rows import BadDataError, delay_ms_of, known_after, read_rows, vectors_of
from cli.__main__ import BENCHES, app
from fraud.features import NAMES, REQUEST_NAMES
from fraud.windows import DAY_MS
from producer import handbook as simulator
from trainer.backfill import backfill

BEGIN_MS = day_ms("2018-04-01")
DAYS, PER_DAY = 40, 60
TEST_MS = BEGIN_MS + 30 * DAY_MS
WEEK = Week(TEST_MS, 7 * DAY_MS, 21)


def made_rows(seed: int = 1) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    count = DAYS * PER_DAY
    times = BEGIN_MS + np.sort(random.choice(DAYS * DAY_MS // 1000, count, replace=False)) * 1000
    return pl.DataFrame(
        {
            "transaction_id": [f"x{i}" for i in range(count)],
            "occurred_at_ms": times,
            "card_id": [f"c{i}" for i in random.integers(0, 90, count)],
            "terminal_id": [f"t{i}" for i in random.integers(0, 40, count)],
            "amount_minor": random.integers(100, 20_000, count),
            "is_fraud": random.random(count) < 0.05,
            "scenario": np.zeros(count, np.int8),
        }
    )


def made_table(rows: pl.DataFrame | None = None) -> Table:
    labelled = known_after(made_rows() if rows is None else rows, 7)
    random = np.random.default_rng(2)
    vectors = random.normal(size=(labelled.height, 2)).astype(np.float32)
    vectors[:, 0] += 1.5 * labelled["is_fraud"].to_numpy()
    return Table(labelled, vectors, ("telling", "noise"))


def with_turned(rows: pl.DataFrame, from_ms: int, to_ms: int) -> pl.DataFrame:
    inside = pl.col("occurred_at_ms").is_between(from_ms, to_ms, closed="left")
    return rows.with_columns(is_fraud=pl.col("is_fraud") ^ inside)


@pytest.mark.parametrize(
    ("from_day", "to_day", "learns"),
    [(2, 23, True), (23, 30, False), (30, 37, False), (0, 2, False)],
    ids=["training window", "delay", "test week", "before the window"],
)
def test_only_labels_of_the_training_window_are_learned_from(from_day: int, to_day: int, learns: bool) -> None:
    #   day 0    2                 23       30        37
    #       -----[---- training ---)[ delay )[  test  )
    table = made_table()
    turned = replace(table, rows=with_turned(table.rows, BEGIN_MS + from_day * DAY_MS, BEGIN_MS + to_day * DAY_MS))
    train = table.between(WEEK.train_from_ms, WEEK.train_to_ms)
    same = np.array_equal(scored(learned(table, train), table.vectors), scored(learned(turned, train), table.vectors))
    assert same is not learns


def test_the_telling_feature_is_found_and_the_same_run_gives_the_same_numbers() -> None:
    table = made_table()
    outcome = run_week(table, WEEK)
    assert outcome.measures[0] > 0.7
    assert run_week(table, WEEK) == outcome


def test_a_card_leaves_the_test_when_its_fraud_of_the_delay_has_matured() -> None:
    #  a fraud on the third day of the delay is known on the third day of the test: gone from the fourth on
    rows = made_rows().with_columns(is_fraud=pl.lit(False), card_id=pl.lit("others"))
    delay = np.flatnonzero((rows["occurred_at_ms"] // DAY_MS).to_numpy() == (TEST_MS - 5 * DAY_MS) // DAY_MS)[0]
    test_day = ((rows["occurred_at_ms"] - TEST_MS) // DAY_MS).to_numpy()
    mine = [int(delay), *(int(np.flatnonzero(test_day == k)[0]) for k in range(7))]
    card = rows["card_id"].to_list()
    fraud = [False] * rows.height
    for i in mine:
        card[i] = "mine"
    fraud[mine[0]] = fraud[mine[1]] = True
    table = made_table(rows.with_columns(card_id=pl.Series(card), is_fraud=pl.Series(fraud)))
    test = table.between(WEEK.test_from_ms, WEEK.test_to_ms)
    _, remained = judged(table, WEEK, np.zeros(test.stop - test.start, np.float32))
    kept = remained.filter(pl.col("card_id") == "mine")["occurred_at_ms"].to_list()
    assert [(ms - TEST_MS) // DAY_MS for ms in kept] == [0, 1, 2]


@pytest.mark.parametrize(
    ("date", "train_days", "words"),
    [
        ("2018-05-05", None, "--test-weeks 2018-05-05"),
        ("2018-04-10", None, "begins 2018-04-15 .. 2018-05-04"),
        ("2018-05-01", 30, "with --train-days 30"),
    ],
    ids=["not whole", "too early", "more training days than there are"],
)
def test_a_week_that_the_data_does_not_have_is_refused_with_the_range(
    date: str, train_days: int | None, words: str
) -> None:
    with pytest.raises(BadDataError, match=words):
        weeks_of(made_rows(), [(date, day_ms(date))], train_days, 7)


def test_the_training_window_is_56_days_or_what_there_is() -> None:
    (week,) = weeks_of(made_rows(), [("2018-05-01", TEST_MS)], None, 7)
    assert week.train_days == 23
    assert week.train_from_ms == BEGIN_MS


def test_one_kind_of_row_is_refused() -> None:
    table = made_table(made_rows().with_columns(is_fraud=pl.lit(False)))
    with pytest.raises(BadDataError, match="0 fraud; both kinds are needed"):
        run_week(table, WEEK)


def test_no_label_is_known_with_its_own_transaction() -> None:
    known = known_after(made_rows(), 0)
    assert (known["label_known_at_ms"] - known["occurred_at_ms"]).unique().to_list() == [1]


# -- the data -----------------------------------------------------------------------------------------------------------


def published_form(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        pl.int_range(pl.len()).alias("TRANSACTION_ID"),
        pl.from_epoch("occurred_at_ms", "ms").alias("TX_DATETIME"),
        pl.col("card_id").str.tail(-1).cast(pl.Int64).alias("CUSTOMER_ID"),
        pl.col("terminal_id").str.tail(-1).cast(pl.Int64).alias("TERMINAL_ID"),
        (pl.col("amount_minor") / 100).alias("TX_AMOUNT"),
        pl.col("is_fraud").cast(pl.Int64).alias("TX_FRAUD"),
        pl.col("scenario").cast(pl.Int64).alias("TX_FRAUD_SCENARIO"),
    )


def nothing(line: str) -> None:
    """No progress."""


def test_a_published_file_and_a_world_file_give_the_same_rows(tmp_path: Path) -> None:
    published_form(made_rows()).write_parquet(tmp_path / "published.parquet")
    made_rows().write_parquet(tmp_path / "world.parquet")
    ours, theirs = (read_rows(str(tmp_path / f"{name}.parquet"), 1, nothing) for name in ("world", "published"))
    assert theirs.drop("transaction_id").equals(
        ours.select(simulator.COLUMNS).drop("transaction_id").select(theirs.columns[1:])
    )


def test_simulated_rows_are_the_simulators(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def world(seed: int, days: int) -> pl.DataFrame:
        asked.append((seed, days))
        return made_rows()

    monkeypatch.setattr(simulator, "world", world)
    read_rows("simulate", 30, nothing)
    read_rows("simulate:12", 31, nothing)
    assert asked == [(0, 30), (12, 31)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"PAR1 or not"), "not a Parquet file"),
        (lambda path: published_form(made_rows()).drop("TX_AMOUNT").write_parquet(path), "column TX_AMOUNT is missing"),
        (lambda path: made_rows().reverse().write_parquet(path), "not in order of time"),
        (lambda path: made_rows()[:0].write_parquet(path), "no rows"),
    ],
    ids=["none", "another format", "a column missing", "backwards", "empty"],
)
def test_a_file_that_is_none_of_these_is_refused_by_what_is_wrong(tmp_path: Path, make: object, words: str) -> None:
    assert callable(make)
    make(tmp_path / "rows.parquet")
    with pytest.raises(BadDataError, match=words):
        read_rows(str(tmp_path / "rows.parquet"), 1, nothing)


@pytest.mark.parametrize("data", ["simulate:", "simulate:-1", "simulate:100001", "simulate:x"])
def test_a_seed_out_of_range_is_refused(data: str) -> None:
    with pytest.raises(BadDataError, match=r"0 \.\. 100000"):
        read_rows(data, 30, nothing)


# -- nightly vectors ----------------------------------------------------------------------------------------------------


def test_a_nightly_vector_is_what_a_transaction_at_midnight_would_have_got() -> None:
    labelled = known_after(made_rows(), 7)
    times = labelled["occurred_at_ms"].to_numpy()
    first, after = np.searchsorted(times, [TEST_MS, TEST_MS + 2 * DAY_MS]).tolist()
    nightly = nightly_vectors(labelled, slice(first, after), NAMES, 7 * DAY_MS)
    history = slice(len(REQUEST_NAMES), None)
    differs = 0
    for i in (first, first + 7, after - 1):
        midnight_ms = int(times[i]) // DAY_MS * DAY_MS
        probe = labelled[i].with_columns(pl.lit(midnight_ms).alias("occurred_at_ms"))
        before = labelled.filter(pl.col("occurred_at_ms") < midnight_ms)
        expected = backfill(pl.concat([before, probe])).vectors[-1, 1:].to_numpy()[0]
        assert nightly[i - first, history].tobytes() == np.asarray(expected, np.float32)[history].tobytes()
        fresh = backfill(labelled[: i + 1]).vectors[-1, 1:].to_numpy()[0]
        differs += not np.array_equal(nightly[i - first, history], fresh[history], equal_nan=True)
    assert differs == 3  # the control: fresh vectors are others


def test_another_label_delay_moves_the_risk_windows_and_nothing_else() -> None:
    #  every label three days late: a fold that waits three days counts what the stream's, which waits seven, does not
    rows = made_rows().with_columns(terminal_id=pl.lit("t"), is_fraud=pl.lit(True))
    waits = {days: vectors_of(known_after(rows, days), NAMES, delay_ms_of(days), nothing) for days in (7, 3)}
    times = rows["occurred_at_ms"].to_numpy()
    at = len(times) - 1
    for days, vectors in waits.items():
        low, high = np.searchsorted(times, times[at] - days * DAY_MS - np.array([DAY_MS, 0]), side="right")
        assert vectors[at, NAMES.index("terminal_fraud_count_1d")] == high - low
    others = [i for i, name in enumerate(NAMES) if not is_terminal_risk(name)]
    assert waits[7][:, others].tobytes() == waits[3][:, others].tobytes()
    assert waits[7].tobytes() != waits[3].tobytes()


def test_terminal_risk_is_what_labels_at_the_terminal_tell() -> None:
    assert is_terminal_risk("terminal_fraud_share_7d")
    assert is_terminal_risk("terminal_days_since_last_fraud")
    assert not is_terminal_risk("terminal_count_7d")
    assert not is_terminal_risk("card_count_7d")
    assert any(is_terminal_risk(name) for name in CHOSEN)
    check_chosen()


# -- pages and command --------------------------------------------------------------------------------------------------


def test_the_committed_page_is_drawn_from_the_committed_result() -> None:
    result = read_result(DOCS / page.RESULT_FILE)
    assert (DOCS / "handbook.md").read_text() == page.markdown(result), (
        "run: fraudstream bench handbook --data FILE --docs"
    )
    worse = msgspec.structs.replace(result.prequential[0], mean=(0.1, 0.2, 0.3))
    changed = msgspec.structs.replace(result, prequential=(worse, *result.prequential[1:]))
    assert page.markdown(changed) != page.markdown(result)
    assert page.text(changed) != page.text(result)


def test_the_curve_is_the_same_bytes_for_the_same_result_and_others_for_another() -> None:
    result = read_result(DOCS / page.RESULT_FILE)
    assert curve_svg(result) == curve_svg(result)
    moved = msgspec.structs.replace(result, by_delay={**result.by_delay, "7": (0.5, 0.5, 0.5)})
    assert curve_svg(moved) != curve_svg(result)
    assert (DOCS / page.CURVE_FILE).read_bytes().startswith(b"<?xml")


def test_the_committed_result_is_of_the_published_rows_and_of_features_that_exist() -> None:
    result = read_result(DOCS / page.RESULT_FILE)
    assert result.published_rows
    assert result.features == CHOSEN
    assert set(result.bars) and len(result.by_delay) == 4 and len(result.ablations) == 4


def test_a_bar_is_missed_by_a_hair_and_reached_exactly() -> None:
    best = tuple(max(row[i] for row in SINGLE_SPLIT.values()) for i in range(len(MEASURES)))
    above = (best[0] + 1e-9, best[1] + 1e-9, best[2] + 1e-9)
    assert all(page.bars(above, BAR).values())
    for i in range(len(MEASURES)):
        below = [*BAR]
        below[i] -= 1e-9
        assert list(page.bars(above, (below[0], below[1], below[2])).values()).count(False) == 1
    assert list(page.bars((best[0], best[1], best[2]), BAR).values()).count(False) == 3


@pytest.mark.parametrize("name", sorted(BENCHES))
def test_help_names_every_benchmark(name: str) -> None:
    assert f" {name} " in CliRunner().invoke(app, ["bench", "--help"]).output
