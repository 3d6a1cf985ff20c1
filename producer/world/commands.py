"""`python -m producer world describe`: look at a world before anything is streamed.

Rule 1. Exit codes: 0 done, 2 a parameter out of range or a file that cannot be written.
Rule 2. Results go to standard output, progress to standard error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import track

from producer.whole_file import write_whole
from producer.world.days import DAYS_MAX, check_days
from producer.world.describe import show
from producer.world.population import CARDS_DEFAULT, CARDS_MAX
from producer.world.summary import Summary
from producer.world.world import World

EXIT_BAD_INPUT: Final = 2
PNG_SUFFIX: Final = ".png"


def describe(
    cards: Annotated[int, typer.Option(help=f"how many cards, 1 .. {CARDS_MAX:,}")] = CARDS_DEFAULT,
    days: Annotated[int, typer.Option(help=f"the first so many days, 1 .. {DAYS_MAX}")] = 60,
    seed: Annotated[int, typer.Option(help="0 or more: another seed, other people and other days")] = 0,
    png: Annotated[Path | None, typer.Option(help="also draw it into this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead")] = False,
) -> None:
    """Show amounts, hours, weekdays, merchants, countries, fraud by scenario and label delays of a world."""
    if png is not None and (png.suffix.lower() != PNG_SUFFIX or not png.parent.is_dir()):
        _fail(f"--png {png}: a name that ends in {PNG_SUFFIX}, in a folder that exists, is expected")
    try:
        chosen = World(seed, cards)
        check_days(days)
        population = chosen.population
    except ValueError as error:
        _fail(f"--{error}")
    summary = Summary(population)
    for rows in track(chosen.days(days), "making the days", days, console=Console(stderr=True), transient=True):
        summary.add(rows)
    if as_json:
        typer.echo(json.dumps(summary.as_dict()))
    else:
        show(Console(), summary)
    if png is not None:
        _draw(summary, png)


def _draw(summary: Summary, path: Path) -> None:
    from producer.world.picture import draw  # matplotlib takes half a second to load, and only a picture needs it

    try:
        write_whole(path, lambda beside: draw(summary, beside))
    except OSError as error:
        _fail(f"--png {path}: cannot be written ({error.strerror}): give another path")
    typer.echo(f"drawn into {path}", err=True)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(EXIT_BAD_INPUT)
