"""`python -m monitoring parity | drift | paths | evaluator | watch | console`: what watches the running stack, wired here and
nowhere else.

Rule 1. Exit codes of the commands: 0 all is well, 1 it is not, 2 an impossible setting, 3 there is nothing to look at yet.
Rule 2. Exit codes of the services: 0 stopped, 2 a person must look, 70 a fault that a restart heals.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from math import isinf
from typing import Annotated, NoReturn

import typer
from kafka.errors import KafkaError

from adapters.kafka_admin import refuse_silence
from adapters.lake import Lake, LakeGapError
from adapters.settings import StackSettings
from adapters.switch_feed import read_switches
from fraud.switches import Side
from monitoring.caught_command import show_caught
from monitoring.parity import NothingServedError, Parity, measure_parity
from monitoring.settings import MonitoringSettings

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
    lake = Lake(settings.lake)
    try:
        with lake.reading():
            on = _switches_on(settings)
            found = measure_parity(lake, settings.partitions, sample, lambda line: print(line, file=sys.stderr), on)
    except NothingServedError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(3) from None
    except LakeGapError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    elapsed_s = time.monotonic() - started_s
    print(_json(found, elapsed_s) if as_json else _text(found, elapsed_s))
    raise typer.Exit(0 if found.holds else 1)


def _switches_on(settings: StackSettings) -> tuple[str, ...]:
    """The break-it switches that parity depends on; none when no Kafka answers: the lake can be looked at without a stack."""
    try:
        refuse_silence(settings.kafka_bootstrap)
        return read_switches(settings.kafka_bootstrap).names(Side.SERVING, Side.METER)
    except KafkaError as error:
        print(f"no Kafka ({error!r}): break-it switches count as off", file=sys.stderr)
        return ()


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
        f"on purpose      {count:>12,}  served under {names}, which is off again: not compared"
        for names, count in found.on_purpose.items()
    ]
    if found.on:
        lines.append(f"SWITCHES ARE ON: {', '.join(found.on)} (docs/break-it.md)")
    lines += [
        f"  {name}: {count:,} rows differ, by up to {found.largest_difference[name]:g}"
        for name, count in found.mismatches.items()
        if count
    ]
    return "\n".join([*lines, "parity holds, bit for bit" if found.holds else "PARITY IS BROKEN"])


@app.command()
def drift(as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False) -> None:
    """The newest window of served data against what the champion has learned from; exit code 1 while it is drifted."""
    from fraud.features import FEATURE_HASH
    from monitoring.drift_report import as_text, as_values
    from monitoring.drift_store import read_drift

    path = MonitoringSettings.read().drift_file(FEATURE_HASH)
    try:
        judgement, alarms = read_drift(path)
    except FileNotFoundError:
        _nothing(f"there is no {path}: `fraudstream up` starts the service that watches drift")
    if judgement is None:
        _nothing(
            "no window was judged yet: it needs a champion (`fraudstream retrain`), and a whole window of what was served "
            "after the days that it has learned from (FRAUD_DRIFT_WINDOW_HOURS)"
        )
    print(json.dumps(as_values(judgement, alarms), indent=1) if as_json else as_text(judgement, alarms))
    raise typer.Exit(1 if any(alarm.raised for alarm in alarms.values()) else 0)


@app.command()
def paths(as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False) -> None:
    """What each path and model version has delivered on matured labels, beside what it promised."""
    from monitoring.evaluation import as_json as values
    from monitoring.evaluation import evaluate
    from monitoring.journal import open_for_reading
    from monitoring.paths_report import as_text
    from monitoring.reference import Registry
    from monitoring.wiring import terms

    settings = MonitoringSettings.read()
    try:
        with open_for_reading(settings.evaluation_file) as db:
            found = evaluate(db, terms(settings))
    except FileNotFoundError:
        _nothing(f"there is no {settings.evaluation_file}: `fraudstream up` starts the evaluator")
    if found is None or not found.delivered:
        _nothing(f"no transaction is mature yet: labels need {settings.label_delay_days:g} days of event time")
    registry = Registry(settings.models)
    told = {version: registry.promise(version) for version in found.versions}
    promises = {version: promise for version, promise in told.items() if promise is not None}
    print(json.dumps(values(found, promises), indent=1) if as_json else as_text(found, promises))


@app.command()
def evaluator() -> None:
    """Join scores and labels as they mature, and show what was delivered, until stopped."""
    from monitoring.wiring import run_evaluator

    raise typer.Exit(run_evaluator(MonitoringSettings.read()))


@app.command()
def watch() -> None:
    """Watch drift, lags, the state store, the registry and parity, until stopped."""
    from monitoring.wiring import run_watch

    raise typer.Exit(run_watch(MonitoringSettings.read()))


@app.command()
def console() -> None:
    """Serve the console, pages for a browser that follow the stack live, until stopped."""
    from monitoring.console.run import run_console
    from monitoring.settings import ConsoleSettings

    raise typer.Exit(run_console(ConsoleSettings.read()))


def _nothing(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(3)


app.command("caught")(show_caught)

if __name__ == "__main__":
    app()
