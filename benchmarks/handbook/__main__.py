"""`python -m benchmarks.handbook`, which is `fraudstream bench handbook`: published and own results side by side.

Rule 1. Nothing is streamed: rows come from a file or the simulator, vectors from the backfill of the stream's fold.
Rule 2. Exit codes: 0 measured, 1 a bar is missed and --enforce was given, 2 an option that cannot be.
Rule 3. The tables go to stdout, progress to stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, NoReturn

import polars as pl
import typer

from benchmarks.handbook import page
from benchmarks.handbook.ablations import all_ablations
from benchmarks.handbook.columns import CHOSEN, check_chosen
from benchmarks.handbook.curve import curve_svg
from benchmarks.handbook.protocol import (
    WEEK_MS,
    Outcome,
    Table,
    Week,
    booster_settings,
    mean,
    run_week,
    standard_error,
    weeks_of,
)
from benchmarks.handbook.published import (
    CEILING,
    CHOOSING_WEEKS,
    TEST_WEEK_COUNTS,
    TEST_WEEKS,
    TRAINING_WEEK_COUNTS,
    Row,
    day_ms,
)
from benchmarks.handbook.result import AblationResult, Measured, Result, to_json
from benchmarks.handbook.rows import BadDataError, delay_ms_of, known_after, read_rows, vectors_of
from benchmarks.machine import machine
from fraud.features import FEATURE_HASH
from producer.handbook import DAYS
from trainer.fit import FIT

EXIT_MISSED: Final = 1
EXIT_OPTION: Final = 2
BOOK_DAYS: Final = 7
DELAY_DAYS_MAX: Final = 28
DOCS: Final = Path(__file__).parents[2] / "docs"


def command(
    data: Annotated[
        str, typer.Option(help="the Handbook's Parquet file, or simulate[:SEED]; simulate:0 is the published world")
    ],
    test_weeks: Annotated[
        str, typer.Option(help="first days of the test weeks, ISO dates with commas; the first is the single split's")
    ] = ",".join(TEST_WEEKS),
    train_days: Annotated[
        int | None,
        typer.Option(min=7, max=DAYS, help="days to learn from; default 56, or what the data has before the week"),
    ] = None,
    label_delay_days: Annotated[
        float, typer.Option(min=0, max=DELAY_DAYS_MAX, help="days after which a label is known")
    ] = 7,
    days: Annotated[int, typer.Option(min=21, max=DAYS, help="days to simulate, from 2018-04-01")] = DAYS,
    ablations: Annotated[bool, typer.Option("--ablations", help="the four mistakes too")] = False,
    delay_curve: Annotated[bool, typer.Option("--delay-curve", help="label delays of 7, 3, 1 and 0 days too")] = False,
    docs: Annotated[
        bool, typer.Option("--docs", help="all of it, written to docs/handbook.{json,md} and the curve")
    ] = False,
    enforce: Annotated[bool, typer.Option("--enforce", help="exit code 1 when a bar is missed")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as one JSON object")] = False,
) -> None:
    """Train and test by the Handbook's protocol; print published and own results side by side."""
    started_s = time.perf_counter()
    check_chosen()
    try:
        dates = _dates(test_weeks)
        result = _measure(data, days, dates, train_days, label_delay_days, ablations or docs, delay_curve or docs, docs)
    except BadDataError as error:
        _end(EXIT_OPTION, str(error))
    result = _timed(result, time.perf_counter() - started_s)
    if docs:
        (DOCS / page.RESULT_FILE).write_text(to_json(result) + "\n")
        (DOCS / "handbook.md").write_text(page.markdown(result))
        (DOCS / page.CURVE_FILE).write_bytes(curve_svg(result))
    print(to_json(result) if as_json else page.text(result))
    if enforce and not (result.bars and all(result.bars.values())):
        _end(
            EXIT_MISSED,
            "a bar is missed" if result.bars else "--enforce: bars apply to the published rows, weeks and delay only",
        )


def _dates(text: str) -> list[tuple[str, int]]:
    dates = []
    for date in (part.strip() for part in text.split(",")):
        try:
            dates.append((date, day_ms(date)))
        except ValueError:
            raise BadDataError(f"--test-weeks {date!r}: give ISO dates with commas, such as {TEST_WEEKS[0]}") from None
    if len(set(dates)) != len(dates):
        raise BadDataError(f"--test-weeks {text}: a week is given twice; give each once")
    return dates


