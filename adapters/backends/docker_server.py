"""Kafka and Redis as containers, where a Docker engine answers and the image is already here.

Rule 1. Nothing is pulled: on a machine without a registry a pull hangs, and the next rung of the ladder is a second away.
Rule 2. Data is in a volume named after the folder it stands for; the container is made anew at each first start and removed in
        the end. kill() and start() keep it, and its port.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from adapters.backends.child import polled
from adapters.backends.kafka_local import CLUSTER_ID, serves_topics
from adapters.backends.redis_local import SETTINGS, runs_functions
from adapters.backends.server import BackendFailedError, StartedWithin
from adapters.ports import LOOPBACK, free_port_near

KAFKA_IMAGE: Final = "apache/kafka:4.3.1"
REDIS_IMAGE: Final = "redis:7.4-alpine"
LABEL: Final = "fraudstream.backend"
READY_S_MAX: Final = 90.0
_ANSWER_S_MAX: Final = 10.0


def docker(*arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run the docker command; code 125 when it cannot be run or takes too long."""
    try:
        return subprocess.run(
            ["docker", *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(["docker", *arguments], 125, "", str(error))


def why_not(image: str) -> str | None:
    """Why the image cannot be run here now; None when it can."""
    if shutil.which("docker") is None:
        return "no docker command"
    if docker("version", "--format", "{{.Server.Version}}", timeout_s=_ANSWER_S_MAX).returncode:
        return "no Docker engine answers"
    if docker("image", "inspect", image, timeout_s=_ANSWER_S_MAX).returncode:
        return f"image {image} is not here (`docker pull {image}` once, and it will be used)"
    return None


class DockerServer(StartedWithin):
    """One container."""

    def __init__(
        self, name: str, folder: Path, port: int, run: Sequence[str], address: str, ready: Callable[[str], bool]
    ) -> None:
        self.port = port
        self._volume = f"fraudstream-{name}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"
        self.name = f"{self._volume}-{port}"
        self._run = [word.replace("{volume}", self._volume) for word in run]
        self._ready = ready
        self.address = address
        self.description = ""
        self.container: str | None = None

    def start(self) -> None:
        """Make the container, or start the killed one again, and wait until it answers."""
        if self.container is None:
            self._remove_leftovers()
            told = docker("run", "--detach", "--name", self.name, "--label", LABEL, *self._run)
            self.container = told.stdout.strip() or None
        else:
            told = docker("start", self.container)
        if told.returncode:
            raise BackendFailedError(f"Docker did not start {self.name}: {told.stderr.strip()[-600:]}")
        for _ in polled(READY_S_MAX, 0.2):
            if self._ready(self.address):
                return
            if not self.alive():
                break
        raise BackendFailedError(
            f"{self.name} did not answer at {self.address}; its last lines:\n  {self._last_lines()}"
        )

    def _remove_leftovers(self) -> None:
        """Two servers on one volume would refuse each other: what a process that was killed left is removed."""
        for container in docker("ps", "--all", "--quiet", "--filter", f"volume={self._volume}").stdout.split():
            docker("rm", "--force", container)

    def _last_lines(self) -> str:
        told = docker("logs", "--tail", "20", self.name)
        return "\n  ".join((told.stdout + told.stderr).splitlines())

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop and remove the container; the volume stays."""
        if self.container is not None:
            docker("stop", "--time", str(max(1, round(timeout_s))), self.container, timeout_s=timeout_s + 20)
            docker("rm", "--force", self.container)
            self.container = None

    def kill(self) -> None:
        """SIGKILL to the container; start() starts the same one."""
        if self.container is not None:
            docker("kill", self.container)

    def alive(self) -> bool:
        """Whether the container runs."""
        if self.container is None:
            return False
        return docker("inspect", "--format", "{{.State.Running}}", self.container).stdout.strip() == "true"

    def forget(self) -> None:
        """Remove the container and its data."""
        self.stop(1)
        docker("volume", "rm", "--force", self._volume)


def kafka_environment(port: int) -> dict[str, str]:
    """The settings of kafka_local for the image, reached at this port of the machine."""
    return {
        "CLUSTER_ID": CLUSTER_ID,
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://localhost:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{LOOPBACK}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_NUM_NETWORK_THREADS": "1",
        "KAFKA_NUM_IO_THREADS": "2",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_BROKER_SESSION_TIMEOUT_MS": "3000",
        "KAFKA_BROKER_HEARTBEAT_INTERVAL_MS": "1000",
        "KAFKA_GROUP_COORDINATOR_THREADS": "1",
        "KAFKA_METADATA_MAX_IDLE_INTERVAL_MS": "5000",
        "KAFKA_HEAP_OPTS": "-Xms128m -Xmx512m",
        "KAFKA_JVM_PERFORMANCE_OPTS": "-server -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true -XX:-UsePerfData",
    }


def redis_command() -> list[str]:
    """What the container runs: the settings of redis_local."""
    return ["redis-server", *(word for name, value in SETTINGS.items() for word in (f"--{name}", value))]


def docker_kafka(folder: Path, port: int = 0) -> DockerServer:
    """A broker in a container."""
    port = free_port_near(port)
    run = ["--publish", f"{LOOPBACK}:{port}:9092", "--volume", "{volume}:/var/lib/kafka/data"]
    run += [word for name, value in kafka_environment(port).items() for word in ("--env", f"{name}={value}")]
    server = DockerServer("kafka", folder, port, [*run, KAFKA_IMAGE], f"{LOOPBACK}:{port}", serves_topics)
    server.description = f"{KAFKA_IMAGE} in Docker"
    return server


def docker_redis(folder: Path, port: int = 0) -> DockerServer:
    """A Redis in a container."""
    port = free_port_near(port)
    run = ["--publish", f"{LOOPBACK}:{port}:6379", "--volume", "{volume}:/data"]
    run += [REDIS_IMAGE, *redis_command()]
    server = DockerServer("redis", folder, port, run, f"redis://{LOOPBACK}:{port}/0", runs_functions)
    server.description = f"{REDIS_IMAGE} in Docker"
    return server
