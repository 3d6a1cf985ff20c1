"""The producer as a process, and what it wrote.

Rule 1. Every wait has a deadline.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

WAIT_S = 120.0


def environment(bootstrap: str, state: Path, **settings: str) -> dict[str, str]:
    """The environment of a service of the stack."""
    return {
        **os.environ,
        "FRAUD_KAFKA_BOOTSTRAP": bootstrap,
        "FRAUD_STATE_DIR": str(state),
        "FRAUD_PARTITIONS": "1",
        "FRAUD_METRICS_PORT": "0",
        **settings,
    }


def run(arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the producer to its end."""
    command = [sys.executable, "-m", "producer", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)


def start(module: str, arguments: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a service; its output goes to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen([sys.executable, "-m", module, *arguments], env=env, stdout=output, stderr=output)


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send a signal and wait for the exit code."""
    process.send_signal(number)
    return process.wait(timeout=WAIT_S)


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until it is true, within the deadline."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:.0f} s"
        time.sleep(0.05)


class Log:
    """A topic with one partition, read from where it ended when this was made."""

    def __init__(self, bootstrap: str, topic: str, partition: int = 0) -> None:
        self._bootstrap = bootstrap
        self._place = TopicPartition(topic, partition)
        self._begin = self.end()

    def end(self) -> int:
        """The next offset."""
        with closing(self._consumer()) as consumer:
            offset: int = consumer.end_offsets([self._place])[self._place]
            return offset

    def grown(self) -> int:
        """How many records came since."""
        return self.end() - self._begin

    def read(self) -> list[dict[str, Any]]:
        """The messages that came since; `appended_at_ms` is the broker's time of each."""
        messages: list[dict[str, Any]] = []
        with closing(self._consumer()) as consumer:
            last = consumer.end_offsets([self._place])[self._place]
            consumer.assign([self._place])
            consumer.seek(self._place, self._begin)
            deadline = time.monotonic() + WAIT_S
            while consumer.position(self._place) < last:
                assert time.monotonic() < deadline, f"{self._place} cannot be read within {WAIT_S:.0f} s"
                for record in consumer.poll(timeout_ms=500).get(self._place, []):
                    messages.append(json.loads(record.value) | {"appended_at_ms": record.timestamp})
        return messages

    def _consumer(self) -> KafkaConsumer:
        return KafkaConsumer(bootstrap_servers=self._bootstrap, group_id=None, enable_auto_commit=False)
