"""What the tests run against: real servers, chosen by a ladder, and named in the header.

Rule 1. Ladder: an address in the environment (FRAUD_TEST_KAFKA, FRAUD_TEST_REDIS), else a local process, else Docker, else a
        skip with the reason. (A local process starts in a third of a container's time.)
Rule 2. FRAUD_REQUIRE=kafka,redis,handbook,promtool,browser,spark,docker,peers turns such a skip into a failure.
Rule 3. A server of the session is shared: a test reads from where a log ends at its start, and empties nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from adapters import backends
from adapters.backends import BackendMissingError, Server, docker_server
from adapters.kafka_admin import ensure_topics

REQUIRED = frozenset(filter(None, os.environ.get("FRAUD_REQUIRE", "").split(",")))
ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("FRAUD_SHARED", ROOT.parent / "shared"))
HANDBOOK = SHARED / "data" / "handbook_2018-04-01_to_2018-09-04.parquet"
_NOT_INHERITED = ("FRAUD_KAFKA_BOOTSTRAP", "FRAUD_REDIS_URL", "FRAUD_BACKEND")

Make = Callable[..., Server]


def missing(backend: str, reason: str) -> NoReturn:
    """Skip with the reason, or fail when FRAUD_REQUIRE names the backend."""
    if backend in REQUIRED:
        pytest.fail(f"FRAUD_REQUIRE names {backend}, but {reason}", pytrace=False)
    pytest.skip(f"no {backend}: {reason}")


def _own(name: str, folder: Path) -> Server:
    """A server that is not started: local, else Docker. Raises BackendMissingError."""
    make: Make = {"kafka": backends.kafka, "redis": backends.redis}[name]
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    try:
        return make(folder, environment={**environment, "FRAUD_BACKEND": "local"})
    except BackendMissingError:
        return make(folder, environment=environment)


def _described(name: str) -> str:
    if address := os.environ.get(f"FRAUD_TEST_{name.upper()}"):
        return f"given: {address}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            return _own(name, Path(folder)).description
        except BackendMissingError as error:
            return f"none ({error})"


def pytest_report_header() -> list[str]:
    """Which real backends this run uses."""
    return [
        f"kafka: {_described('kafka')}",
        f"redis: {_described('redis')}",
        f"docker: {docker_server.why_not(docker_server.KAFKA_IMAGE) or 'an engine answers and the images are here'}",
        f"handbook: {HANDBOOK.name if HANDBOOK.exists() else f'not at {HANDBOOK}'}",
        f"required: {', '.join(sorted(REQUIRED)) or 'nothing: what is missing is skipped with its reason'}",
    ]


@contextmanager
def own_server(name: str, folder: Path) -> Iterator[Server]:
    """A `kafka` (without topics) or `redis` that was started for this, to kill and start again; or the skip with its reason."""
    try:
        server = _own(name, folder)
    except BackendMissingError as error:
        missing(name, str(error))
    with server:
        yield server


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of the session's broker, with all topics."""
    if address := os.environ.get("FRAUD_TEST_KAFKA"):
        yield address
        return
    with own_server("kafka", tmp_path_factory.mktemp("kafka")) as server:
        ensure_topics(server.address, 1)
        yield server.address


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the session's Redis."""
    if address := os.environ.get("FRAUD_TEST_REDIS"):
        yield address
        return
    with own_server("redis", tmp_path_factory.mktemp("redis")) as server:
        yield server.address


@pytest.fixture(scope="session")
def redis_image_url() -> Iterator[str]:
    """URL of a container of the Redis image that docker-compose.yml names: an older release than the local server."""
    if reason := docker_server.why_not(docker_server.REDIS_IMAGE):
        missing("docker", reason)
    os.environ.setdefault(
        "TESTCONTAINERS_RYUK_DISABLED", "true"
    )  # the container is removed below; ryuk's image may be out of reach
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(docker_server.REDIS_IMAGE) as container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"


@pytest.fixture
def fresh_kafka(tmp_path: Path) -> Iterator[Server]:
    """A broker of the test's own, to kill and start again, with all topics of one partition."""
    with own_server("kafka", tmp_path / "kafka") as server:
        ensure_topics(server.address, 1)
        yield server


@pytest.fixture
def fresh_redis(tmp_path: Path) -> Iterator[Server]:
    """A Redis of the test's own, to kill and start again."""
    with own_server("redis", tmp_path / "redis") as server:
        yield server


@pytest.fixture(scope="session")
def handbook() -> Path:
    """The published Handbook file."""
    if not HANDBOOK.exists():
        missing("handbook", f"there is no {HANDBOOK}; FRAUD_SHARED names the folder that holds data/")
    return HANDBOOK
