"""`python -m benchmarks.paths`, which is `fraudstream bench paths`: what streaming features find and nightly ones do not.

Rule 1. Exit codes: 0 measured, 1 a bar is missed and --enforce was given, 2 an option that cannot be.
Rule 2. The tables go to stdout, progress to stderr.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from benchmarks.machine import machine
from benchmarks.paths import page
from benchmarks.paths.result import Result, Settings, to_json
from benchmarks.paths.run import TooShortError, run

EXIT_MISSED: Final = 1
EXIT_OPTION: Final = 2
DOCS: Final = Path(__file__).parents[2] / "docs"
_DEFAULT: Final = Settings()


def command(
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="of the world")] = _DEFAULT.seed,
    cards: Annotated[int, typer.Option(min=100, max=100_000, help="how many cards it has")] = _DEFAULT.cards,
    days: Annotated[int, typer.Option(min=30, max=365, help="its first so many days")] = _DEFAULT.days,
    train_days: Annotated[int, typer.Option(min=7, max=180, help="days to learn from")] = _DEFAULT.train_days,
    test_days: Annotated[int, typer.Option(min=1, max=180, help="newest days, which judge")] = _DEFAULT.test_days,
    alerts_per_day: Annotated[
        int, typer.Option(min=1, max=100_000, help="transactions a day that are looked at")
    ] = _DEFAULT.alerts_per_day,
    docs: Annotated[bool, typer.Option("--docs", help="write docs/two-paths.{json,md}")] = False,
    enforce: Annotated[bool, typer.Option("--enforce", help="exit code 1 when a bar is missed")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as one JSON object")] = False,
) -> None:
    """Measure both paths on the same transactions of a generated world; print recall by scenario side by side."""
    started_s = time.perf_counter()
    try:
        result = run(Settings(seed, cards, days, train_days, test_days, alerts_per_day), _say)
    except TooShortError as error:
        _say(str(error))
        raise typer.Exit(EXIT_OPTION) from None
    result = msgspec.structs.replace(
        result, machine=machine("XGBoost"), seconds=round(time.perf_counter() - started_s, 1)
    )
    if docs:
        write_docs(result, DOCS)
    print(to_json(result) if as_json else page.text(result))
    if enforce and not all(page.bars(result).values()):
        _say("a bar is missed")
        raise typer.Exit(EXIT_MISSED)


def write_docs(result: Result, folder: Path) -> None:
    """The result and its page."""
    (folder / page.RESULT_FILE).write_text(to_json(result) + "\n")
    (folder / page.PAGE_FILE).write_text(page.markdown(result))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    app(prog_name="fraudstream bench paths")
