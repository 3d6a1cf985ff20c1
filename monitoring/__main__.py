"""`python -m monitoring parity`: the commands that watch the running stack, wired here and nowhere else.

Rule 1. Exit codes: 0 all is well, 1 it is not, 2 an impossible setting, 3 there is nothing to look at yet.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from math import isinf
from typing import Annotated

import typer

from adapters.lake import Lake, LakeGapError
from adapters.settings import StackSettings
from monitoring.caught_command import show_caught
from monitoring.parity import NothingServedError, Parity, measure_parity

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Watch what the stack serves.")


@app.callback()
def _monitoring() -> None:
    """Watch what the stack serves."""


@app.command()
def parity(
    everything: Annotated[bool, typer.Option("--all", help="compare every vector that was served")] = False,
    sample: Annotated[
        int | None, typer.Option(min=1, help="compare about that many, chosen by the hash of their id")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Compute the served vectors again from the lake and compare them bit for bit."""
    if everything == (sample is not None):
        print("give either --all or --sample N", file=sys.stderr)
        raise typer.Exit(2)
    settings = StackSettings.read()
    started_s = time.monotonic()
    try:
        found = measure_parity(
            Lake(settings.lake), settings.partitions, sample, lambda line: print(line, file=sys.stderr)
        )
    except NothingServedError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(3) from None
    except LakeGapError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    elapsed_s = time.monotonic() - started_s
    print(_json(found, elapsed_s) if as_json else _text(found, elapsed_s))
    raise typer.Exit(0 if found.holds else 1)


def _json(found: Parity, elapsed_s: float) -> str:
    """One JSON object; a difference from `no value` is null, for JSON has no infinity."""
    largest = {name: None if isinf(value) else value for name, value in found.largest_difference.items()}
    return json.dumps(
        {"holds": found.holds, "seconds": round(elapsed_s, 1), **asdict(found), "largest_difference": largest}, indent=1
    )


def _text(found: Parity, elapsed_s: float) -> str:
    lines = [
        f"compared        {found.compared:>12,} vectors in {elapsed_s:.1f} s",
        f"mismatched      {found.mismatched_rows:>12,}",
        f"missing         {found.missing:>12,}",
        f"extra           {found.extra:>12,}",
        f"repeated        {found.repeated:>12,}",
        f"pending         {found.pending:>12,}  not in the lake yet",
        f"dead letters    {found.refused:>12,}  records that are no transaction",
        f"not accepted    {found.not_accepted:>12,}  duplicates and too late ones",
    ]
    lines += [
        f"  {name}: {count:,} rows differ, by up to {found.largest_difference[name]:g}"
        for name, count in found.mismatches.items()
        if count
    ]
    return "\n".join([*lines, "parity holds, bit for bit" if found.holds else "PARITY IS BROKEN"])


app.command("caught")(show_caught)

if __name__ == "__main__":
    app()
