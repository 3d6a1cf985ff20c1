"""The services that `fraudstream up` runs, as data.

Rule 1. Services start together, after the topics are made, and end in the order of this table.
Rule 2. Feature workers share the partitions: there are at most as many, each with a name of its own.
Rule 3. A service is ready when /healthz on its metrics port answers 200.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cli.failure import CommandError

CODE_FOLDER: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Service:
    """One process. port: of its metrics, when it is free. ends_with: services of equal number end together.

    environment: variables of its own.
    answers_on: the setting of the port that people and programs reach it on, and that port; None where it has none.
    """

    name: str
    arguments: tuple[str, ...]
    port: int
    ends_with: int
    niceness: int = 0
    environment: tuple[tuple[str, str], ...] = ()
    answers_on: tuple[str, int] | None = None

    @property
    def command(self) -> list[str]:
        """How it is started."""
        return [sys.executable, "-m", *self.arguments]


SERVICES: Final = (
    Service("scorer", ("scorer",), 9102, ends_with=1),
    Service("scorer_api", ("scorer", "api"), 9109, ends_with=1, answers_on=("FRAUD_API_PORT", 8090)),
    Service("stream_features", ("stream_features",), 9101, ends_with=2),
    Service("archiver", ("trainer", "archive"), 9103, ends_with=3, niceness=5),
    Service("trainer", ("trainer", "serve"), 9104, ends_with=3, niceness=10),
    Service("evaluator", ("monitoring", "evaluator"), 9106, ends_with=3, niceness=10),
    Service("watch", ("monitoring", "watch"), 9107, ends_with=3, niceness=10),
    Service(
        "console", ("monitoring", "console"), 9110, ends_with=3, niceness=5, answers_on=("FRAUD_CONSOLE_PORT", 8400)
    ),
)
WORKER: Final = "stream_features"
WORKER_PORTS: Final = 9110  # of the second worker; the following ones count on
PRODUCER_PORT: Final = 9105
KAFKA_PORT: Final = 9092
REDIS_PORT: Final = 6379


def services_with(workers: int, partitions: int) -> tuple[Service, ...]:
    """SERVICES with that many feature workers. Raises CommandError when some of them would have nothing to do."""
    if workers > partitions:
        raise CommandError(
            f"{workers} feature workers (FRAUD_FEATURE_WORKERS, --workers) for {partitions} partitions: a worker needs one; "
            f"give at most {partitions}, or start with empty topics and FRAUD_PARTITIONS={workers} or more",
            2,
        )
    each = -(-partitions // workers)
    if (busy := -(-partitions // each)) < workers:
        raise CommandError(
            f"{workers} feature workers (FRAUD_FEATURE_WORKERS, --workers) for {partitions} partitions: up to {each} go to each, so "
            f"that some workers may have none; give {busy}, or {partitions}",
            2,
        )
    first = next(service for service in SERVICES if service.name == WORKER)
    more = [
        replace(first, name=f"{WORKER}-{i}", port=WORKER_PORTS + i, environment=(("FRAUD_WORKER_ID", str(i)),))
        for i in range(1, workers)
    ]
    return (*SERVICES, *more)


def with_code_on_path(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a service: it runs from any folder, also where the project is not installed."""
    path = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": f"{CODE_FOLDER}{os.pathsep}{path}" if path else str(CODE_FOLDER)}
