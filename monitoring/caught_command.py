"""`python -m monitoring caught`: how much of each scenario was caught, for a person or a script."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from adapters.kafka_admin import refuse_silence
from adapters.settings import StackSettings
from monitoring.caught import Caught, LogUnreadError, measure_caught


def show_caught(as_json: Annotated[bool, typer.Option("--json", help="print one JSON array")] = False) -> None:
    """How much of each fraud scenario was alerted, how soon, and how much of it is known by now."""
    bootstrap = StackSettings.read().kafka_bootstrap
    try:
        refuse_silence(bootstrap)
        with closing(KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)) as consumer:
            found = measure_caught(consumer)
    except KafkaError as error:
        print(
            f"no Kafka answers at {bootstrap} ({type(error).__name__}): start the stack with `fraudstream up`",
            file=sys.stderr,
        )
        raise typer.Exit(1) from None
    except LogUnreadError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps([asdict(one) for one in found]))
    elif not found:
        print("the log has no fraud yet: stream a world first (`fraudstream world stream`)")
    else:
        Console().print(_table(found))
        print(
            "sent and alerted transactions; cards, and those alerted; from a card's first fraud to its first alert, in event"
        )
        print("time; fraud that labels have told by now. --json also counts the declined.")


def _table(found: list[Caught]) -> Table:
    table = Table(
        "scenario", "sent", "alerted", "", "cards", "alerted", "first after", "known", box=None, padding=(0, 2, 0, 0)
    )
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for one in found:
        wait = "never" if one.seconds_to_alert is None else _duration(one.seconds_to_alert)
        table.add_row(
            f"{one.scenario}\n{one.run_id or 'background'}", f"{one.transactions:,}", f"{one.alerted:,}",
            f"{one.alerted / one.transactions:.0%}", f"{one.cards:,}", f"{one.cards_alerted:,}", wait,
            f"{one.labelled:,}",
        )  # fmt: skip
    return table


def _duration(seconds: float) -> str:
    """Event time, for a person."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
