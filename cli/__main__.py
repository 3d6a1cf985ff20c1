"""`fraudstream`: the front door. Its own commands, and a table of those that belong to a service.

Rule 1. Commands are imported when they run: what one needs is not asked of an image that only has another.
Rule 2. A service's command replaces this process, so that its exit code and Ctrl-C are the service's own.
Rule 3. A person sees a message with a remedy, never a traceback, for a fault that can be expected.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Final, Literal, NoReturn

import typer

from cli.failure import CommandError

# fraudstream NAME ... is python -m MODULE COMMAND ...
PASSED_ON: Final = {
    "train": ("trainer", "train", "Train a model on what was known at a moment."),
    "snapshot": ("trainer", "snapshot", "Make and publish the batch path's snapshot of a midnight."),
    "features": ("trainer", "features", "Features: backfill a file; rebuild, active, drop: change the definition."),
    "lake": ("trainer", "lake", "The lake: what it holds, its gaps; merge its files, let go of the oldest."),
    "replay": ("producer", "replay", "Stream a Parquet file of transactions through the running stack."),
    "world": ("producer", "world", "Stream the generated world, or describe it."),
    "clock": ("producer", "clock", "The simulated clock: show it, change its pace, pause it."),
    "scenario": ("producer", "scenario", "Fraud on purpose: list, start, stop, watch scenarios in the running world."),
    "caught": ("monitoring", "caught", "How much of each fraud scenario was alerted, and how soon."),
    "handbook": ("producer", "handbook", "Stream the Handbook world, from where it stopped."),
    "verify-handbook": ("producer", "verify-handbook", "Compare the generated Handbook world with the published one."),
    "parity": ("monitoring", "parity", "Compute the served vectors again and compare them bit for bit."),
    "drift": ("monitoring", "drift", "How far what is served has moved from what the champion has learned from."),
    "paths": ("monitoring", "paths", "What each path and version delivers on matured labels, beside its promise."),
}

# fraudstream NAME SUBCOMMAND ... where the subcommand is another module's than the rest of NAME
PASSED_ELSEWHERE: Final[dict[tuple[str, ...], tuple[str, str]]] = {
    ("features", command): ("stream_features.features_command", command) for command in ("rebuild", "active", "drop")
}

# fraudstream bench NAME ... is python -m MODULE COMMAND ...
_HARNESS: Final = "benchmarks.harness"
BENCHES: Final = {
    "paths": ("benchmarks.paths", "", "Both paths on the same transactions of a generated world, by scenario."),
    "handbook": ("benchmarks.handbook", "", "Train and test by the Handbook's protocol, beside its published results."),
    "throughput": (_HARNESS, "throughput", "The highest rate that is held with bounded lag, the peers' beside ours."),
    "latency": (
        _HARNESS,
        "latency",
        "From the intended send to the score, in percentiles, and in which hop the time goes.",
    ),
    "hold": (_HARNESS, "hold", "Ours alone at given rates: whether each is held, its lag, latency and CPU."),
    "features": (_HARNESS, "features", "The fold beside plain Python, and the whole backfill."),
    "train": (_HARNESS, "train", "The nightly run: backfill, dataset, fit, evaluate, publish."),
    "growth": (_HARNESS, "growth", "CPU a transaction by cards, by span of histories, by partitions and workers."),
    "all": (_HARNESS, "all", "All of these but the handbook: what docs/performance.md is written from."),
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A streaming fraud-detection stack that one person can start, watch, break and measure.",
)
alerts_app = typer.Typer(
    no_args_is_help=True, help="Watch the alerts as they come, with their labels; confirm or dismiss one."
)
models_app = typer.Typer(
    no_args_is_help=True, help="The model registry: versions, what they promised and delivered, and who decides."
)
topics_app = typer.Typer(no_args_is_help=True, help="Print a topic for a person.")
dlq_app = typer.Typer(no_args_is_help=True, help="List the dead letters: messages that were refused, and why.")
bench_app = typer.Typer(
    no_args_is_help=True, help="Benchmarks: performance beside peers, quality beside published results."
)
break_app = typer.Typer(
    no_args_is_help=True, help="Break it on purpose: switches that make serving or training wrong, and right again."
)
app.add_typer(break_app, name="break")
app.add_typer(alerts_app, name="alerts")
app.add_typer(bench_app, name="bench")
app.add_typer(models_app, name="models")
app.add_typer(topics_app, name="topics")
app.add_typer(dlq_app, name="dlq")

Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Plain = Annotated[bool, typer.Option("--plain", help="print lines, also on a terminal")]


@app.command()
def up(
    foreground: Annotated[bool, typer.Option(help="stay, and print every log")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="feature workers, at most FRAUD_PARTITIONS [default: 1]")
    ] = None,
) -> None:
    """Start Kafka, Redis, the topics and every service; a stack that runs is found."""
    from cli.up import up

    raise typer.Exit(up(foreground, workers))


@app.command()
def down() -> None:
    """End the stack in order; its data stays."""
    from cli.up import down

    raise typer.Exit(down())


@app.command()
def status(as_json: Json = False) -> None:
    """What runs, where, and how far it is; exit code 0 when all of it is ready."""
    from cli.up import status

    raise typer.Exit(status(as_json))


@app.command()
def demo(
    plain: Plain = False,
    history_days: Annotated[
        int, typer.Option(min=0, max=183, help="simulated days to stream and learn from first")
    ] = 60,
    speed: Annotated[
        float, typer.Option(min=1, max=1440, help="event time per real time: 1440 is a day per minute")
    ] = 1440,
    world: Annotated[
        Literal["generated", "handbook"], typer.Option(help="people, habits and scenarios; or the published simulator")
    ] = "generated",
    until_alerts: Annotated[int | None, typer.Option(min=1, help="end after that many live alerts")] = None,
) -> None:
    """Stream a history, train the first model, and show live alerts; Ctrl-C ends it, the next start goes on."""
    from cli.demo import demo

    raise typer.Exit(demo(plain, history_days, speed, until_alerts, world))


@app.command()
def retrain(
    as_of: Annotated[
        str | None, typer.Option(help="train as of this moment: ISO time (UTC); default: the newest possible")
    ] = None,
    wait: Annotated[bool, typer.Option(help="show progress until it is promoted, rejected or failed")] = True,
    as_json: Json = False,
) -> None:
    """Ask the running trainer for a new model, and show how it goes."""
    from cli.retrain import retrain

    raise typer.Exit(retrain(as_of, wait, as_json))


@app.command()
def score(
    file: Annotated[str, typer.Argument(help="a file of one transaction (JSON) a line; - for standard input")],
    features: Annotated[bool, typer.Option("--features", help="print each feature vector, too")] = False,
    api: Annotated[str | None, typer.Option(help="address of the API; default: the running stack's")] = None,
) -> None:
    """Ask the API for the score of each transaction, without sending it: one JSON line each; 1 when any was refused."""
    from cli.score import score

    raise typer.Exit(score(file, api, features))


@alerts_app.command("watch")
def alerts_watch(
    plain: Plain = False,
    as_json: Annotated[bool, typer.Option("--json", help="print each alert as one JSON line")] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="begin with the oldest that the log still has")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="end after that many alerts")] = None,
) -> None:
    """Show alerts as they come, and their labels when they become known."""
    from cli.alerts import watch

    raise typer.Exit(watch(plain, as_json, from_start, limit))


AlertName = Annotated[str, typer.Argument(metavar="ALERT", help="its alert_id or its transaction_id")]


@alerts_app.command("confirm")
def alerts_confirm(alert: AlertName) -> None:
    """Say that an alert was right: its transaction is fraud."""
    from cli.disposition import dispose

    raise typer.Exit(dispose(alert, "confirmed"))


@alerts_app.command("dismiss")
def alerts_dismiss(alert: AlertName) -> None:
    """Say that an alert was wrong: its transaction is genuine."""
    from cli.disposition import dispose

    raise typer.Exit(dispose(alert, "dismissed"))


SwitchName = Annotated[str, typer.Argument(metavar="NAME", help="as `fraudstream break list` shows it")]


@break_app.command("list")
def break_list(as_json: Json = False) -> None:
    """Every switch, what it does, where that shows, and whether it is on."""
    from cli.break_it import list_switches

    raise typer.Exit(list_switches(as_json))


@break_app.command("on")
def break_on(name: SwitchName, as_json: Json = False) -> None:
    """Turn a switch on: from the next batch on it is wrong, until it is turned off."""
    from cli.break_it import turn

    raise typer.Exit(turn(name, True, as_json))


@break_app.command("off")
def break_off(name: SwitchName, as_json: Json = False) -> None:
    """Turn a switch off: what comes from then on is exact again."""
    from cli.break_it import turn

    raise typer.Exit(turn(name, False, as_json))


VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="its name, or the begin of it")]


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """Every version: its role, what it promised and has delivered, and the gate's verdict."""
    from cli.models import list_models

    raise typer.Exit(list_models(as_json))


