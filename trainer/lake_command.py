"""`fraudstream lake stats | compact | retire | files | views`: look at the lake, tidy it, and read it with other tools.

Rule 1. Exit codes: 0 done, 1 the lake is not whole, 2 an impossible option or setting, 3 there is nothing yet, 70 try again later.
Rule 2. Each command may run while the archiver runs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from trainer.settings import TrainerSettings

EXIT_NOT_WHOLE, EXIT_SETTING, EXIT_NOTHING, EXIT_LATER = 1, 2, 3, 70
_WAIT_S: Final = 60.0
_POLL_S: Final = 0.2

lake_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="The lake: what the topics said, as Parquet files."
)
Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]


@lake_app.command("stats")
def stats_command(as_json: Json = False) -> None:
    """Files, rows, bytes, offsets and event time by topic and partition; gaps, overlaps and damaged files by name."""
    import msgspec

    from trainer.lake_stats import as_text, stats

    lake = _lake()
    with lake.reading():
        found = stats(lake)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        print(as_text(found))
    raise typer.Exit(0 if found.whole else EXIT_NOT_WHOLE)


@lake_app.command("compact")
def compact_command(
    topic: Annotated[str | None, typer.Option(help="one topic; default: all")] = None,
    small_rows: Annotated[int, typer.Option(min=1, help="a file with fewer rows is worth merging")] = 100_000,
    rows_max: Annotated[int, typer.Option(min=2, help="most rows of a merged file")] = 1_000_000,
    sweep_after_s: Annotated[
        float, typer.Option(min=60, help="seconds that merged files stay for readers outside of fraudstream")
    ] = 600,
) -> None:
    """Merge many small files of a partition into few larger ones; rows, order and offsets stay."""
    from adapters.lake import LakeGapError
    from trainer.compaction import CompactionLimits, compact

    lake = _lake()
    if topic is not None and topic not in lake.topics():
        _fail(f"--topic {topic}: the lake has {', '.join(lake.topics())}", EXIT_SETTING)
    limits = CompactionLimits(small_rows, rows_max)
    try:
        for name in lake.topics() if topic is None else [topic]:
            for partition in lake.partitions(name):
                done = _waiting(lambda n=name, p=partition: compact(lake, n, p, limits, sweep_after_s))
                print(
                    f"{name}/{partition}: {done.merged} files merged into {done.into}, {done.swept} covered ones deleted"
                )
    except LakeGapError as error:
        _fail(str(error), EXIT_NOT_WHOLE)


@lake_app.command("retire")
def retire_command(
    dry_run: Annotated[bool, typer.Option(help="only say what would go")] = False,
) -> None:
    """Let go of the oldest rows, as FRAUD_LAKE_KEEP_DAYS and FRAUD_LAKE_SIZE_MAX_GIB say; never what training may need."""
    from adapters.lake import LakeGapError
    from trainer.retention import Retention, plan, retire

    lake = _lake()
    try:
        retention = Retention.of(TrainerSettings.read())
        found = plan(lake, retention) if dry_run else _waiting(lambda: retire(lake, retention))
    except ValueError as error:
        _fail(str(error), EXIT_SETTING)
    except LakeGapError as error:
        _fail(f"nothing is deleted from a lake that is not whole: {error}", EXIT_NOT_WHOLE)
    if not retention.is_limited:
        print("all is kept: FRAUD_LAKE_KEEP_DAYS and FRAUD_LAKE_SIZE_MAX_GIB are not set")
    for each in found.leaving:
        to, verb = each.files[-1].next, "would go" if dry_run else "went"
        print(f"{each.place}: {verb}: {len(each.files)} files before offset {to}, {each.bytes / 2**20:.1f} MiB")
    if found.excess_bytes:
        print(
            f"{found.excess_bytes / 2**20:.1f} MiB above FRAUD_LAKE_SIZE_MAX_GIB stay: a training run may need the newest "
            f"{retention.needed_days:g} days"
        )


@lake_app.command("files")
def files_command(
    topic: Annotated[str, typer.Argument(help="for instance features")],
    partition: Annotated[int | None, typer.Option(min=0, help="one partition; default: all")] = None,
) -> None:
    """The files that count, a path a line, in the order of the log."""
    from adapters.lake import LakeGapError

    lake = _lake()
    if topic not in lake.topics():
        _fail(f"{topic}: the lake has {', '.join(lake.topics())}", EXIT_SETTING)
    try:
        for file in lake.files(topic, partition):
            print(file.path)
    except LakeGapError as error:
        _fail(str(error), EXIT_NOT_WHOLE)


@lake_app.command("views")
def views_command() -> None:
    """DuckDB views over the files that count, as SQL: a view per topic, each row once."""
    from adapters.lake import LakeGapError
    from trainer.lake_views import views

    try:
        print(views(_lake()))
    except LakeGapError as error:
        _fail(str(error), EXIT_NOT_WHOLE)


def backfill_from_lake(output_path: Path) -> None:
    """Write transaction_id, card_id, occurred_at_ms and the features of every transaction of the lake; the command's exit codes."""
    from adapters.lake import LakeGapError
    from trainer.backfill import write_whole
    from trainer.replay import NothingToReplayError, replayed

    lake = _lake()
    try:
        with lake.reading():
            vectors = replayed(lake)
        write_whole(output_path, lambda path: vectors.write_parquet(path, compression="zstd"))
    except NothingToReplayError as error:
        _fail(str(error), EXIT_NOTHING)
    except LakeGapError as error:
        _fail(f"{error}. Nothing was written.", EXIT_NOT_WHOLE)
    except OSError as error:
        _fail(
            f"--output {output_path}: {error.strerror or error}; choose a folder that exists and has room", EXIT_SETTING
        )
    print(f"{output_path}: the vectors of {vectors.height:,} transactions of {lake.root}")


def _lake() -> Any:
    from adapters.lake import Lake

    lake = Lake(TrainerSettings.read().lake)
    if not lake.topics():
        _fail(
            f"there is no lake in {lake.root}: `fraudstream up` starts the archiver, or set FRAUD_LAKE_DIR",
            EXIT_NOTHING,
        )
    return lake


def _waiting(work: Any) -> Any:
    """Do it as soon as no other process merges files."""
    from adapters.lake import LakeLockedError

    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return work()
        except LakeLockedError as error:
            if time.monotonic() > deadline:
                _fail(f"{error} (waited {_WAIT_S:g} s)", EXIT_LATER)
            time.sleep(_POLL_S)


def _fail(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(code)
