"""Everything is killed at random moments while a log streams: in the end nothing shows it.

Rule 1. The moments are drawn from a seed, which stands in the test's name: a failure can be had again.
Rule 2. `pytest tests/integration -m soak` runs FRAUD_SOAK_ROUNDS seeds (default 20) instead of two.
"""

from __future__ import annotations

import os

import pytest

from tests.integration.faults.checker import READ_TOPICS, differences, summary
from tests.integration.faults.feeder import BackgroundFeeder
from tests.integration.faults.lake_checker import lake_differences
from tests.integration.faults.logs import read_logs
from tests.integration.faults.processes import wait_until
from tests.integration.faults.schedule import execute, schedule
from tests.integration.faults.seeded_log import Shape, seeded_log
from tests.integration.faults.stack import Stack

ROUNDS = 2
SOAK_ROUNDS = int(os.environ.get("FRAUD_SOAK_ROUNDS", "20"))
RECORDS_PER_SECOND = 500.0
FILLED = ("scores", "alerts", "transactions.dlq", "labels.dlq", "terminal-log.dlq")
FED_SECONDS_MAX = 120.0
DRAINED_SECONDS_MAX = 120.0


@pytest.mark.parametrize(
    "seed",
    [*range(1, 1 + ROUNDS), *(pytest.param(100 + i, marks=pytest.mark.soak) for i in range(SOAK_ROUNDS))],
)
def test_services_and_servers_killed_while_a_log_streams_leave_no_trace(stack: Stack, seed: int) -> None:
    services = {"worker": stack.worker(), "scorer": stack.scorer(), "archiver": stack.archiver()}
    for service in services.values():
        service.start()
    feeder = BackgroundFeeder(
        stack.bootstrap, stack.partitions, seeded_log(seed, Shape(transactions=6000)), RECORDS_PER_SECOND
    )
    execute(schedule(seed), stack, services, feeder)
    wait_until("everything is sent", feeder.is_done, FED_SECONDS_MAX, lambda: "the feeder still writes")
    stack.drain(DRAINED_SECONDS_MAX)
    stack.drain_readers(DRAINED_SECONDS_MAX)
    logs = read_logs(stack.bootstrap, READ_TOPICS)
    found = differences(stack.bootstrap, stack.redis_url, scored=True) + lake_differences(stack.lake(), logs)
    assert not found, summary(found)
    assert all(any(logs[topic]) for topic in FILLED)
    assert {name: service.stop() for name, service in services.items()} == dict.fromkeys(services, 0)