def _measure(
    data: str,
    days: int,
    dates: Sequence[tuple[str, int]],
    train_days: int | None,
    delay_days: float,
    ablations: bool,
    delay_curve: bool,
    choosing: bool,
) -> Result:
    rows = read_rows(data, days, _say)
    weeks = weeks_of(rows, dates, train_days, delay_days)  # before the fold, which takes longest
    table = _table(rows, delay_days)
    names = [date for date, _ in dates]
    outcomes = _run(table, weeks)
    book = _run(table, weeks_of(rows, dates, BOOK_DAYS, delay_days))
    is_published = _is_published(table, weeks[0], outcomes[0])
    prequential = tuple(
        _measured(o, w, names) for o, w in ((outcomes, weeks), (book, [Week(weeks[0].test_from_ms, 0, 7)]))
    )
    single = _measured(outcomes[:1], weeks, names)
    chosen = (
        weeks_of(rows, [(date, day_ms(date)) for date in CHOOSING_WEEKS], train_days, delay_days) if choosing else []
    )
    applies = is_published and tuple(names) == TEST_WEEKS and delay_days == 7
    return Result(
        data=Path(data).name,
        published_rows=is_published,
        rows=rows.height,
        label_delay_days=delay_days,
        test_weeks=tuple(names),
        single_split=single,
        single_split_week=names[0],
        prequential=prequential,
        choosing=_measured(_run(table, chosen), chosen, list(CHOOSING_WEEKS)) if chosen else None,
        ablations=tuple(
            AblationResult(a.name, a.lesson, a.promised, a.delivered)
            for a in all_ablations(table, weeks, mean(outcomes), _say)
        )
        if ablations
        else (),
        by_delay=_by_delay(rows, dates, train_days, {delay_days: mean(outcomes)}) if delay_curve else {},
        bars=page.bars(single.mean, mean(outcomes)) if applies else {},
        features=CHOSEN,
        feature_hash=FEATURE_HASH,
        settings={"rounds": FIT.rounds, **booster_settings(FIT)},
        machine=machine("XGBoost"),
        seconds=0.0,
    )


def _table(rows: pl.DataFrame, delay_days: float) -> Table:
    labelled = known_after(rows, delay_days)
    return Table(labelled, vectors_of(labelled, CHOSEN, delay_ms_of(delay_days), _say), CHOSEN)


def _run(table: Table, weeks: Sequence[Week]) -> list[Outcome]:
    outcomes = []
    for week in weeks:
        outcomes.append(run_week(table, week))
        auc, ap, cp = outcomes[-1].measures
        date = time.strftime("%Y-%m-%d", time.gmtime(week.test_from_ms / 1000))
        _say(f"test week {date}, {week.train_days} training days: AUC {auc:.3f}, AP {ap:.3f}, CP@100 {cp:.3f}")
    return outcomes


def _measured(outcomes: Sequence[Outcome], weeks: Sequence[Week], dates: Sequence[str]) -> Measured:
    per_week = {date: outcome.measures for date, outcome in zip(dates, outcomes, strict=False)}
    days = weeks[0].train_days
    return Measured(f"{days} training days", days, mean(outcomes), standard_error(outcomes), per_week)


def _by_delay(
    rows: pl.DataFrame, dates: Sequence[tuple[str, int]], train_days: int | None, known: dict[float, Row]
) -> dict[str, Row]:
    """Our means for each delay of the ceiling; `known` are those that are measured already."""
    found: dict[str, Row] = {}
    for delay_days in CEILING:
        if delay_days not in known:
            _say(f"label delay {delay_days:g} days")
            table = _table(rows, delay_days)
            known[delay_days] = mean(_run(table, weeks_of(rows, dates, train_days, delay_days)))
        found[f"{delay_days:g}"] = known[delay_days]
    return found


def _is_published(table: Table, week: Week, outcome: Outcome) -> bool:
    """Whether the single split has the published numbers of rows and frauds."""
    where = table.between(week.train_to_ms - WEEK_MS, week.train_to_ms)
    training = (where.stop - where.start, int(table.labels(where).sum()))
    return training == TRAINING_WEEK_COUNTS and (outcome.test_rows, outcome.test_fraud) == TEST_WEEK_COUNTS


def _timed(result: Result, seconds: float) -> Result:
    import msgspec

    return msgspec.structs.replace(result, seconds=round(seconds, 1))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _end(code: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    app(prog_name="fraudstream bench handbook")
