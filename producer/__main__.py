"""`python -m producer replay | world | handbook | clock | scenario | demo ...`: the commands, wired here.

Rule 1. Settings are read once, here.
Rule 2. Exit codes and where output goes: producer/command.py.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from kafka import KafkaProducer

from adapters.telemetry import configure_logging, serve_metrics
from fraud import topics
from fraud.control import Retrain
from fraud.windows import DAY_MS
from producer import handbook as handbook_world
from producer.clock import MAX
from producer.command import (
    EXIT_BAD_INPUT,
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    JsonOption,
    SpeedOption,
    checked_topics,
    fail,
    on_the_stack,
    parse_speed,
    parse_time_ms,
    show,
    stop_on_signals,
    streamed,
    target_of,
)
from producer.control_commands import clock_app, scenario_app
from producer.describe_command import describe
from producer.handbook_commands import handbook, stream_handbook, verify_handbook
from producer.progress import Meter
from producer.replay import Run, Summary, run
from producer.settings import ProducerSettings
from producer.transaction_file import BadFileError, TransactionFile
from producer.world.days import DAYS_MAX
from producer.world_commands import stream_world, world_app, world_plan

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make transactions and stream them, or a file of them."
)


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


@app.command()
def demo() -> None:
    """A history as fast as it goes, a request to train on it, then the live world.

    FRAUD_DEMO_WORLD says which world, FRAUD_DEMO_HISTORY_DAYS and FRAUD_DEMO_SPEED how long and how fast.
    """
    settings = ProducerSettings.read()
    log = configure_logging(settings, "producer")
    stop = stop_on_signals()
    serve_metrics(settings, lambda: None)
    days = settings.demo_history_days
    if days:
        history = streamed(settings, lambda: _demo_world(settings, days, MAX, True, stop))
        if history.sent.transactions and not stop.is_set():
            request = Retrain(f"demo-{settings.demo_world}-{days}", int(time.time() * 1000))
            streamed(settings, lambda: _ask(settings, request))
            log.info("history streamed, training asked for", transactions=history.sent.transactions)
    if not stop.is_set():
        show(streamed(settings, lambda: _demo_world(settings, None, settings.demo_speed, False, stop)), as_json=False)


def _demo_world(
    settings: ProducerSettings, until_day: int | None, speed: float, wait: bool, stop: threading.Event
) -> Summary:
    if settings.demo_world == "handbook":
        until_ms = None if until_day is None else handbook_world.BEGIN_MS + until_day * DAY_MS
        return stream_handbook(settings, 0, until_ms, speed, wait, stop)
    plan = world_plan(0, settings.demo_cards)
    return stream_world(settings, plan, settings.demo_cards, until_day or DAYS_MAX, speed, wait, stop)


def _ask(settings: ProducerSettings, request: Retrain) -> None:
    with closing(KafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all")) as producer:
        producer.send(topics.CONTROL.name, request.to_json()).get(timeout=30)


app.command()(handbook)
app.command("verify-handbook")(verify_handbook)
world_app.command()(describe)
app.add_typer(world_app, name="world")
app.add_typer(clock_app, name="clock")
app.add_typer(scenario_app, name="scenario")

if __name__ == "__main__":
    app()
