"""The console wired, and served until it is stopped.

Rule 1. Exit codes: 0 stopped by SIGTERM or SIGINT, 2 an impossible setting or a taken port, 70 a fault that a restart heals.
Rule 2. It starts without Kafka, Redis or any service, and says which of them it does not reach.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from adapters.lake import Lake
from adapters.telemetry import configure_logging, serve_metrics
from monitoring.console.alert_detail import AlertDetail
from monitoring.console.assets import read_assets
from monitoring.console.drift_page import DriftPage
from monitoring.console.explain import Explainer
from monitoring.console.guard import Guard, new_token
from monitoring.console.hub import Hub
from monitoring.console.log_reader import LogReader
from monitoring.console.matured_pages import MaturedPages
from monitoring.console.probe import Probe
from monitoring.console.registry_page import RegistryPage
from monitoring.console.sender import Sender
from monitoring.console.server import Console, application
from monitoring.console.targets import Targets, TargetsError
from monitoring.console.training import TrainingFeed
from monitoring.reference import Registry
from monitoring.settings import ConsoleSettings
from monitoring.wiring import EXIT_PERSON, EXIT_RESTART, terms

_END_S_MAX: Final = 2


class Sources:
    """What feeds the hub from other threads, started and ended with the server's event loop."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self.hub = Hub(settings.console_alerts_kept)
        self.probe = Probe(self.hub, Targets(settings), self.faults)
        self._reader = LogReader(
            settings.kafka_bootstrap, self._on_loop(self.hub_take), watched=lambda: self.hub.stream.readers > 0
        )
        self.hub.stream.opened = self._reader.hurry
        self._training = TrainingFeed(settings.redis_url, self._on_loop(self.hub_train))
        self._loop: asyncio.AbstractEventLoop | None = None

    def hub_take(self, records: Any) -> None:
        """Records to the hub."""
        self.hub.take(records)

    def hub_train(self, step: dict[str, str]) -> None:
        """A step of a training to the hub."""
        self.hub.train(step)

    def faults(self) -> dict[str, str]:
        """What the console does not reach, by name."""
        found = {"kafka": self._reader.fault, "redis": self._training.fault}
        return {name: fault for name, fault in found.items() if fault is not None}

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """While the server runs."""
        self._loop = asyncio.get_running_loop()
        self._reader.start()
        self._training.start()
        looking = asyncio.create_task(self.probe.run())
        try:
            yield
        finally:
            self._loop = None
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            self.probe.close()
            await asyncio.to_thread(self._reader.stop)
            await asyncio.to_thread(self._training.stop)

    def _on_loop(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """The same call, made on the event loop's thread."""

        def hand_over(what: Any) -> None:
            loop = self._loop
            if loop is not None:
                with suppress(RuntimeError):  # the loop has ended in between
                    loop.call_soon_threadsafe(take, what)

        return hand_over


def guarded(settings: ConsoleSettings, sources: Sources, sender: Sender) -> ASGIApp:
    """The whole application."""
    registry = Registry(settings.models)
    console = Console(
        hub=sources.hub,
        probe=sources.probe,
        sender=sender,
        detail=AlertDetail(settings.kafka_bootstrap, Lake(settings.lake), Explainer(settings.models)),
        registry=RegistryPage(settings.models),
        matured=MaturedPages(settings, terms(settings), registry.promise),
        drift=DriftPage(settings, registry),
        assets=read_assets(),
        token=new_token(),
    )
    app = application(console)
    app.router.lifespan_context = sources.running
    return Guard(app, settings.console_names.split(","), console.token, settings.console_webhook_token)


class _Server(uvicorn.Server):
    """Ends the event streams before it waits for open connections: a browser never hangs up by itself."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._hub.stream.close()
        await super().shutdown(sockets)


def run_console(settings: ConsoleSettings) -> int:
    """Serve until stopped; return the exit code."""
    log = configure_logging(settings, "console")
    try:
        sources = Sources(settings)
        listening = socket.create_server((settings.console_host, settings.console_port), reuse_port=False)
    except TargetsError as error:
        print(error, file=sys.stderr)
        return EXIT_PERSON
    except OSError as error:
        print(
            f"FRAUD_CONSOLE_HOST, FRAUD_CONSOLE_PORT: {settings.console_host}:{settings.console_port} cannot be listened on "
            f"({error.strerror}): choose another port",
            file=sys.stderr,
        )
        return EXIT_PERSON
    sender = Sender(settings.kafka_bootstrap)
    config = uvicorn.Config(
        guarded(settings, sources, sender),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_END_S_MAX,
        backlog=256,
    )
    serve_metrics(settings, lambda: None)
    log.info(f"the console is at http://{settings.console_host}:{listening.getsockname()[1]}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # the server ends by itself, and then raises the signal again
    try:
        _Server(config, sources.hub).run(sockets=[listening])
    except Exception:
        log.exception("ended for a restart")
        return EXIT_RESTART
    finally:
        sender.close()
    log.info("stopped")
    return 0
