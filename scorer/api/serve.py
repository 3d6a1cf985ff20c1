"""The API as a process: wired, warmed up, then listening, until SIGTERM or SIGINT.

Rule 1. It listens when it can answer: kernels compiled, the champion in the slot (or refused: then the rules decide).
Rule 2. The slot is looked at beside the requests; the loop of the requests swaps one reference.
Rule 3. A port that is taken is a setting to mend: exit code 2.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn
import uvloop

from adapters.telemetry import configure_logging, serve_metrics
from fraud.features import FEATURE_HASH
from scorer.api.app import Service, make_app
from scorer.api.gate import Gate
from scorer.api.stored_state import StoredState
from scorer.api.token_buckets import TokenBuckets
from scorer.api.vector_now import VectorReader
from scorer.settings import ApiSettings
from scorer.slot import LOOK_SECONDS, ModelSlot

SLOT_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 3
CONNECTIONS_MAX: Final = 512
EXIT_SETTING: Final = 2


class _Server(uvicorn.Server):
    """uvicorn's server without its own signal handlers: it would end with the signal instead of exit code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to run()."""
        yield


def run() -> int:
    """Serve until stopped; return the exit code."""
    settings = ApiSettings.read()
    log = configure_logging(settings, "scorer.api")
    try:
        bound = _bound(settings.api_host, settings.api_port)
    except OSError as error:
        log.error(
            f"FRAUD_API_HOST={settings.api_host}, FRAUD_API_PORT={settings.api_port}: {error.strerror}; set another port"
        )
        return EXIT_SETTING
    slot = ModelSlot(settings.models)
    answering: list[bool] = []
    serve_metrics(settings, lambda: None if answering else "compiling the fold and loading the model")
    vectors = VectorReader(settings.partitions, settings.api_entities_cached_max)
    vectors.warm_up()
    slot.settle(SLOT_SECONDS_MAX)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, slot, vectors, bound, answering))
    slot.close()
    log.info("stopped")
    return 0


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the port and does not listen yet. Raises OSError."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound


async def _serve(
    settings: ApiSettings, slot: ModelSlot, vectors: VectorReader, bound: socket.socket, answering: list[bool]
) -> None:
    state = StoredState(settings.redis_url, FEATURE_HASH, settings.api_state_retry_ms / 1000)
    service = Service(state, vectors, slot, settings.api_deadline_ms / 1000, settings.exploration_share)
    buckets = TokenBuckets(settings.api_rate_per_s, settings.api_burst)
    server = _Server(
        uvicorn.Config(
            Gate(make_app(service), buckets),
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=STOP_SECONDS_MAX,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
    looking = asyncio.create_task(_follow_champion(slot))
    host, port = bound.getsockname()[:2]
    structlog.get_logger("scorer.api").info("answering", address=f"http://{host}:{port}", deciding=slot.version)
    answering.append(True)
    try:
        await server.serve(sockets=[bound])
    finally:
        looking.cancel()
        await state.close()


async def _follow_champion(slot: ModelSlot) -> None:
    while True:
        try:
            slot.refresh()
        except Exception:
            structlog.get_logger("scorer.api").exception("the registry was not looked at; the last good model stays")
        await asyncio.sleep(LOOK_SECONDS)
