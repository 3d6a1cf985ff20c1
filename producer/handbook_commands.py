"""`python -m producer handbook | verify-handbook`: the Handbook world into Kafka, and the proof that it is the published one."""

from __future__ import annotations

import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from adapters.telemetry import configure_logging, serve_metrics
from fraud.windows import DAY_MS
from producer import handbook as simulator
from producer.command import (
    EXIT_BAD_INPUT,
    EXIT_INCOMPLETE,
    JsonOption,
    SpeedOption,
    checked_topics,
    fail,
    parse_speed,
    parse_time_ms,
    show,
    stop_on_signals,
    streamed,
    target_of,
)
from producer.outcome import connect
from producer.position import Position, PositionFile, resume
from producer.progress import Meter
from producer.replay import Run, Summary, run
from producer.settings import ProducerSettings
from producer.transaction_file import TransactionFile
from producer.worlds import (
    PUBLISHED_FRAUD,
    PUBLISHED_ROWS,
    PUBLISHED_SCENARIOS,
    compare,
    handbook_file,
    published,
    world_digest,
)

SeedOption = Annotated[int, typer.Option(min=0, max=simulator.SEED_MAX, help="0 is the published world")]


def world_path(settings: ProducerSettings, seed: int, stop: threading.Event) -> Path:
    """The file of a Handbook world, generated with progress when it is not there yet; `stop` ends the process."""
    with Meter({"customers simulated": simulator.CUSTOMERS}, "customers") as meter:

        def progress(done: int, _: int) -> None:
            meter.update("customers simulated", done)
            if stop.is_set():
                raise typer.Exit(0)

        return handbook_file(settings.worlds, seed, simulator.DAYS, progress, settings.world_processes or None)


def stream_handbook(
    settings: ProducerSettings, seed: int, until_ms: int | None, speed: float, wait: bool, stop: threading.Event
) -> Summary:
    """Stream a Handbook world from where it stopped. Raises PositionError and what replay.run() raises."""
    file = TransactionFile(world_path(settings, seed, stop))
    extent = file.check(until_ms=until_ms)
    position_file = PositionFile(settings.position_file, f"handbook-{seed}")
    checked_topics(settings)
    with closing(connect(settings.kafka_bootstrap)) as consumer:
        position = resume(position_file.load(), consumer, settings.partitions, f"h{seed}-")
    if position.rows >= extent.rows:
        typer.echo(f"nothing to send: {position.rows:,} transactions of this world were sent before", err=True)
    elif position != Position():
        typer.echo(f"continues after {position.rows:,} of {extent.rows:,} transactions", err=True)
    return run(Run(file, extent, speed, position, position_file.save), target_of(settings), wait, stop)


def handbook(
    until_day: Annotated[
        int | None, typer.Option(min=1, max=simulator.DAYS, help="stop after this many days of the world")
    ] = None,
    until: Annotated[str | None, typer.Option(help="stop before the first transaction at or after this time")] = None,
    speed: SpeedOption = "1440",
    seed: SeedOption = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="wait until all of it is scored")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stream the Handbook world, from where it stopped; the time of a pause is not caught up."""
    settings = ProducerSettings.read()
    configure_logging(settings, "producer")
    stop = stop_on_signals()
    factor = parse_speed(speed)
    until_ms = None if until is None else parse_time_ms(until)
    if until_day is not None:
        until_ms = min(until_ms or sys.maxsize, simulator.BEGIN_MS + until_day * DAY_MS)
    serve_metrics(settings, lambda: None)
    summary = streamed(settings, lambda: stream_handbook(settings, seed, until_ms, factor, wait, stop))
    show(summary, as_json)


def verify_handbook(
    data: Annotated[Path, typer.Option(help="the published file, handbook_2018-04-01_to_2018-09-04.parquet")],
    processes: Annotated[int, typer.Option(min=0, help="0: one per CPU")] = 0,
) -> None:
    """Generate the whole world anew and compare it with the published one, as a multiset."""
    try:
        theirs = published(data)
    except (OSError, pl.exceptions.PolarsError) as error:
        fail(f"--data {data}: cannot be read as the published file: {error}", EXIT_BAD_INPUT)
    with Meter({"customers simulated": simulator.CUSTOMERS}, "customers") as meter:
        mine = simulator.world(
            progress=lambda done, _: meter.update("customers simulated", done), processes=processes or None
        )
    scenarios = {number: int((mine["scenario"] == number).sum()) for number in PUBLISHED_SCENARIOS}
    facts = [("rows", mine.height, PUBLISHED_ROWS), ("fraud", int(mine["is_fraud"].sum()), PUBLISHED_FRAUD)]
    facts += [(f"scenario {number}", count, PUBLISHED_SCENARIOS[number]) for number, count in scenarios.items()]
    for name, count, expected in facts:
        typer.echo(
            f"{name:12} {count:>10,}   published {expected:>10,}   {'equal' if count == expected else 'DIFFERS'}"
        )
    end_ms = int(theirs["occurred_at_ms"].max()) // DAY_MS * DAY_MS + DAY_MS  # type: ignore[arg-type]  # not null
    result = compare(mine.filter(mine["occurred_at_ms"] < end_ms), theirs)
    last_day = datetime.fromtimestamp(end_ms / 1000 - 1, UTC).date()
    typer.echo(
        f"to {last_day}: {result.generated:,} generated, {result.published:,} published; only generated "
        f"{result.only_generated:,}, only published {result.only_published:,}: {'equal' if result.equal else 'DIFFERS'}"
    )
    typer.echo(f"sha256 of the generated columns: {world_digest(mine)}")
    if not result.equal or any(count != expected for _, count, expected in facts):
        raise typer.Exit(EXIT_INCOMPLETE)
