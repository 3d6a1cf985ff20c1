"""Our stack as a subject: every service, run by the local runner in a state folder of its own.

Rule 1. The runner is told where Kafka and Redis are, so it starts and ends the services only. They run with their defaults, but
        for the nights: the load is a world in fast motion, whose midnights pass every half minute and less, so none begins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

from adapters.backends.child import Child
from adapters.backends.server import Say, quietly
from benchmarks.harness import agreed
from benchmarks.harness.servers import Servers
from cli.background_stack import await_ready, end_stack, prepared
from cli.services import with_code_on_path
from cli.stack_state import StackFolder
from fraud import packed, topics

NAME: Final = "fraudstream"
NO_NIGHTS: Final = {"FRAUD_TRAIN_SETTLE_S": "3600"}


class SubjectEndedError(RuntimeError):
    """A process of a subject has ended, or does not do its work; the message names its log."""


class OurStack:
    """All services of `fraudstream up`. settings: further FRAUD_ variables."""

    name: Final = NAME
    topic: Final = topics.TRANSACTIONS.name
    output: Final = topics.SCORES.name

    def __init__(self, servers: Servers, model: agreed.AgreedModel, settings: Mapping[str, str] | None = None) -> None:
        self.partitions = servers.partitions
        self._servers = servers
        self._settings = {**NO_NIGHTS, **(settings or {})}
        path = servers.folder / "ours"
        path.mkdir(exist_ok=True)
        self._folder = StackFolder(path)
        agreed.publish(model, path / "models")
        self._runner: Child | None = None

    def start(self, say: Say = quietly) -> None:
        """Start and wait until every service is ready. Raises cli.failure.CommandError with the reason."""
        prepared(self._folder, say)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
        for name in os.environ.keys() - clean.keys():
            clean[name] = ""  # the child inherits our environment: an empty variable counts as not set
        environment = {
            **with_code_on_path(clean),
            **self._settings,
            "FRAUD_STATE_DIR": str(self._folder.path),
            "FRAUD_KAFKA_BOOTSTRAP": self._servers.kafka.address,
            "FRAUD_REDIS_URL": self._servers.redis.address,
            "FRAUD_PARTITIONS": str(self.partitions),
            "PYTHONUNBUFFERED": "1",
        }
        log = self._folder.logs / "runner.log"
        self._runner = Child("runner", [sys.executable, "-m", "cli.runner"], log, environment=environment)
        self._runner.start()
        await_ready(self._folder, self._runner, say)

    def stop(self) -> None:
        """End them in order."""
        end_stack(self._folder, quietly)
        if self._runner is not None:
            self._runner.stop()

    def check(self) -> None:
        """Raise SubjectEndedError when a service is down or was restarted: its numbers would be another's."""
        state = self._folder.running()
        if state is None:
            raise SubjectEndedError(f"the runner has ended: see {self._folder.logs / 'runner.log'}")
        for name, one in state.services.items():
            if one.restarts or one.process is None:
                raise SubjectEndedError(f"{name} was restarted or is down ({one.detail}): see {one.log}")

    def pids(self) -> Mapping[str, int]:
        """The services and the runner."""
        state = self._folder.running()
        assert state is not None, "start() first"
        services = {name: one.process.pid for name, one in state.services.items() if one.process is not None}
        return {**services, "runner": state.runner.pid}

    def decode(self, value: bytes) -> list[str]:
        """The transactions of a scores record."""
        return packed.unpack(value, (packed.SCORES,)).text("transaction_id")