@models_app.command("show")
def models_show(version: VersionName, as_json: Json = False) -> None:
    """One version whole: what it learned from, the gate's numbers, parameters, files, changes of its role."""
    from cli.models import show_model

    raise typer.Exit(show_model(version, as_json))


@models_app.command("promote")
def models_promote(
    version: VersionName,
    force: Annotated[bool, typer.Option("--force", help="overrule the gate; needs --reason")] = False,
    reason: Annotated[str, typer.Option(help="why; it is kept with the change")] = "",
    as_json: Json = False,
) -> None:
    """Make a version the champion, if the gate agrees; the old champion is `previous` then."""
    from cli.models import promote

    raise typer.Exit(promote(version, force, reason, as_json))


@models_app.command("rollback")
def models_rollback(
    reason: Annotated[str, typer.Option(help="why; it is kept with the change")] = "", as_json: Json = False
) -> None:
    """Make the previous champion the champion again, and say what changed."""
    from cli.models import rollback

    raise typer.Exit(rollback(reason, as_json))


@models_app.command("shadow")
def models_shadow(
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="its name, or the begin of it")] = None,
    off: Annotated[bool, typer.Option("--off", help="let nobody score in shadow")] = False,
    as_json: Json = False,
) -> None:
    """Let a version score beside the champion, deciding nothing (challenger)."""
    from cli.models import shadow

    if off == (version is not None):
        raise CommandError("give a VERSION to score in shadow, or --off to end it", 2)
    raise typer.Exit(shadow(version, as_json))


