"""`python -m stream_features`: the feature worker. Everything is wired here; the environment is read once."""

from __future__ import annotations

import asyncio
import signal

import uvloop
from aiokafka.errors import KafkaError

from adapters.garbage import settle_garbage
from adapters.parsed_records import use_parsed_records
from adapters.telemetry import configure_logging, serve_metrics
from stream_features.app import FeatureWorker
from stream_features.lane_runner import EXIT_RESTART, end_process
from stream_features.settings import FeatureSettings

STOP_SECONDS_MAX = 4.0


async def _work(settings: FeatureSettings) -> None:
    worker = FeatureWorker(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serve_metrics(settings, worker.health)
    starting, stopped = asyncio.ensure_future(worker.start()), asyncio.ensure_future(stop.wait())
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # it was standing by, or the store is away: there is nothing to leave
        end_process(0, "stopped before it had begun")
    try:
        await starting
    except (KafkaError, OSError) as error:
        end_process(EXIT_RESTART, f"no Kafka at {settings.kafka_bootstrap}: {error}")
    settle_garbage()
    crashed = asyncio.ensure_future(worker.crashed())
    await asyncio.wait((stopped, crashed), return_when=asyncio.FIRST_COMPLETED)
    if crashed.done():
        end_process(EXIT_RESTART, f"Faust stopped: {crashed.result()!r}")
    crashed.cancel()
    await asyncio.wait_for(worker.stop(), STOP_SECONDS_MAX)


def main() -> None:
    """Run until SIGTERM or SIGINT; exit code 0; 70 for a fault that a restart heals, 2 for one that it does not."""
    settings = FeatureSettings.read()
    log = configure_logging(settings, "stream_features")
    use_parsed_records()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_work(settings))
    except TimeoutError:
        end_process(0, f"stopped without waiting longer than {STOP_SECONDS_MAX:.0f} s: the state is at its watermark")
    log.info("stopped")


if __name__ == "__main__":
    main()
