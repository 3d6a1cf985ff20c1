"""`python -m producer world stream`: the generated world into Kafka."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer

from adapters.telemetry import configure_logging, serve_metrics
from fraud.control import SPEED_MAX, SPEED_MIN
from fraud.windows import DAY_MS
from producer.clock import MAX
from producer.command import (
    EXIT_BAD_INPUT,
    JsonOption,
    SpeedOption,
    fail,
    parse_speed,
    show,
    stop_on_signals,
    streamed,
    target_of,
)
from producer.replay import Summary
from producer.settings import ProducerSettings
from producer.streamed_world import GeneratedWorld
from producer.world.days import BEGIN_MS, DAYS_MAX
from producer.world.drift import Drift
from producer.world.label_delays import BENCHMARK, REALISTIC
from producer.world.population import CARDS_DEFAULT
from producer.world.world import World
from producer.world_delivery import Disorder
from producer.world_plan import Share, WorldPlan
from producer.world_run import WorldRun, run_world

TRANSACTIONS_PER_CARD_DAY = 2.0

world_app = typer.Typer(no_args_is_help=True, help="The generated world: people, habits, fraud, late labels.")

WorldSeed = Annotated[int, typer.Option(min=0, help="another seed is another world")]
CardsOption = Annotated[int, typer.Option(min=1, help="how many cards the world has")]


@world_app.command()
def stream(
    until_day: Annotated[
        int, typer.Option(min=1, max=DAYS_MAX, help="stop after this many days of the world")
    ] = DAYS_MAX,
    speed: SpeedOption = "1440",
    seed: WorldSeed = 0,
    cards: CardsOption = CARDS_DEFAULT,
    share: Annotated[str, typer.Option(help="of several producers: which one this is, such as 2/3")] = "1/1",
    follow: Annotated[
        bool, typer.Option("--follow", help="join the simulated clock of another producer instead of setting it")
    ] = False,
    drift: Annotated[
        list[str] | None,
        typer.Option(
            "--drift", metavar="NAME=VALUE", help="a change of the world, such as fraud_moves_day=70; see docs/world.md"
        ),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="SCENARIO", help="leave a scenario out of the background")
    ] = None,
    benchmark_labels: Annotated[
        bool, typer.Option("--benchmark-labels", help="everything becomes known exactly 7 days later")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="wait until all of it is scored")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stream the world, from where it stopped; the time of a pause is not caught up."""
    settings = ProducerSettings.read()
    configure_logging(settings, "producer")
    stop = stop_on_signals()
    factor = parse_world_speed(speed)
    plan = world_plan(seed, cards, share, benchmark_labels, drift or [], without or [])
    serve_metrics(settings, lambda: None)
    show(
        streamed(settings, lambda: stream_world(settings, plan, cards, until_day, factor, wait, stop, not follow)),
        as_json,
    )


def parse_world_speed(text: str) -> float:
    """`max`, or 1 .. 1440."""
    speed = parse_speed(text)
    if speed != MAX and not SPEED_MIN <= speed <= SPEED_MAX:
        fail(f"--speed {text}: it must be `max` or {SPEED_MIN:g} .. {SPEED_MAX:g}", EXIT_BAD_INPUT)
    return speed


def world_plan(
    seed: int,
    cards: int,
    share: str = "1/1",
    benchmark_labels: bool = False,
    drift: Sequence[str] = (),
    without: Sequence[str] = (),
) -> WorldPlan:
    """The plan of a world for one of several producers; what is impossible ends the process with its name."""
    parts = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", share)
    if parts is None:
        fail(f"--share {share}: which of how many is expected, such as 2/3", EXIT_BAD_INPUT)
    try:
        mine = Share(int(parts[1]) - 1, int(parts[2]))
        changes = parse_drift(drift)
        world = World(seed, cards, changes, tuple(sorted(without)))
        world.population  # noqa: B018  # what is out of range is refused here, before anything starts
        delays = BENCHMARK if benchmark_labels else REALISTIC
        return WorldPlan(GeneratedWorld(world), delays, Disorder(seed, changes), mine)
    except ValueError as error:
        fail(str(error), EXIT_BAD_INPUT)


def parse_drift(given: Sequence[str]) -> Drift:
    """A drift from NAME=VALUE each. Raises ValueError, naming what is wrong with its range."""
    known = {field.name: field for field in fields(Drift)}
    values: dict[str, Any] = {}
    for each in given:
        name, _, text = each.partition("=")
        if name not in known:
            raise ValueError(f"--drift {each}: there is no {name}; there are: {', '.join(known)}")
        kind = str if name == "new_country" else int if name.endswith(("_day", "_minor")) else float
        try:
            values[name] = kind(text)
        except ValueError:
            raise ValueError(
                f"--drift {each}: {name} takes {'a whole number' if kind is int else 'a number'}"
            ) from None
    return Drift(**values)


def stream_world(
    settings: ProducerSettings,
    plan: WorldPlan,
    cards: int,
    until_day: int,
    speed: float,
    wait: bool,
    stop: threading.Event,
    leads: bool = True,
) -> Summary:
    """Stream a world from where it stopped. Raises what run_world() raises."""
    name = f"world-{plan.world.seed}-{cards}-{plan.share.index + 1}of{plan.share.of}.position"
    run = WorldRun(
        plan=plan,
        until_ms=BEGIN_MS + until_day * DAY_MS,
        speed=speed,
        position_file=settings.state_dir / "positions" / name,
        transactions_per_day=cards * TRANSACTIONS_PER_CARD_DAY / plan.share.of,
        cards=cards,
        leads=leads,
    )
    return run_world(run, target_of(settings), wait, stop)
