"""`python -m producer replay | handbook | demo | verify-handbook | world`: the commands, wired here and nowhere else.

Rule 1. Settings are read once, here.
Rule 2. Exit codes: 0 done or stopped on request, 1 not all of it came through, 2 a bad file, argument or setting,
        70 restart me (a broker away while streaming), 130 a replay was interrupted.
Rule 3. Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, NoReturn, TypeVar

import polars as pl
import typer
from kafka import KafkaProducer

from adapters.telemetry import configure_logging, serve_metrics
from fraud import topics
from fraud.control import Retrain
from fraud.windows import DAY_MS
from producer import handbook as simulator
from producer.clock import MAX
from producer.outcome import StackMissingError, StalledError, connect, end_offsets
from producer.position import Position, PositionError, PositionFile, resume
from producer.progress import Meter
from producer.replay import Run, Summary, Target, run
from producer.settings import ProducerSettings
from producer.streamer import SEND_ERRORS
from producer.transaction_file import BadFileError, TransactionFile
from producer.world import commands as world_commands
from producer.worlds import (
    PUBLISHED_FRAUD,
    PUBLISHED_ROWS,
    PUBLISHED_SCENARIOS,
    compare,
    handbook_file,
    published,
    world_digest,
)

EXIT_INCOMPLETE: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_RESTART: Final = 70
EXIT_INTERRUPTED: Final = 130
_T = TypeVar("_T")

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make transactions and stream them, or a file of them."
)

app.add_typer(world_commands.app, name="world")

SpeedOption = Annotated[str, typer.Option(help="`max`, or event time per real time: 1440 is a day per minute")]
SeedOption = Annotated[int, typer.Option(min=0, max=simulator.SEED_MAX, help="0 is the published world")]
JsonOption = Annotated[bool, typer.Option("--json", help="print the result as one JSON object")]


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on standard error, and end."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def parse_speed(text: str) -> float:
    """`max` or a number above 0."""
    try:
        speed = MAX if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        fail(f"--speed {text}: it must be `max` or a number above 0, such as 1440", EXIT_BAD_INPUT)
    return speed


def parse_time_ms(text: str) -> int:
    """An ISO date or time (UTC unless it says otherwise), or epoch milliseconds."""
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(
            f"--until {text}: an ISO date or time, or epoch milliseconds, is expected, such as 2018-06-01",
            EXIT_BAD_INPUT,
        )
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def target_of(settings: ProducerSettings) -> Target:
    """Where the settings say that the stack is."""
    return Target(
        bootstrap=settings.kafka_bootstrap,
        redis_url=settings.redis_url,
        partitions=settings.partitions,
        scorer_group=settings.scorer_group,
        stall_seconds_max=settings.stall_seconds_max,
    )


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def on_the_stack(work: Callable[[], _T], settings: ProducerSettings, code_without_broker: int) -> _T:
    """Do `work`; turn what can be wrong with the stack into a message and an exit code."""
    try:
        return work()
    except StackMissingError as error:
        fail(str(error), EXIT_BAD_INPUT)
    except StalledError as error:
        fail(str(error), EXIT_INCOMPLETE)
    except SEND_ERRORS as error:
        fail(
            f"the broker at {settings.kafka_bootstrap} does not answer or refuses ({type(error).__name__}: {error}): "
            "start the stack (fraudstream up), or set FRAUD_KAFKA_BOOTSTRAP to where it listens",
            code_without_broker,
        )


def checked_topics(settings: ProducerSettings) -> None:
    """Refuse a broker without the stack's topics."""
    with closing(connect(settings.kafka_bootstrap)) as consumer:
        for topic in (topics.TRANSACTIONS, topics.LABELS):
            end_offsets(consumer, topic, settings.partitions)


def show(summary: Summary, as_json: bool) -> None:
    """Print what a run did."""
    typer.echo(json.dumps(summary.as_dict()) if as_json else "\n".join(summary.lines()))


@app.command()
def replay(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet: the Handbook's columns, or fraudstream's own")],
    speed: SpeedOption = "max",
    rows: Annotated[int | None, typer.Option(min=1, help="stream only the first N rows")] = None,
    until: Annotated[str | None, typer.Option(help="stop before the first transaction at or after this time")] = None,
    label_delay_days: Annotated[float, typer.Option(min=0, help="days from a transaction to its label")] = 7.0,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="send the file's labels too")] = True,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="wait until all of it is scored")] = True,
    as_json: JsonOption = False,
) -> None:
    """Stream a file of transactions through the running stack.

    The whole file is checked first; when anything in it is wrong, nothing is sent.
    """
    settings = ProducerSettings.read()
    configure_logging(settings, "producer")
    stop = stop_on_signals()
    factor = parse_speed(speed)
    until_ms = None if until is None else parse_time_ms(until)
    try:
        file = TransactionFile(path, int(label_delay_days * DAY_MS) if labels else None)
        with Meter({"checked": min(file.height, rows or file.height)}, "rows") as meter:
            extent = file.check(rows, until_ms, lambda done, _: meter.update("checked", done))
    except BadFileError as error:
        fail(f"{path}: {error}. Nothing was sent.", EXIT_BAD_INPUT)

    def stream() -> Summary:
        checked_topics(settings)
        return run(Run(file, extent, factor), target_of(settings), wait, stop)

    summary = on_the_stack(stream, settings, EXIT_INCOMPLETE)
    show(summary, as_json)
    if summary.stopped:
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.counts is not None and summary.counts.scored_twice:
        raise typer.Exit(EXIT_INCOMPLETE)


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


@app.command()
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


@app.command()
def demo(seed: SeedOption = 0) -> None:
    """A history as fast as it goes, a request to train on it, then the live world.

    FRAUD_DEMO_HISTORY_DAYS and FRAUD_DEMO_SPEED say how long and how fast.
    """
    settings = ProducerSettings.read()
    log = configure_logging(settings, "producer")
    stop = stop_on_signals()
    serve_metrics(settings, lambda: None)
    history_end_ms = simulator.BEGIN_MS + settings.demo_history_days * DAY_MS
    if settings.demo_history_days:
        history = streamed(settings, lambda: stream_handbook(settings, seed, history_end_ms, MAX, True, stop))
        if history.sent.transactions and not stop.is_set():
            request = Retrain(f"demo-{seed}-{settings.demo_history_days}", int(time.time() * 1000))
            streamed(settings, lambda: _ask(settings, request))
            log.info("history streamed, training asked for", transactions=history.sent.transactions)
    if not stop.is_set():
        live = streamed(settings, lambda: stream_handbook(settings, seed, None, settings.demo_speed, False, stop))
        show(live, as_json=False)


def _ask(settings: ProducerSettings, request: Retrain) -> None:
    with closing(KafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all")) as producer:
        producer.send(topics.CONTROL.name, request.to_json()).get(timeout=30)


def streamed(settings: ProducerSettings, work: Callable[[], _T]) -> _T:
    """Do `work` as a service does: a broker that is away is healed by a restart."""
    try:
        return on_the_stack(work, settings, EXIT_RESTART)
    except PositionError as error:
        fail(str(error), EXIT_BAD_INPUT)
    except BadFileError as error:
        fail(
            f"the generated world in {settings.worlds} cannot be used: {error}; remove it, and it is made again",
            EXIT_BAD_INPUT,
        )
    except OSError as error:
        fail(f"FRAUD_STATE_DIR {settings.state_dir}: {error}; it needs a folder that can be written", EXIT_BAD_INPUT)


@app.command("verify-handbook")
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


if __name__ == "__main__":
    app()
