"""`python -m trainer archive | train | snapshot | serve | diff-models | features | lake`: the trainer's commands, wired here alone.

Rule 1. Settings are read once, here; the wall clock enters here and nowhere else in training.
Rule 2. Exit codes: 0 done, 1 the lake or the log is not whole, 2 an impossible setting, 3 refused to train, 70 restart me.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, NoReturn

import typer

from fraud.switches import SWITCHES, Side
from trainer.lake_command import lake_app
from trainer.settings import TrainerSettings

if TYPE_CHECKING:  # XGBoost and polars load only in the commands that use them
    from adapters.lake import Lake
    from adapters.model_store import ModelStore
    from fraud.model import Manifest
    from trainer.train import Report, Trained, TrainPlan

EXIT_NOT_WHOLE: Final = 1
EXIT_SETTING: Final = 2
EXIT_REFUSED: Final = 3
EXIT_RESTART: Final = 70
_REDIS_S: Final = 10.0

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Archive the log, train, and publish models.")
app.add_typer(lake_app, name="lake")


@app.command()
def archive() -> None:
    """Copy the topics into the lake until stopped."""
    from aiokafka.errors import KafkaError

    from adapters.garbage import settle_garbage
    from adapters.lake import Lake, LakeGapError, LakeLockedError
    from adapters.parsed_records import use_parsed_records
    from adapters.telemetry import configure_logging, serve_metrics
    from trainer.archiver import Archiver, ArchiverLimits, MissingTopicError
    from trainer.retention import Retention

    settings = TrainerSettings.read()
    log = configure_logging(settings, "archiver")
    lake = Lake(settings.lake)
    limits = ArchiverLimits(
        chunk_rows_max=settings.archive_rows_max,
        chunk_age_max_s=settings.archive_age_max_s,
        small_files_max=settings.archive_small_files_max,
    )
    try:
        retention = Retention.of(settings)
    except ValueError as error:
        _fail(EXIT_SETTING, str(error), False)

    use_parsed_records()

    async def run() -> None:
        archiver = Archiver(settings.kafka_bootstrap, lake, limits, log, retention=retention)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, archiver.stop.set)
        serve_metrics(settings, archiver.health)
        settle_garbage()
        await archiver.run()

    try:
        with lake.locked_for_writing():
            asyncio.run(run())
    except LakeGapError as error:
        log.error("the lake would have a hole", error=str(error))
        raise typer.Exit(EXIT_NOT_WHOLE) from None
    except LakeLockedError as error:
        log.error("not the only archiver", error=str(error))
        raise typer.Exit(EXIT_SETTING) from None
    except (KafkaError, MissingTopicError, OSError) as error:
        log.error("archiver stops, to be started again", error=str(error), kind=type(error).__name__)
        raise typer.Exit(EXIT_RESTART) from None


@app.command()
def train(
    as_of: Annotated[str, typer.Option(help="the moment of training: ISO date or time (UTC), epoch ms, or `latest`")],
    train_days: Annotated[int | None, typer.Option(help="days to learn from; default FRAUD_TRAIN_DAYS")] = None,
    validation_days: Annotated[int | None, typer.Option(help="default FRAUD_VALIDATION_DAYS")] = None,
    require_labels: Annotated[bool, typer.Option(help="leave out transactions without a label")] = False,
    replay: Annotated[
        bool,
        typer.Option(help="compute vectors of other features again from the lake's logs (also FRAUD_TRAIN_REPLAY)"),
    ] = False,
    under: Annotated[
        list[str] | None,
        typer.Option(metavar="SWITCH", help="train wrongly on purpose (docs/break-it.md), and mark the version"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as one JSON object")] = False,
    json_progress: Annotated[bool, typer.Option(help="print each stage as a JSON line")] = False,
    path: Annotated[
        Literal["streaming", "batch"], typer.Option(help="streaming: the vectors as served; batch: nightly snapshots")
    ] = "streaming",
    engine: Annotated[
        Literal["local", "spark"] | None,
        typer.Option(help="where vectors are computed and trees are grown; default FRAUD_TRAIN_ENGINE, or local"),
    ] = None,
    tethered: Annotated[bool, typer.Option(hidden=True, help="end when stdin does: whoever asked is gone")] = False,
) -> None:
    """Train on what was known at a moment, publish a version, and promote it when it earns it."""
    from adapters.lake import Lake, LakeGapError
    from adapters.model_store import ModelStore, TrainingUnderWayError
    from trainer.dataset import TrainRefusedError
    from trainer.engine import EngineFailedError, EngineMissingError
    from trainer.train import latest_event_time_ms

    if tethered:
        _tether()
    settings = TrainerSettings.read()
    if engine == "spark" and path == "batch":
        _fail(EXIT_SETTING, "--engine spark trains the streaming path; leave it out for --path batch", False)
    switches = _training_switches(under or [], path)
    if switches and (engine or settings.train_engine) == "spark":
        _fail(EXIT_SETTING, "--under: switches are of the local engine; add --engine local", False)
    lake = Lake(settings.lake)
    try:
        replay = replay or settings.train_replay
        from_logs = replay or (path == "streaming" and (engine or settings.train_engine) == "spark")
        as_of_ms = latest_event_time_ms(lake, from_logs) if as_of == "latest" else _time_ms(as_of)
        overrides = {
            "train_days": train_days,
            "validation_days": validation_days,
            "require_labels": require_labels or None,
            "train_replay": replay,
            "train_engine": engine,
        }
        chosen = settings.model_copy(update={name: value for name, value in overrides.items() if value is not None})
        store, run_training = ModelStore(settings.models), _training_of(path, chosen)
        # The other path's training is no rival: it changes another role, and no request shall be refused for it.
        with lake.reading(), store.training() if path == "streaming" else nullcontext():
            trained = run_training(lake, store, _plan(chosen, as_of_ms, switches), _reporter(json_progress, as_json))
    except (TrainRefusedError, TrainingUnderWayError) as error:
        _fail(EXIT_REFUSED, f"refused to train: {error}", as_json or json_progress)
    except LakeGapError as error:
        _fail(EXIT_NOT_WHOLE, str(error), as_json or json_progress)
    except EngineMissingError as error:
        _fail(EXIT_SETTING, str(error), as_json or json_progress)
    except EngineFailedError as error:
        _fail(EXIT_RESTART, f"{error}; FRAUD_SPARK_MASTER is {settings.spark_master}", as_json or json_progress)
    else:
        if as_json:
            became = {"outcome": trained.outcome, "reason": trained.reason}
            print(json.dumps({"version": trained.version, **_summary(trained.manifest), **became}, indent=1))


def _training_of(path: str, settings: TrainerSettings) -> Callable[[Lake, ModelStore, TrainPlan, Report], Trained]:
    """The training run of a path."""
    if path == "streaming":
        return _train_in_spark(settings) if settings.train_engine == "spark" else _train_here
    from trainer.batch_path.learn import train_batch_path
    from trainer.batch_path.nights import SnapshotFiles

    files = SnapshotFiles(settings.snapshots)
    return lambda lake, store, plan, report: train_batch_path(lake, store, files, plan, report)


def _train_here(lake: Lake, store: ModelStore, plan: TrainPlan, report: Report) -> Trained:
    from trainer.train import train as run_training

    return run_training(lake, store, plan, report)


def _train_in_spark(settings: TrainerSettings) -> Callable[[Lake, ModelStore, TrainPlan, Report], Trained]:
    from trainer.spark.engine import SparkEngine
    from trainer.spark.session import spark_session
    from trainer.train import train as run_training

    def run(lake: Lake, store: ModelStore, plan: TrainPlan, report: Report) -> Trained:
        folder = settings.state_dir / "spark"
        report("spark", 1, f"starting at {settings.spark_master}")
        with spark_session(settings.spark_master, settings.spark_memory_mib, folder) as spark:
            return run_training(lake, store, plan, report, SparkEngine(spark))

    return run


@app.command()
def snapshot(
    as_of: Annotated[
        str, typer.Option(help="the midnight (UTC) at or before this ISO date or time, epoch ms, or `latest`")
    ] = "latest",
    as_json: Annotated[bool, typer.Option("--json", help="print the result as one JSON object")] = False,
    tethered: Annotated[bool, typer.Option(hidden=True, help="end when stdin does: whoever asked is gone")] = False,
) -> None:
    """Make the batch path's snapshot of a midnight from the lake, and publish it."""
    import redis

    from adapters.lake import Lake, LakeGapError
    from adapters.snapshot_store import SnapshotAwayError, SnapshotRefusedError, SnapshotStore, connect
    from fraud.batch_features import midnight_before
    from trainer.batch_path.nights import NoNightError, SnapshotFiles, newest_midnight, nightly

    if tethered:
        _tether()
    settings = TrainerSettings.read()
    lake, store = Lake(settings.lake), SnapshotStore(connect(settings.redis_url, _REDIS_S))
    try:
        newest = newest_midnight(lake)
        midnight_ms = newest if as_of == "latest" else midnight_before(_time_ms(as_of))
        if newest is None or midnight_ms is None:
            raise NoNightError(f"the lake {lake.root} has no transaction yet: let transactions stream first")
        if midnight_ms > newest:
            raise NoNightError(
                f"--as-of {as_of}: the lake's event time has not passed {_day(midnight_ms)} yet; the newest midnight is {_day(newest)}"
            )
        with lake.reading():
            published = nightly(lake, store, midnight_ms, SnapshotFiles(settings.snapshots))
    except (NoNightError, SnapshotRefusedError) as error:
        _fail(EXIT_REFUSED, str(error), as_json)
    except LakeGapError as error:
        _fail(EXIT_NOT_WHOLE, str(error), as_json)
    except (redis.RedisError, SnapshotAwayError) as error:
        _fail(EXIT_RESTART, f"Redis at {settings.redis_url} does not answer or refuses: {error}", as_json)
    told = {"date": _day(published.midnight_ms), "cards": published.cards, "terminals": published.terminals}
    print(json.dumps(told) if as_json else f"{told['date']}  {told['cards']:,} cards  {told['terminals']:,} terminals")


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d}"


