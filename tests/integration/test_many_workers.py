"""Four partitions and one to four workers: what is written does not depend on how many there are, nor on their coming and going.

Rule 1. The checker folds the logs from the beginning, so equal to it means equal for any number of workers.
Rule 2. A stack of four partitions is made for each test, and the other tests' number is put back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka import KafkaProducer

from tests.integration.faults.checker import differences, summary
from tests.integration.faults.feeder import BackgroundFeeder
from tests.integration.faults.logs import LogRecord, read_logs
from tests.integration.faults.processes import Service, wait_until
from tests.integration.faults.seeded_log import Shape, seeded_log
from tests.integration.faults.stack import Stack

LOG = seeded_log(6, Shape(transactions=2400))
LONG_LOG = seeded_log(7, Shape(transactions=2400, days=160))
RECORDS_PER_SECOND = 400.0
SECONDS_MAX = 150.0
SMALL = {"FRAUD_BATCH_RECORDS_MAX": "40", "FRAUD_DEAD_LETTER_SHARE_MAX": "1"}
LATE_BY_ITSELF = 15  # the log's own: transactions sent 33 days late, whose card had been quiet


@pytest.fixture
def four(servers_of_stack: Stack) -> Iterator[Stack]:
    """A stack of four partitions, as on its first day."""
    stack = servers_of_stack
    before, stack.partitions = stack.partitions, 4
    stack.empty()
    yield stack
    stack.end_services()
    stack.partitions = before


def test_workers_that_come_go_and_are_killed_under_load_lose_and_double_nothing(four: Stack) -> None:
    #  a         =======================X ==========      killed, and started again
    #  b                ============================
    #  c, d             ===============| stopped
    a, scorer = four.worker("a"), four.scorer()
    for service in (a, scorer):
        service.start()
    feeder = BackgroundFeeder(four.bootstrap, four.partitions, LOG, RECORDS_PER_SECOND)
    feeder.allow(0.4)
    _healthy(a)
    more = [four.worker(name) for name in ("b", "c", "d")]
    for service in more:
        service.start()
    for service in more:
        _healthy(service)
    feeder.allow(1.0)
    a.kill()
    a.wait(SECONDS_MAX)
    a.start()
    for service in more[1:]:
        assert service.stop(SECONDS_MAX) == 0
        four.services.remove(service)
    wait_until("everything is sent", feeder.is_done, SECONDS_MAX, lambda: "the feeder still writes")
    four.drain(SECONDS_MAX)
    four.drain_scorer(SECONDS_MAX)
    found = differences(four.bootstrap, four.redis_url, scored=True)
    assert not found, summary(found)
    _serve_in_another_partition(four, read_logs(four.bootstrap, ["features"])["features"][0][-1])
    assert differences(four.bootstrap, four.redis_url), "the checker proves nothing"


@pytest.mark.parametrize("wrong", ["", "unaligned"], ids=["aligned", "control: unaligned"])
def test_partitions_that_catch_up_do_not_drift_out_of_the_terminals_window(four: Stack, wrong: str) -> None:
    """160 days in four partitions, two workers, one of them slow: unaligned, its transactions are too late at the terminals."""
    settings = SMALL | {"FAULT_WRONG": wrong}
    slow, fast = four.worker("slow", FAULT_SLOW="card:0.2", **settings), four.worker("fast", **settings)
    for service in (slow, fast):
        service.start()
    for service in (slow, fast):
        _healthy(service)
    four.feed(LONG_LOG)
    four.drain(SECONDS_MAX)
    late = _too_late(four)
    assert (late <= LATE_BY_ITSELF) == (not wrong), f"{late} too late"


@pytest.mark.parametrize("wrong", ["", "forgetful"], ids=["known", "control: forgetful"])
def test_a_partition_that_was_given_away_is_waited_for_at_once(four: Stack, wrong: str) -> None:
    """The first worker has them all, gives half of them away, and does not look for a while: it must have known before."""
    fast = four.worker("fast", FAULT_BLIND="4", FAULT_WRONG=wrong, **SMALL)
    slow = four.worker("slow", FAULT_SLOW="card:0.2", **SMALL)
    fast.start()
    wait_until(
        "fast has all lanes", lambda: _had_all_lanes(fast, four), SECONDS_MAX, fast.tail
    )  # not a dead one's rest
    slow.start()
    _healthy(slow)
    four.feed(LONG_LOG)
    four.drain(SECONDS_MAX)
    late = _too_late(four)
    assert (late <= LATE_BY_ITSELF) == (not wrong), f"{late} too late"


def _too_late(stack: Stack) -> int:
    letters = read_logs(stack.bootstrap, ["terminal-log.dlq"])["terminal-log.dlq"][0]
    return sum(letter.headers["reason"] == b"TOO_LATE" for letter in letters)


def _had_all_lanes(worker: Service, stack: Stack) -> bool:
    return any(line.count("'transactions/") == stack.partitions for line in worker.log.read_text().splitlines())


def _healthy(worker: Service) -> None:
    wait_until(f"{worker.name} has partitions", worker.is_healthy, SECONDS_MAX, worker.tail)


def _serve_in_another_partition(stack: Stack, record: LogRecord) -> None:
    """What a worker does that goes on with a partition that is another's."""
    producer = KafkaProducer(bootstrap_servers=stack.bootstrap)
    try:
        producer.send(record.topic, record.value, partition=1).get(SECONDS_MAX)
    finally:
        producer.close()
