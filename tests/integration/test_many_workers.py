"""Four partitions and one to four workers: what is written does not depend on how many there are, nor on their coming and going.

Rule 1. The checker folds the logs from the beginning, so equal to it means equal for any number of workers.
Rule 2. A stack of four partitions is made for each test, and the other tests' number is put back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer

from fraud import packed
from tests.integration.faults.checker import READ_TOPICS, differences, summary
from tests.integration.faults.feeder import BackgroundFeeder
from tests.integration.faults.lake_checker import lake_differences
from tests.integration.faults.logs import LogRecord, read_logs, rows_of
from tests.integration.faults.processes import ROOT, Service, wait_until
from tests.integration.faults.seeded_log import Shape, seeded_log
from tests.integration.faults.stack import Stack

LOG = seeded_log(6, Shape(transactions=2400))
LONG_LOG = seeded_log(7, Shape(transactions=2400, days=160))
RECORDS_PER_SECOND = 400.0
SECONDS_MAX = 150.0
LATE_BY_ITSELF = 15  # the log's own: transactions sent 33 days late, whose card had been quiet


@pytest.fixture
def four(stack: Stack) -> Iterator[Stack]:
    """A stack of four partitions."""
    before, stack.partitions = stack.partitions, 4
    stack.empty()
    yield stack
    stack.end_services()
    stack.partitions = before


def test_workers_that_come_go_and_are_killed_under_load_lose_and_double_nothing(four: Stack) -> None:
    #  a   =======================X ==========      killed, and started again
    #  b        ==================================
    #  c                  ============| stopped
    a, scorer, archiver = four.worker("a"), four.scorer(), four.archiver()
    for service in (a, scorer, archiver):
        service.start()
    feeder = BackgroundFeeder(four.bootstrap, four.partitions, LOG, RECORDS_PER_SECOND)
    feeder.allow(0.3)
    _healthy(a)
    b, c = four.worker("b"), four.worker("c")
    b.start()
    _healthy(b)
    feeder.allow(0.6)
    c.start()
    _healthy(c)
    feeder.allow(1.0)
    a.kill()
    a.wait(SECONDS_MAX)
    a.start()
    assert c.stop() == 0
    four.services.remove(c)
    wait_until("everything is sent", feeder.is_done, SECONDS_MAX, lambda: "the feeder still writes")
    four.drain(SECONDS_MAX)
    four.drain_readers(SECONDS_MAX)
    logs = read_logs(four.bootstrap, READ_TOPICS)
    found = differences(four.bootstrap, four.redis_url, scored=True) + lake_differences(four.lake(), logs)
    assert not found, summary(found)
    parity = _parity(four)
    assert (parity["holds"], parity["mismatched_rows"]) == (True, 0)
    assert parity["compared"] == sum(len(_rows) for _rows in _scored(four))
    _serve_in_another_partition(four, logs["features"][0][-1])
    assert differences(four.bootstrap, four.redis_url), "the checker proves nothing"


@pytest.mark.parametrize("wrong", ["", "unaligned"], ids=["aligned", "control: unaligned"])
def test_partitions_that_catch_up_do_not_drift_out_of_the_terminals_window(four: Stack, wrong: str) -> None:
    """160 days in four partitions, two workers, one of them slow: unaligned, its transactions are too late at the terminals."""
    small = {"FRAUD_BATCH_RECORDS_MAX": "40", "FAULT_WRONG": wrong, "FRAUD_DEAD_LETTER_SHARE_MAX": "1"}
    slow, fast = four.worker("slow", FAULT_SLOW_CARDS="0.2", **small), four.worker("fast", **small)
    for service in (slow, fast):
        service.start()
    for service in (slow, fast):
        _healthy(service)
    four.feed(LONG_LOG)
    four.drain(SECONDS_MAX)
    letters = read_logs(four.bootstrap, ["terminal-log.dlq"])["terminal-log.dlq"][0]
    too_late = sum(letter.headers["reason"] == b"TOO_LATE" for letter in letters)
    assert too_late > 50 if wrong else too_late <= LATE_BY_ITSELF


def _healthy(worker: Service) -> None:
    wait_until(f"{worker.name} has partitions", worker.is_healthy, SECONDS_MAX, worker.tail)


def _scored(stack: Stack) -> list[set[tuple[str, int, int]]]:
    return [
        {o for o, _ in rows_of(records, (packed.SCORES,))}
        for records in read_logs(stack.bootstrap, ["scores"])["scores"]
    ]


def _parity(stack: Stack) -> dict[str, object]:
    environment = {**os.environ, "FRAUD_STATE_DIR": str(stack.run_folder), "FRAUD_PARTITIONS": str(stack.partitions)}
    command = [sys.executable, "-m", "monitoring", "parity", "--all", "--json"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _serve_in_another_partition(stack: Stack, record: LogRecord) -> None:
    """What a worker does that goes on with a partition that is another's."""
    producer = KafkaProducer(bootstrap_servers=stack.bootstrap)
    try:
        producer.send(record.topic, record.value, partition=1).get(SECONDS_MAX)
    finally:
        producer.close()