@app.command()
def serve() -> None:
    """Train nightly by the simulated clock and whenever it is asked for, one run at a time, until stopped."""
    from trainer.serving import run_service

    raise typer.Exit(run_service(TrainerSettings.read()))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def features(context: typer.Context) -> None:
    """Compute features over a file, without Kafka."""
    from trainer.backfill import features_app

    features_app(args=context.args, prog_name="python -m trainer features")


@app.command("diff-models")
def diff_models(
    a: Annotated[str, typer.Argument(metavar="A", help="a version, or the begin of its name")],
    b: Annotated[str, typer.Argument(metavar="B", help="another")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """What differs between two versions: promises, parameters, features, files, and scores on the canaries of both."""
    from adapters.model_store import ModelStore
    from fraud.model import ModelRefusedError
    from trainer.model_diff import as_text, difference

    store = ModelStore(TrainerSettings.read().models)
    try:
        found = difference(store.read(store.named(a)), store.read(store.named(b)))
    except ModelRefusedError as error:
        _fail(EXIT_REFUSED, str(error), False)
    print(json.dumps(found, indent=1) if as_json else as_text(found))


def _tether() -> None:
    threading.Thread(target=_end_with_stdin, daemon=True, name="tether").start()


def _end_with_stdin() -> None:
    """End the process at once when stdin ends; what it has not published yet does not count."""
    while os.read(0, 1024):  # not sys.stdin: its lock, held by this thread, would abort the interpreter's exit
        pass
    os._exit(EXIT_RESTART)


def _training_switches(names: list[str], path: str) -> tuple[str, ...]:
    """The switches of these names. Ends with exit code 2 for one that is not of training."""
    known = [switch.name for switch in SWITCHES if switch.side is Side.TRAINING]
    if names and path != "streaming":
        print("--under: switches are of the streaming path; leave out --path batch", file=sys.stderr)
        raise typer.Exit(EXIT_SETTING)
    for name in names:
        if name not in known:
            print(f"--under {name[:80]!r}: choose one of {', '.join(known)}", file=sys.stderr)
            raise typer.Exit(EXIT_SETTING)
    return tuple(dict.fromkeys(names))


def _plan(settings: TrainerSettings, as_of_ms: int, switches: tuple[str, ...] = ()) -> TrainPlan:
    from trainer.dataset import Maturity
    from trainer.fit import FIT
    from trainer.train import TrainPlan

    horizon_ms = round(settings.label_delay_days * 86_400_000)
    return TrainPlan(
        as_of_ms=as_of_ms,
        created_at=f"{datetime.fromtimestamp(time.time(), UTC):%Y-%m-%dT%H:%M:%SZ}",
        train_days=settings.train_days,
        validation_days=settings.validation_days,
        maturity=Maturity(horizon_ms, settings.require_labels),
        rows_min=settings.train_rows_min,
        fraud_min=settings.train_fraud_min,
        alerts_per_day_max=settings.alerts_per_day_max,
        params=FIT,
        replay=settings.train_replay,
        switches=switches,
    )


def _reporter(json_progress: bool, quiet: bool) -> Callable[[str, int, str], None]:
    def report(stage: str, percent: int, detail: str) -> None:
        if json_progress:
            print(json.dumps({"stage": stage, "percent": percent, "detail": detail}), flush=True)
        else:
            print(f"{percent:3d} %  {stage:<10}  {detail}", file=sys.stderr if quiet else sys.stdout, flush=True)

    return report


def _summary(manifest: Manifest) -> dict[str, object]:
    return {
        "as_of_ms": manifest.as_of_ms,
        "created_at": manifest.created_at,
        "auc": manifest.promise.auc,
        "ap": manifest.promise.ap,
        "cp_at_100": manifest.promise.cp_at_100,
        "rows": manifest.trained_on.rows,
        "fraud": manifest.trained_on.fraud,
        "review_from": manifest.thresholds.get("review"),
        "outcome": manifest.gate.outcome,
        "reason": manifest.gate.reason,
    }


def _time_ms(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        _fail(
            EXIT_SETTING,
            f"--as-of {text!r} is no time: give 2018-08-08, 2018-08-08T00:00:00Z, epoch ms, or latest",
            False,
        )
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


def _fail(code: int, message: str, as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps({"stage": "refused", "percent": 100, "detail": message}), flush=True)
    print(message, file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
