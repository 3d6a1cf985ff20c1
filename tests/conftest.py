"""What the tests run against: real servers, chosen by a ladder, and named in the header.

Rule 1. Ladder: an address in the environment (FRAUD_TEST_KAFKA, FRAUD_TEST_REDIS), else a local server of
        adapters/backends, else a skip with the reason.
Rule 2. FRAUD_REQUIRE=kafka,redis,handbook,docker turns such a skip into a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.backends.kafka_broker import find_jars, find_java, kafka_broker
from adapters.backends.redis_server import find_redis, redis_server
from adapters.backends.server import Server, ServerError
from adapters.kafka import ensure_topics

REQUIRED = frozenset(filter(None, os.environ.get("FRAUD_REQUIRE", "").split(",")))
ROOT = Path(__file__).parents[1]


def missing(backend: str, reason: str) -> None:
    """Skip with the reason, or fail when FRAUD_REQUIRE names the backend."""
    if backend in REQUIRED:
        pytest.fail(f"FRAUD_REQUIRE names {backend}, but {reason}", pytrace=False)
    pytest.skip(f"no {backend}: {reason}")


def pytest_report_header() -> list[str]:
    """Which real backends this run uses."""
    return [
        f"kafka: {_describe_kafka()}",
        f"redis: {_describe_redis()}",
        f"docker: {_describe_docker()}",
        f"required: {', '.join(sorted(REQUIRED)) or 'nothing (what is missing is skipped with its reason)'}",
    ]


def _describe_kafka() -> str:
    if address := os.environ.get("FRAUD_TEST_KAFKA"):
        return address
    try:
        return f"Apache Kafka on {find_java()[1]}, {find_jars()[1]}"
    except ServerError as error:
        return f"none ({error})"


def _describe_redis() -> str:
    if address := os.environ.get("FRAUD_TEST_REDIS"):
        return address
    try:
        return find_redis()[1]
    except ServerError as error:
        return f"none ({error})"


def _describe_docker() -> str:
    if shutil.which("docker") is None:
        return "none (no docker command)"
    try:
        done = subprocess.run(
            ["docker", "version", "-f", "{{.Server.Version}}"], capture_output=True, text=True, timeout=10, check=False
        )
    except subprocess.TimeoutExpired:
        return "none (the engine does not answer)"
    return f"engine {done.stdout.strip()}" if done.returncode == 0 else "none (no engine runs)"


class Broker:
    """A Kafka with all topics made. `server` is None when its address was given."""

    def __init__(self, bootstrap: str, server: Server | None) -> None:
        self.bootstrap = bootstrap
        self.server = server


def _local_broker(folder: Path, partitions: int = 1) -> Server:
    try:
        server = kafka_broker(folder)
        server.start()
    except ServerError as error:
        missing("kafka", str(error))
        raise
    ensure_topics(f"127.0.0.1:{server.port}", partitions)
    return server


def _local_redis(folder: Path) -> Server:
    try:
        server = redis_server(folder)
        server.start()
    except ServerError as error:
        missing("redis", str(error))
        raise
    return server


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the session, with all topics, one partition each: a test reads from where the log ends at its start."""
    if address := os.environ.get("FRAUD_TEST_KAFKA"):
        ensure_topics(address, 1)
        yield Broker(address, None)
        return
    server = _local_broker(tmp_path_factory.mktemp("kafka"))
    yield Broker(f"127.0.0.1:{server.port}", server)
    server.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for the session."""
    if address := os.environ.get("FRAUD_TEST_REDIS"):
        yield address
        return
    server = _local_redis(tmp_path_factory.mktemp("redis"))
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()


@pytest.fixture
def fresh_kafka(tmp_path: Path) -> Iterator[Server]:
    """A broker of this test's own, to kill and start again; topics are made, one partition each."""
    server = _local_broker(tmp_path / "kafka")
    yield server
    server.stop()


@pytest.fixture
def fresh_redis(tmp_path: Path) -> Iterator[Server]:
    """A Redis of this test's own, to kill and start again."""
    server = _local_redis(tmp_path / "redis")
    yield server
    server.stop()
