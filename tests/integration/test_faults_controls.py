"""Negative controls: three workers that are wrong on purpose, each as people write them. The checker must catch every one.

Rule 1. The faults are forced at the same places as for the right worker (test_faults_forced.py), so nothing is left to luck.
Rule 2. A control that is not caught means that the checker proves nothing.
"""

from __future__ import annotations

from kafka import KafkaAdminClient

from fraud import topics
from tests.integration.faults.checker import differences
from tests.integration.faults.logs import end_offsets
from tests.integration.faults.processes import wait_until
from tests.integration.faults.seeded_log import Shape, seeded_log
from tests.integration.faults.stack import Stack

LOG = seeded_log(2, Shape(transactions=4000))
SMALL_BATCHES = {"FRAUD_BATCH_RECORDS_MAX": "200"}
COMMIT_SECONDS_MAX = 20.0


def kinds_of(found: list[str]) -> set[str]:
    """Where the differences are: what stands before the colon."""
    return {difference.split(":")[0] for difference in found}


def test_increments_without_compare_and_set_are_caught(stack: Stack) -> None:
    stack.feed(LOG)
    worker = stack.worker(**SMALL_BATCHES, FAULT_WRONG="no-compare")
    worker.start(FAULT_POINT="card:lost-answer:2,terminal:lost-answer:2")
    stack.drain()
    found = differences(stack.bootstrap, stack.redis_url)
    assert any("counter accepted" in difference for difference in found)
    assert any("reads otherwise" in difference for difference in found)


def test_resuming_from_the_group_offset_is_caught(stack: Stack) -> None:
    #  log             |--- first ---|--- second ---|--- third ---|
    #  Redis           ..............^ kept         ^ put back to what was kept, while no worker runs
    #  group offset    .............................^ resumes here: the second part is lost
    stack.feed(LOG[:2000])
    worker = stack.worker(**SMALL_BATCHES, FAULT_WRONG="group-offset")
    worker.start()
    stack.drain()
    with stack.rewound():
        stack.feed(LOG[2000:4000])
        stack.drain()
        wait_until("the group commits", lambda: _committed(stack), COMMIT_SECONDS_MAX, worker.tail)
        worker.discard()
    stack.feed(LOG[4000:])
    worker.start()
    stack.drain()
    found = differences(stack.bootstrap, stack.redis_url)
    assert any("counter accepted" in difference for difference in found)
    assert {"state of card/0", "state of card/1"} <= kinds_of(found)


def test_an_exception_that_the_agent_acks_is_caught(stack: Stack) -> None:
    stack.feed(LOG)
    worker = stack.worker(**SMALL_BATCHES, FAULT_WRONG="swallow:3")
    worker.start()
    stack.drain()
    found = differences(stack.bootstrap, stack.redis_url)
    assert any("no row of" in difference for difference in found)
    assert any("counter accepted" in difference for difference in found)


def _committed(stack: Stack) -> bool:
    """Whether the group's offsets stand at the ends of `transactions`."""
    admin = KafkaAdminClient(bootstrap_servers=stack.bootstrap)
    try:
        committed = admin.list_group_offsets("stream-features")["stream-features"]
    finally:
        admin.close()
    at = {(tp.topic, tp.partition): one.offset for tp, one in committed.items()}
    return all(at.get(tp) == end for tp, end in end_offsets(stack.bootstrap, [topics.TRANSACTIONS.name]).items())
