"""`python -m producer clock | scenario`: steering the running world through the topic `control`.

Rule 1. What is impossible is refused here, by name and range, before anything is sent.
Rule 2. A command returns when the topic has its request, and says what follows from it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from kafka import KafkaProducer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from adapters.kafka_admin import refuse_silence
from fraud.control import SPEED_MAX, SPEED_MIN, SetClock, StartScenario, StopScenario
from fraud.simulation import ScenarioRun
from producer.command import EXIT_BAD_INPUT, EXIT_INCOMPLETE, JsonOption, fail, on_the_stack
from producer.outcome import connect
from producer.settings import ProducerSettings
from producer.steering import Steering, clock_request
from producer.world.scenarios import SCENARIOS
from producer.world_plan import RUN_PREFIX

clock_app = typer.Typer(no_args_is_help=True, help="The simulated clock: show it, change its pace, pause it.")
scenario_app = typer.Typer(no_args_is_help=True, help="Fraud on purpose: start a scenario in the running world.")
_T = TypeVar("_T")


@clock_app.command("show")
def show_clock(as_json: JsonOption = False) -> None:
    """Event time now, its speed, and whether it is paused."""
    _told(_with_steering(_clock_facts), as_json)


@clock_app.command("speed")
def set_speed(
    factor: Annotated[float, typer.Argument(min=SPEED_MIN, max=SPEED_MAX, help="1440 is a day per minute")],
    as_json: JsonOption = False,
) -> None:
    """Let event time run FACTOR times as fast as real time."""
    _told(_change(clock_request(speed=factor)), as_json)


@clock_app.command()
def pause(as_json: JsonOption = False) -> None:
    """Let event time stand still."""
    _told(_change(clock_request(paused=True)), as_json)


@clock_app.command()
def resume(as_json: JsonOption = False) -> None:
    """Let event time go on from where it stands; nothing is caught up."""
    _told(_change(clock_request(paused=False)), as_json)


def _change(request: SetClock) -> dict[str, Any]:
    def change(steering: Steering, producer: KafkaProducer) -> dict[str, Any]:
        _ = steering.clock  # there must be one
        steering.ask(producer, request)
        return _clock_facts(steering, producer)

    return _with_steering(change)


def _clock_facts(steering: Steering, _: KafkaProducer) -> dict[str, Any]:
    clock = steering.clock
    return {"event_time": _moment(steering.now_ms()), "speed": clock.speed, "paused": clock.paused}


@scenario_app.command("list")
def list_scenarios(as_json: JsonOption = False) -> None:
    """The scenarios, with what they leave behind and their parameters."""
    if as_json:
        typer.echo(json.dumps([scenario.described() for scenario in SCENARIOS.values()]))
        return
    table = Table("scenario", "time scale", "what it leaves behind", "parameters (--set NAME=VALUE)")
    for name, scenario in SCENARIOS.items():
        told = scenario.described()
        parameters = "\n".join(
            f"{p['name']} {p['default']:g} ({p['low']:g} .. {p['high']:g})" for p in told["parameters"]
        )
        table.add_row(name, told["time_scale"], told["signal"], parameters)
    Console().print(table)


@scenario_app.command()
def start(
    scenario: Annotated[str, typer.Argument(help="one of `fraudstream scenario list`")],
    cards: Annotated[int, typer.Option(min=1, help="how many cards are hit")] = 20,
    minutes: Annotated[float, typer.Option(min=0.1, help="how long it lasts, in minutes of event time")] = 10.0,
    parameters: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a parameter of the scenario")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a scenario in the running world; its transactions begin at once."""
    given = _parameters(parameters or [])
    try:
        SCENARIOS[scenario].with_parameters(given)
    except KeyError:
        fail(f"there is no scenario {scenario}; there are: {', '.join(SCENARIOS)}", EXIT_BAD_INPUT)
    except ValueError as error:
        fail(str(error), EXIT_BAD_INPUT)
    request = StartScenario(f"{RUN_PREFIX}{uuid.uuid4().hex[:8]}", _wall_ms(), scenario, cards, minutes, given)

    def begin(steering: Steering, producer: KafkaProducer) -> dict[str, Any]:
        _ = steering.clock  # without a clock nobody would begin it
        world = steering.simulation.cards
        if world is not None and cards > world:
            fail(f"--cards {cards}: it must be 1 .. {world}, the cards of the running world", EXIT_BAD_INPUT)
        steering.ask(producer, request)
        return _run_facts(steering, steering.simulation.runs[request.request_id])

    _told(_with_steering(begin), as_json)


