"""`python -m scorer`: the scorer; `python -m scorer api`: its synchronous API. The environment is read once.

Rule 1. Exit codes: 0 stopped by SIGTERM or SIGINT; 70 a fault that a restart heals; 1 a flood of dead letters;
        2 vectors of other features, or two scorers under one name: a person must look.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import Final

import structlog
import typer
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from adapters.feature_switch import read_definitions
from adapters.snapshot_store import SnapshotReader, connect
from adapters.telemetry import configure_logging, serve_metrics
from fraud.features import FEATURE_HASH
from fraud.flood import DeadLetterFloodError
from scorer.batch_path import BatchPath
from scorer.kafka_away import KafkaAwayError, connected
from scorer.lane import FeatureHashMismatchError
from scorer.loop import ConsumerStuckError, Limits, ScoringLoop
from scorer.marks import read_marks
from scorer.membership import NameTakenError, name_is_taken
from scorer.settings import ScorerSettings
from scorer.slot import BATCH_CHAMPION, CHALLENGER, ModelSlot
from scorer.writer import ScoreWriter

EXIT_PERSON: Final = 2
EXIT_RESTART: Final = 70
SLOT_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 4.0


def _static_name(settings: ScorerSettings) -> str:
    """This scorer's name in its group: who comes again under it within the session has its partitions again."""
    return f"{settings.scorer_group}-{settings.scorer_id}"


def _consumer(settings: ScorerSettings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap,
        client_id=f"scorer-{settings.scorer_id}",
        group_id=settings.scorer_group,
        group_instance_id=_static_name(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=settings.poll_records_max,
        fetch_min_bytes=1,
        fetch_max_wait_ms=settings.fetch_wait_ms,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        max_poll_interval_ms=300_000,
    )


def _batch_path(settings: ScorerSettings) -> BatchPath | None:
    """The batch path, which scores beside; None when the settings leave it out."""
    if not settings.batch_path:
        return None
    snapshots = SnapshotReader(connect(settings.redis_url, settings.snapshot_timeout_s))
    return BatchPath(snapshots, ModelSlot(settings.models, role=BATCH_CHAMPION), settings.snapshot_age_days_max)


def _wired(
    settings: ScorerSettings, slot: ModelSlot, shadow: ModelSlot, batch_path: BatchPath | None
) -> tuple[AIOKafkaConsumer, ScoreWriter, ScoringLoop]:
    consumer = _consumer(settings)
    writer = ScoreWriter(settings.kafka_bootstrap, settings.partitions, settings.kafka_away_seconds_max)
    limits = Limits(
        settings.kafka_away_seconds_max,
        settings.dead_letter_share_max,
        settings.dead_letter_records_min,
        settings.exploration_share,
    )
    retired: set[str] = set()

    def is_retired(feature_hash: str) -> bool:
        if feature_hash not in retired:  # asked anew for each record: it may become so at any time
            definitions = read_definitions(settings.redis_url)
            retired.update(definitions.retired if definitions.active == FEATURE_HASH else ())
        return feature_hash in retired

    loop = ScoringLoop(
        consumer,
        writer,
        slot,
        partial(read_marks, settings.kafka_bootstrap, timeout_s=settings.kafka_away_seconds_max),
        limits,
        shadow=shadow,
        batch_path=batch_path,
        is_retired=is_retired,
        name_is_taken=partial(
            name_is_taken, consumer, settings.kafka_bootstrap, settings.scorer_group, _static_name(settings)
        ),
    )
    return consumer, writer, loop


def _settle(slot: ModelSlot, batch_path: BatchPath | None) -> None:
    """Wait for the models of this moment, both at once."""
    if batch_path is not None:
        batch_path.slot.refresh()  # begins beside the other one
    slot.settle(SLOT_SECONDS_MAX)
    if batch_path is not None:
        batch_path.slot.settle(SLOT_SECONDS_MAX)


async def _score(
    settings: ScorerSettings, stop: threading.Event, slot: ModelSlot, shadow: ModelSlot, batch_path: BatchPath | None
) -> None:
    """Score until `stop`. What ends the process ends it here: nobody waits for tasks that wait for Kafka."""
    try:
        _settle(slot, batch_path)
        structlog.get_logger("scorer").info(
            "scoring", deciding=slot.version, kafka=settings.kafka_bootstrap, partitions=settings.partitions
        )
        consumer, writer, loop = _wired(settings, slot, shadow, batch_path)
        serve_metrics(settings, loop.health)
        await connected(consumer.start, settings.kafka_away_seconds_max)
        await connected(writer.start, settings.kafka_away_seconds_max)
        # Not adapters.garbage: each prediction of XGBoost leaves a cycle, and 20,000 young objects at once take 10 ms.
        gc.freeze()  # a full collection would walk the libraries' 200,000 objects for 0.1 s
        await loop.run(stop)
    except (FeatureHashMismatchError, DeadLetterFloodError) as error:
        _end(EXIT_PERSON, str(error))
    except NameTakenError:
        _end(EXIT_PERSON, f"another scorer runs with FRAUD_SCORER_ID={settings.scorer_id}: give each its own")
    except (KafkaError, KafkaAwayError, ConsumerStuckError) as error:
        _end(0 if stop.is_set() else EXIT_RESTART, f"Kafka at {settings.kafka_bootstrap}: {error!r}")
    except Exception:
        structlog.get_logger("scorer").exception("the batch failed")
        _end(EXIT_RESTART, "ended for a restart")
    await writer.close()
    with suppress(asyncio.CancelledError):  # aiokafka 0.14 lets one out when a fetch waits for Kafka's return
        await consumer.stop()


def _end(code: int, message: str) -> None:
    """Say why and end now. Nothing is flushed: all that counts stands in Kafka."""
    structlog.get_logger("scorer").error(message, exit_code=code)
    sys.stderr.flush()
    os._exit(code)


def _stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets; a stop that takes longer than STOP_SECONDS_MAX is ended: the marks hold."""
    stop = threading.Event()

    def asked(number: int, frame: object) -> None:
        if not stop.is_set():
            stop.set()
            deadline = threading.Timer(STOP_SECONDS_MAX, _end, (0, "stopped without waiting for Kafka any longer"))
            deadline.daemon = True
            deadline.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    return stop


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def api() -> None:
    """Answer GET /features/{card} and POST /score until SIGTERM or SIGINT."""
    from scorer.api.serve import run  # the loop needs no web server

    raise typer.Exit(run())


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Score `features` until SIGTERM or SIGINT."""
    if context.invoked_subcommand is not None:
        return
    settings = ScorerSettings.read()
    log = configure_logging(settings, "scorer")
    stop = _stop_on_signals()
    slot, shadow = ModelSlot(settings.models), ModelSlot(settings.models, role=CHALLENGER)
    batch_path = _batch_path(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_score(settings, stop, slot, shadow, batch_path))
    for each in (slot, shadow, None if batch_path is None else batch_path.slot):
        if each is not None:
            each.close()
    log.info("stopped")


if __name__ == "__main__":
    app()
