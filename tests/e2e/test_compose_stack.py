"""The stack of docker-compose.yml on a real engine: everything becomes healthy, alerts flow, Prometheus reads every service.

Rule 1. Nothing of a stack that a person runs is touched: own project name, free ports, own volumes, removed at the end.
Rule 2. Every wait has a deadline, and a failure shows the services' logs.
Rule 3. Skipped with the reason where there is no engine or an image can be neither found nor pulled; FRAUD_REQUIRE=docker
        makes that a failure.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import missing

ROOT: Final = Path(__file__).parents[2]
# Every port that is published, so that none is one that something on this machine may have.
PUBLISHED: Final = re.compile(r"\$\{(PORT_[A-Z]+):-")
# The stack's charts need no proof here, and there is no image of it where registries cannot be reached.
LEFT_OUT: Final = {"grafana"}
# The rules need ten days of a card before they judge its amounts.
HISTORY_DAYS: Final = "12"
UP_S: Final = 240
ALERTS_S: Final = 180
SCRAPED_S: Final = 60

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]


@dataclass(frozen=True)
class Stack:
    """A running project of docker-compose.yml."""

    project: str
    environment: dict[str, str]

    def compose(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` on this project; return what it did. Raises TimeoutExpired after `seconds`."""
        return subprocess.run(
            ["docker", "compose", "--progress", "quiet", "-p", self.project, *arguments],
            check=False,
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def url(self, variable: str, path: str) -> str:
        """The address of a published port."""
        return f"http://127.0.0.1:{self.environment[variable]}{path}"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The stack, up and healthy."""
    _require_engine()
    ports = _free_ports(*sorted(set(PUBLISHED.findall((ROOT / "docker-compose.yml").read_text()))))
    stack = Stack(f"fraudstream-test-{os.getpid()}", {**ports, "FRAUD_DEMO_HISTORY_DAYS": HISTORY_DAYS})
    try:
        services = sorted(set(stack.compose("config", "--services").stdout.split()) - LEFT_OUT)
        _require_images(stack, services)
        built = stack.compose("build", "--quiet", seconds=900)
        assert built.returncode == 0, built.stdout + built.stderr
        up = stack.compose("up", "--detach", "--wait", "--wait-timeout", str(UP_S), *services, seconds=UP_S + 60)
        assert up.returncode == 0, up.stderr + _logs(stack)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "15", seconds=120)


def test_alerts_flow_in_the_compose_stack(stack: Stack) -> None:
    watch = stack.compose(
        *("exec", "--no-TTY", "scorer", "fraudstream", "alerts", "watch", "--json", "--from-start", "--limit", "3"),
        seconds=ALERTS_S,
    )
    assert watch.returncode == 0, watch.stdout + watch.stderr + _logs(stack)
    alerts = [json.loads(line) for line in watch.stdout.splitlines() if line.startswith("{")]
    assert len(alerts) == 3, watch.stdout
    assert all(alert["decision"] in ("review", "decline") and alert["reason_codes"] for alert in alerts)


def test_prometheus_reads_every_service(stack: Stack) -> None:
    def all_up() -> bool:
        health = _targets(stack)
        return bool(health) and set(health.values()) == {"up"}

    assert _eventually(all_up, SCRAPED_S), f"{_targets(stack)}{_logs(stack)}"


def test_the_dead_mans_switch_reaches_alertmanager(stack: Stack) -> None:
    def is_there() -> bool:
        with urllib.request.urlopen(stack.url("PORT_ALERTMANAGER", "/api/v2/alerts"), timeout=10) as answer:
            return "DeadMansSwitch" in [alert["labels"]["alertname"] for alert in json.load(answer)]

    # What fires before Prometheus has found Alertmanager is sent again a minute later.
    assert _eventually(is_there, 2 * SCRAPED_S), _logs(stack)


def test_nothing_in_a_container_can_write_outside_its_volumes(stack: Stack) -> None:
    attempt = stack.compose("exec", "--no-TTY", "trainer", "python", "-c", "open('/opt/venv/written', 'w')")
    assert "Read-only file system" in attempt.stderr
    assert stack.compose("exec", "--no-TTY", "trainer", "id", "-u").stdout.strip() == "10001"


def test_topics_are_made_once_however_often_the_init_step_runs(stack: Stack) -> None:
    again = stack.compose("run", "--rm", "--no-TTY", "init", seconds=120)
    assert again.returncode == 0, again.stderr
    assert "0 made" in again.stdout


def _require_engine() -> None:
    for command in ("docker version", "docker compose version"):
        if not _succeeds(*command.split(), seconds=20):
            missing("docker", f"`{command}` does not answer")


def _require_images(stack: Stack, services: list[str]) -> None:
    config = json.loads(stack.compose("config", "--format", "json").stdout)["services"]
    for image in sorted({config[name]["image"] for name in services if "build" not in config[name]}):
        here = _succeeds("docker", "image", "inspect", image, seconds=20)
        if not here and not _succeeds("docker", "pull", "--quiet", image, seconds=300):
            missing("docker", f"image {image} is not here and cannot be pulled")


def _succeeds(*command: str, seconds: float) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=seconds).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _targets(stack: Stack) -> dict[str, str]:
    """Health of every target that Prometheus scrapes."""
    with urllib.request.urlopen(stack.url("PORT_PROMETHEUS", "/api/v1/targets"), timeout=10) as answer:
        targets: list[dict[str, Any]] = json.load(answer)["data"]["activeTargets"]
    return {target["scrapeUrl"]: target["health"] for target in targets}


def _free_ports(*names: str) -> dict[str, str]:
    """A free loopback port for each name; all are held until all are chosen."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    try:
        return {name: str(server.getsockname()[1]) for name, server in zip(names, held, strict=True)}
    finally:
        for server in held:
            server.close()


def _eventually(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition becomes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def _logs(stack: Stack) -> str:
    states = stack.compose("ps", "--all").stdout
    return f"\n{states}\n{stack.compose('logs', '--no-color', '--tail', '40').stdout}"