@app.command()
def runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many of the newest")] = 20, as_json: Json = False
) -> None:
    """The trainings: queued, running, promoted, rejected or failed, with reasons."""
    from cli.runs import show_runs

    raise typer.Exit(show_runs(limit, as_json))


@topics_app.command("tail")
def topics_tail(
    name: Annotated[
        str, typer.Argument(help="transactions, labels, terminal-log, features, scores, alerts, control, *.dlq")
    ],
    from_start: Annotated[
        bool, typer.Option("--from-start", help="begin with the oldest that the log still has")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="end after that many lines")] = None,
    as_json: Json = False,
) -> None:
    """Print a topic for a person, one line per transaction."""
    from cli.topics import tail

    raise typer.Exit(tail(name, from_start, limit, as_json))


@dlq_app.command("list")
def dlq_list(
    limit: Annotated[int, typer.Option(min=1, help="how many of the newest to show of each topic")] = 20,
    as_json: Json = False,
) -> None:
    """Count the dead letters by topic and reason, and show the newest."""
    from cli.topics import list_dead_letters

    raise typer.Exit(list_dead_letters(limit, as_json))


def _passed_on(module: str, *command: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        from cli.services import CODE_FOLDER, with_code_on_path

        words = (*command, *context.args)
        target, *rest = PASSED_ELSEWHERE.get(words[:2], (module, *words[:2]))
        if not (CODE_FOLDER / target.split(".")[0]).is_dir():
            raise CommandError(f"{target} is not installed here: run this in a checkout of the repository", 2)
        arguments = [sys.executable, "-m", target, *rest, *words[2:]]
        sys.stdout.flush()
        os.execve(sys.executable, arguments, with_code_on_path())

    return run


_TAKES_ALL: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
for _name, (_module, _command, _help) in PASSED_ON.items():
    app.command(_name, help=_help, context_settings=_TAKES_ALL, add_help_option=False)(_passed_on(_module, _command))
models_app.command(
    "diff",
    help="Two versions: promises, parameters, features, scores on the canaries of both.",
    context_settings=_TAKES_ALL,
    add_help_option=False,
)(_passed_on("trainer", "diff-models"))
for _name, (_module, _command, _help) in BENCHES.items():
    _run = _passed_on(_module, *filter(None, [_command]))
    bench_app.command(_name, help=_help, context_settings=_TAKES_ALL, add_help_option=False)(_run)


def _end(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    """Run the command line."""
    from kafka.errors import KafkaError
    from redis import RedisError

    try:
        app(prog_name="fraudstream")
    except CommandError as error:
        _end(str(error), error.code)
    except KafkaError as error:
        _end(f"Kafka does not answer or refuses ({error!r}): `fraudstream status` shows whether the stack runs", 1)
    except RedisError as error:
        _end(f"Redis does not answer or refuses ({error}): `fraudstream status` shows whether the stack runs", 1)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left: nothing to say to it


if __name__ == "__main__":
    main()
