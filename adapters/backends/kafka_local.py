"""A real Apache Kafka in KRaft mode on this machine's Java: one process, broker and controller.

Rule 1. The settings are those of one small machine (DESIGN 10 and 11): warm at once, little memory, back in seconds after
        a kill. They are written for each start, so a port may change; the data in `folder` stays.
Rule 2. It is ready when it leads its partitions, not when its port opens: a client that comes earlier sees no topics,
        and asks again minutes later.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from adapters.backends.child import Child, polled
from adapters.backends.java import Java
from adapters.backends.kafka_jars import jars_version
from adapters.backends.server import BackendFailedError, StartedWithin
from adapters.ports import LOOPBACK, answers, free_port_near

# 22 characters of base64; a random one may begin with a dash, which the storage tool takes for an option.
CLUSTER_ID: Final = "fraudstreamfraudstreag"
READY_S_MAX: Final = 60.0
_LOG4J: Final = Path(__file__).with_name("kafka_log4j2.properties")
_JVM: Final = (
    "-server",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xms128m",
    "-Xmx512m",
    "-Djava.awt.headless=true",
    "-XX:-UsePerfData",  # nobody attaches to it, and it samples twenty times a second
)


def properties(folder: Path, port: int, controller_port: int) -> dict[str, str]:
    """The broker's settings."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "num.network.threads": "1",
        "num.io.threads": "2",
        "num.recovery.threads.per.data.dir": "1",
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "1000",
        # An idle broker works least: one thread for the groups, and a mark in the metadata log every 5 s instead of every half.
        "group.coordinator.threads": "1",
        "metadata.max.idle.interval.ms": "5000",
        "replica.fetch.max.bytes": str(4 * 1024 * 1024),
        "log.retention.check.interval.ms": "300000",
    }


class LocalKafka(StartedWithin):
    """The broker. folder: its data, settings and log; port: 0 for any free one."""

    def __init__(self, folder: Path, java: Java, jars: Path, port: int = 0, log: Path | None = None) -> None:
        self._folder = folder.resolve()
        self._java = java
        self._jars = jars
        self.port = free_port_near(port)
        self.address = f"{LOOPBACK}:{self.port}"
        self.description = f"Apache Kafka {jars_version(jars)} in KRaft mode on Java {java.version}, local process"
        self.log = log or self._folder / "kafka.log"
        self._settings = self._folder / "server.properties"
        self.child = Child("kafka", self._command("kafka.Kafka", str(self._settings)), self.log)

    def _command(self, main_class: str, *arguments: str) -> list[str]:
        java = [str(self._java.path), *_JVM, f"-Dlog4j2.configurationFile={_LOG4J}"]
        return [*java, "-cp", f"{self._jars}/*", main_class, *arguments]

    def start(self) -> None:
        """Format the folder if it is new, start, and wait until the broker leads its partitions."""
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = properties(self._folder, self.port, free_port_near(0))
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        if not (self._folder / "data" / "meta.properties").exists():
            self._format()
        self.child.start()
        for _ in polled(READY_S_MAX):
            if not self.child.alive():
                raise self._failed(f"ended with code {self.child.exit_code()}")
            if answers(LOOPBACK, self.port) and serves_topics(self.address):
                return
        raise self._failed(f"did not answer within {READY_S_MAX:.0f} s")

    def _format(self) -> None:
        command = self._command("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._settings))
        told = subprocess.run([*command, "--ignore-formatted"], check=False, capture_output=True, text=True, timeout=60)
        if told.returncode:
            raise BackendFailedError(
                f"Kafka's folder {self._folder} cannot be prepared: {(told.stderr or told.stdout)[-600:]}"
            )

    def _failed(self, how: str) -> BackendFailedError:
        told = "\n  ".join(self.child.last_lines())
        return BackendFailedError(f"Kafka at {self.address} {how}; its log is {self.log}, its last lines:\n  {told}")

    def stop(self, timeout_s: float = 5.0) -> None:
        """SIGTERM: the broker flushes and leaves in order."""
        self.child.stop(timeout_s)

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()

    def alive(self) -> bool:
        """Whether its process runs."""
        return self.child.alive()


def serves_topics(bootstrap: str, timeout_s: float = 3.0) -> bool:
    """Whether a broker answers there, and every partition that it knows has a leader."""
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=int(timeout_s * 1000))
    except (KafkaError, OSError, ValueError):
        return False
    try:
        return all(
            partition["error_code"] == 0 and partition["leader_id"] >= 0
            for topic in admin.describe_topics()
            for partition in topic["partitions"]
        )
    except KafkaError:
        return False
    finally:
        admin.close()
