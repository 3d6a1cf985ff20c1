"""`fraudstream features rebuild | drop | active`: from one feature definition to the next, while the stack runs.

Rule 1. Settings are read here and nowhere else. Exit codes: 0 done, 1 the past is not whole or a server does not answer,
        2 refused: there is nothing to do, or an argument is impossible.
Rule 2. A rebuild that was interrupted is given again, and goes on where it was.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from adapters.feature_switch import FeatureSwitch
from adapters.lake import Lake, LakeGapError
from adapters.state_store import StateStore, StateStoreAwayError
from fraud.features import FEATURE_HASH
from stream_features.history import HistoryMissingError
from stream_features.rebuild import Rebuild, RebuildRefusedError
from stream_features.settings import FeatureSettings

EXIT_FAILED: Final = 1
EXIT_REFUSED: Final = 2
HASH_LETTERS: Final = 12

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The state of feature definitions.")


class Source(StrEnum):
    """Where the past is read from."""

    lake = "lake"
    log = "log"


@app.command()
def rebuild(
    source: Annotated[Source, typer.Option("--from", help="lake: the archive, then Kafka; log: Kafka alone")],
    switch: Annotated[bool, typer.Option(help="change over when the live edge is reached; else only prepare")] = True,
) -> None:
    """Compute this release's state from the past, beside the running worker of the old one, and change over to it."""
    settings = FeatureSettings.read()
    _run(_rebuild(settings, Lake(settings.lake) if source is Source.lake else None, switch))


@app.command()
def drop(
    feature_hash: Annotated[str, typer.Argument(metavar="HASH", help="feature hash whose state is deleted")],
) -> None:
    """Delete the state of a definition that is not active."""
    if len(feature_hash) != HASH_LETTERS or not feature_hash.isalnum():
        print(
            f"HASH {feature_hash!r} is no feature hash: {HASH_LETTERS} letters and digits, as `features active` shows",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_REFUSED)
    _run(_drop(FeatureSettings.read(), feature_hash))


@app.command()
def active() -> None:
    """Show which definition is active, which are retired, and which this release computes."""
    _run(_active(FeatureSettings.read()))


async def _rebuild(settings: FeatureSettings, lake: Lake | None, switch: bool) -> None:
    work = Rebuild(settings, lake, lambda line: print(line, file=sys.stderr, flush=True))
    try:
        await work.start()
        print(f"features {FEATURE_HASH} beside {work.old_hash}", flush=True)
        done = await work.reach_the_edge()
        rows = done.transactions + done.rows_of_terminals
        print(
            f"{done.transactions:,} transactions and {done.rows_of_terminals:,} rows of terminals folded in {done.seconds:.1f} s, "
            f"{rows / max(done.seconds, 1e-3):,.0f} a second, {done.records_of_lake:,} records of them from the lake; "
            f"{done.behind:,} transactions behind the live edge",
            flush=True,
        )
        if switch:
            dropped = await work.take_over()
            print(
                f"features {FEATURE_HASH} are active; {work.old_hash} is retired, {dropped:,} keys of its state are dropped; "
                "start the worker and the scorer of this release"
            )
        else:
            print("prepared; the same command without --no-switch goes on from here and changes over")
    finally:
        await work.stop()


async def _drop(settings: FeatureSettings, feature_hash: str) -> None:
    store = StateStore(settings.redis_url, FEATURE_HASH)
    try:
        switch = FeatureSwitch(store)
        if (await switch.read()).active == feature_hash:
            raise RebuildRefusedError(
                f"features {feature_hash} are active: change over first, `fraudstream features rebuild`"
            )
        print(f"{await switch.drop(feature_hash):,} keys of features {feature_hash} are dropped")
    finally:
        await store.stop()


async def _active(settings: FeatureSettings) -> None:
    store = StateStore(settings.redis_url, FEATURE_HASH)
    try:
        definitions = await FeatureSwitch(store).read()
    finally:
        await store.stop()
    print(
        f"active {definitions.active or '-'}; retired {', '.join(sorted(definitions.retired)) or '-'}; this release {FEATURE_HASH}"
    )


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except RebuildRefusedError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_REFUSED) from None
    except (HistoryMissingError, LakeGapError, StateStoreAwayError, KafkaError, RedisError) as error:
        print(f"{error}; what was folded is kept: the same command goes on from there", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED) from None


if __name__ == "__main__":
    app()