@scenario_app.command()
def stop(
    run_id: Annotated[str | None, typer.Argument(help="of `fraudstream scenario status`; left out: all")] = None,
    as_json: JsonOption = False,
) -> None:
    """End a run: what it has not sent yet never comes."""

    def end(steering: Steering, producer: KafkaProducer) -> list[dict[str, Any]]:
        if run_id is not None and run_id not in steering.simulation.runs:
            fail(f"there is no run {run_id}: see `fraudstream scenario status`", EXIT_BAD_INPUT)
        steering.ask(producer, StopScenario(f"stop-{uuid.uuid4().hex[:8]}", _wall_ms(), run_id))
        return _all_runs(steering)

    _show_runs(_with_steering(end), as_json)


@scenario_app.command()
def status(as_json: JsonOption = False) -> None:
    """Every run that was started, the newest last."""
    _show_runs(_with_steering(lambda steering, _: _all_runs(steering)), as_json)


def _parameters(given: list[str]) -> dict[str, float]:
    parameters: dict[str, float] = {}
    for each in given:
        name, _, value = each.partition("=")
        try:
            parameters[name] = float(value)
        except ValueError:
            fail(f"--set {each}: NAME=NUMBER is expected", EXIT_BAD_INPUT)
    return parameters


def _all_runs(steering: Steering) -> list[dict[str, Any]]:
    return [_run_facts(steering, run) for run in steering.simulation.runs.values()]


def _run_facts(steering: Steering, run: ScenarioRun) -> dict[str, Any]:
    now_ms = steering.now_ms()
    state = "waiting" if now_ms < run.begin_ms else "running" if now_ms < run.end_ms else "ended"
    return {
        "run_id": run.run_id, "scenario": run.scenario, "cards": run.cards, "minutes": run.minutes, "state": state,
        "begin": _moment(run.begin_ms), "end": _moment(run.end_ms), "parameters": run.parameters,
    }  # fmt: skip


def _show_runs(runs: list[dict[str, Any]], as_json: bool) -> None:
    if as_json or not runs:
        typer.echo(json.dumps(runs) if as_json else "no scenario was started yet")
        return
    table = Table("run", "scenario", "cards", "state", "event time (UTC)", box=SIMPLE, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True  # a name that is cut cannot be given to `scenario stop`
    for run in runs:
        same_day = run["begin"][:10] == run["end"][:10]
        span = f"{run['begin'][:16]} .. {run['end'][11:16] if same_day else run['end'][:10]}"
        table.add_row(run["run_id"], run["scenario"], str(run["cards"]), run["state"], span)
    Console().print(table)


def _with_steering(work: Callable[[Steering, KafkaProducer], _T]) -> _T:
    settings = ProducerSettings.read()

    def connected() -> _T:
        refuse_silence(settings.kafka_bootstrap)
        with (
            closing(connect(settings.kafka_bootstrap)) as consumer,
            closing(KafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all")) as producer,
        ):
            return work(Steering(consumer, settings.partitions, None), producer)

    return on_the_stack(connected, settings, EXIT_INCOMPLETE)


def _told(facts: dict[str, Any], as_json: bool) -> None:
    typer.echo(
        json.dumps(facts)
        if as_json
        else "\n".join(f"{name.replace('_', ' '):12} {value}" for name, value in facts.items())
    )


def _moment(event_ms: int) -> str:
    return datetime.fromtimestamp(event_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
