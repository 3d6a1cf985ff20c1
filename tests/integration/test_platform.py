"""`fraudstream up | status | down` on a real Kafka and a real Redis, with every service.

Rule 1. Every wait has a deadline; what was started is ended by its pid.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kafka import KafkaAdminClient

from adapters.backends.child import Identity, polled
from cli.services import SERVICES
from cli.stack_state import Process, StackState
from fraud import topics
from tests.integration.terminal import Terminal, stack_up

pytestmark = pytest.mark.timeout(420)
WAIT_S = 120.0


def processes(state: StackState) -> list[Identity]:
    """The runner and all its children."""
    found = [state.runner, *(one.process for one in (*state.services.values(), *state.servers.values()))]
    return [process.identity() for process in found if process is not None]


def process_of(state: StackState, service: str) -> Process:
    process = state.services[service].process
    assert process is not None
    return process


def eventually(condition: Callable[[], bool]) -> bool:
    return any(condition() for _ in polled(WAIT_S, 0.5))


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal with a running stack."""
    with stack_up(tmp_path_factory.mktemp("platform"), FRAUD_PARTITIONS="2") as made:
        yield made


def test_everything_is_ready_and_says_where_it_is(terminal: Terminal) -> None:
    status = terminal.status()
    assert status["ready"] is True, status
    assert set(status["services"]) == {service.name for service in SERVICES}
    assert status["progress"]["model"] == "rules"


def test_all_topics_are_made_with_the_partitions_that_were_asked_for(terminal: Terminal) -> None:
    admin = KafkaAdminClient(bootstrap_servers=terminal.state().servers["kafka"].address)
    try:
        described = {topic.get("name") or topic.get("topic"): topic for topic in admin.describe_topics()}
    finally:
        admin.close()
    assert {topic.name for topic in topics.ALL} <= set(described)
    assert len(described[topics.TRANSACTIONS.name]["partitions"]) == 2
    assert len(described[topics.CONTROL.name]["partitions"]) == 1


def test_redis_keeps_what_was_written_and_never_evicts(terminal: Terminal) -> None:
    with redis.Redis.from_url(terminal.state().servers["redis"].address, decode_responses=True) as client:
        told: Any = client.config_get("appendonly", "appendfsync", "maxmemory-policy", "save", "bind")
    assert told["appendonly"] == "yes"
    assert told["appendfsync"] == "everysec"
    assert told["maxmemory-policy"] == "noeviction"
    assert told["save"] == ""
    assert told["bind"] == "127.0.0.1"


def test_a_second_up_finds_the_running_stack(terminal: Terminal) -> None:
    before = processes(terminal.state())
    again = terminal.fraudstream("up")
    assert again.returncode == 0
    assert "runs already" in again.stdout
    assert processes(terminal.state()) == before


def test_a_second_terminal_needs_no_address(terminal: Terminal) -> None:
    listed = terminal.fraudstream("dlq", "list")
    assert (listed.returncode, listed.stdout) == (0, "no dead letters\n"), listed.stderr


def test_a_killed_service_is_started_again(terminal: Terminal) -> None:
    killed = process_of(terminal.state(), "scorer")
    os.kill(killed.pid, signal.SIGKILL)

    def is_back() -> bool:
        status = terminal.state().services["scorer"]
        return status.state == "ready" and status.process not in (None, killed)

    assert eventually(is_back)
    assert terminal.state().services["scorer"].restarts == 1


def test_a_killed_broker_is_started_again_at_its_address(terminal: Terminal) -> None:
    before = terminal.state().servers["kafka"]
    assert before.process is not None
    os.kill(before.process.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = terminal.state().servers["kafka"]
        return now.process not in (None, before.process) and now.address == before.address

    assert eventually(is_back)
    assert eventually(lambda: terminal.status()["ready"])


def test_a_killed_runner_leaves_nothing_that_the_next_up_does_not_clean(terminal: Terminal) -> None:
    before = processes(terminal.state())
    os.kill(before[0].pid, signal.SIGKILL)
    assert eventually(lambda: before[0].process() is None)
    again = terminal.fraudstream("up", FRAUD_PARTITIONS="2")
    assert again.returncode == 0, again.stdout + again.stderr
    assert not any(one.process() for one in before)
    assert "topics: all there" in again.stdout


def test_down_ends_every_process_and_other_partitions_are_refused_afterwards(terminal: Terminal) -> None:
    before = processes(terminal.state())
    down = terminal.fraudstream("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert not any(one.process() for one in before)
    assert not (terminal.folder / ".fraudstream" / "stack.env").exists()
    other = terminal.fraudstream("up", FRAUD_PARTITIONS="3")
    assert other.returncode == 2
    assert "FRAUD_PARTITIONS=2" in other.stdout + other.stderr
    assert not any(one.process() for one in processes(terminal.state()))
