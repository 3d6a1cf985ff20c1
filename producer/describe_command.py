"""`python -m producer world describe`: look at a world before anything is streamed.

Rule 1. Nothing of the stack is needed: the days are made here, counted, and forgotten.
Rule 2. Results go to standard output or into the picture, progress to standard error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import track

from producer.command import EXIT_BAD_INPUT, JsonOption, fail
from producer.whole_file import write_whole
from producer.world.days import DAYS_MAX, check_days
from producer.world.describe import show
from producer.world.drift import Drift
from producer.world.population import CARDS_DEFAULT, CARDS_MAX
from producer.world.summary import Summary
from producer.world.world import World
from producer.world_commands import parse_drift

PNG_SUFFIX: Final = ".png"


def describe(
    cards: Annotated[int, typer.Option(help=f"how many cards, 1 .. {CARDS_MAX:,}")] = CARDS_DEFAULT,
    days: Annotated[int, typer.Option(help=f"the first so many days, 1 .. {DAYS_MAX}")] = 60,
    seed: Annotated[int, typer.Option(help="0 or more: another seed, other people and other days")] = 0,
    drift: Annotated[
        list[str] | None,
        typer.Option("--drift", metavar="NAME=VALUE", help="a change of the world, such as sales_day=30"),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="also draw it into this file")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show amounts, hours, weekdays, merchants, countries, fraud by scenario and label delays of a world."""
    if png is not None and (png.suffix.lower() != PNG_SUFFIX or not png.parent.is_dir()):
        fail(f"--png {png}: a name that ends in {PNG_SUFFIX}, in a folder that exists, is expected", EXIT_BAD_INPUT)
    summary = _summary(World(seed, cards, _drift(drift or [])), days)
    if png is not None and not summary.transactions:
        fail("there is nothing to draw: nobody paid; take more --cards or more --days", EXIT_BAD_INPUT)
    if as_json:
        typer.echo(json.dumps(summary.as_dict()))
    else:
        show(Console(), summary)
    if png is not None:
        _draw(summary, png)


def _drift(given: list[str]) -> Drift:
    try:
        return parse_drift(given)
    except ValueError as error:
        fail(str(error), EXIT_BAD_INPUT)


def _summary(world: World, days: int) -> Summary:
    try:
        check_days(days)
        summary = Summary(world.population)
    except ValueError as error:
        fail(f"--{error}", EXIT_BAD_INPUT)
    for rows in track(world.days(days), "making the days", days, console=Console(stderr=True), transient=True):
        summary.add(rows)
    return summary


def _draw(summary: Summary, path: Path) -> None:
    from producer.world.picture import draw  # matplotlib takes half a second to load, and only a picture needs it

    try:
        write_whole(path, lambda beside: draw(summary, beside))
    except OSError as error:
        fail(f"--png {path}: cannot be written ({error.strerror}): give another path", EXIT_BAD_INPUT)
    typer.echo(f"drawn into {path}", err=True)
