"""Faults at exact places of the exactness protocol: the feature worker comes through each without a trace.

Rule 1. The worker's code is untouched; tests/integration/faults/faulty_worker.py kills it, stops it or cuts its connection.
Rule 2. After each scenario the checker compares everything with a fold of the logs from the beginning.
"""

from __future__ import annotations

import signal

import pytest
from kafka import KafkaProducer

from fraud.metrics import HANDED_OVER_TOTAL
from fraud.topics import TERMINAL_LOG
from tests.integration.faults.checker import differences, summary
from tests.integration.faults.logs import LogRecord, read_logs
from tests.integration.faults.processes import Service, wait_until
from tests.integration.faults.seeded_log import Shape, seeded_log
from tests.integration.faults.stack import Stack

LOG = seeded_log(1, Shape(transactions=4000))
SMALL_BATCHES = {"FRAUD_BATCH_RECORDS_MAX": "200"}
DIES_SECONDS_MAX = 30.0
LOST_ANSWERS = "card:lost-answer:2,labels:lost-answer:1,terminal:lost-answer:2"


def died_at(worker: Service, point: str) -> None:
    """Start the worker and wait until it was killed at the point."""
    worker.start(FAULT_POINT=point)
    assert worker.wait(DIES_SECONDS_MAX) == -signal.SIGKILL, worker.tail()


def assert_clean(stack: Stack) -> None:
    found = differences(stack.bootstrap, stack.redis_url)
    assert not found, summary(found)


@pytest.mark.parametrize(
    "points",
    [
        ["card:load:1", "card:half-written:2", "card:written:1", "card:applied:2"],
        ["labels:written:1", "terminal:written:1", "terminal:applied:1"],
    ],
    ids=["card stage", "label forwarder and terminal stage"],
)
def test_a_worker_killed_at_every_step_of_the_protocol_leaves_no_trace(stack: Stack, points: list[str]) -> None:
    stack.feed(LOG)
    worker = stack.worker(**SMALL_BATCHES)
    for point in points:
        died_at(worker, point)
    worker.start()
    stack.drain()
    assert_clean(stack)


def test_an_answer_that_is_lost_after_the_effect_does_not_double_it(stack: Stack) -> None:
    stack.feed(LOG)
    worker = stack.worker(**SMALL_BATCHES)
    worker.start(FAULT_POINT=LOST_ANSWERS)
    stack.drain()
    assert worker.codes == []
    assert_clean(stack)


def test_a_state_that_lost_its_newest_writes_is_found_out_and_written_again(stack: Stack) -> None:
    #  log      |--- first ---|--- second ---|--- third ---|
    #  Redis    ..............^ kept         ^ put back to what was kept, under the running worker; at the end once more
    stack.feed(LOG[:2000])
    worker = stack.worker(**SMALL_BATCHES, FRAUD_ENTITIES_CACHED_MAX="20")
    worker.start()
    stack.drain()
    with stack.rewound():
        stack.feed(LOG[2000:4000])
        stack.drain()
    stack.feed(LOG[4000:])
    stack.drain()
    assert worker.codes == [70]
    with stack.rewound():
        stack.feed(LOG[:500])  # sent again: ignored as duplicates, yet the watermark moves
        stack.drain()
    stack.drain()  # nothing more comes: the idle worker must notice by itself
    assert worker.codes == [70, 70]
    assert_clean(stack)


@pytest.mark.parametrize(
    ("stage", "point", "effects"),
    [
        ("card", "stop-loading", 12),
        pytest.param("card", "stop-written", 12, marks=pytest.mark.soak),
        pytest.param("terminal", "stop-loading", 4, marks=pytest.mark.soak),
    ],
)
def test_a_worker_thought_dead_that_wakes_up_changes_nothing(
    stack: Stack, stage: str, point: str, effects: int
) -> None:
    #  zombie   ---- batch read | stopped ............................ continued: what it holds is of the past
    #  heir                         takes over ---- a little | stopped                      continued ----
    stack.feed(LOG[:2500])
    zombie = stack.worker("zombie")
    heir = stack.worker("heir", FRAUD_BATCH_RECORDS_MAX="50")
    zombie.start(FAULT_POINT=f"{stage}:{point}:1")
    wait_until("the zombie stops", zombie.is_stopped, DIES_SECONDS_MAX, zombie.tail)
    heir.start(FAULT_POINT=f"{stage}:stop-written:{effects}")
    wait_until("the heir takes over", heir.is_stopped, DIES_SECONDS_MAX, heir.tail)
    zombie.resume()
    wait_until("the zombie ends or rejoins", lambda: _ended_or_rejoined(zombie), DIES_SECONDS_MAX, zombie.tail)
    heir.resume()
    stack.feed(LOG[2500:])
    stack.drain()
    assert_clean(stack)


def test_records_of_another_writer_between_those_that_are_handed_over_are_taken_in_their_place(stack: Stack) -> None:
    #  terminal-log   |- ours, handed over -|copy|- ours -|copy|- ...          a copy: what a zombie writes once more
    worker = stack.worker()
    worker.start()
    stack.feed(LOG[:1000])
    stack.drain()
    copies = read_logs(stack.bootstrap, [TERMINAL_LOG.name])[TERMINAL_LOG.name]
    for at in range(1000, len(LOG), 100):
        stack.feed(LOG[at : at + 100])
        copy_again(stack.bootstrap, [partition[(at // 100) % len(partition)] for partition in copies])
    stack.drain()
    assert worker.counted(HANDED_OVER_TOTAL.name) > 10
    copy_again(stack.bootstrap, [partition[0] for partition in copies])  # and nothing of ours after it
    stack.drain()
    assert worker.codes == []
    assert_clean(stack)


@pytest.mark.parametrize("wrong", ["", "overtaking"], ids=["right", "overtaking"])
def test_a_terminal_stage_that_falls_behind_what_it_is_handed_misses_nothing(stack: Stack, wrong: str) -> None:
    #  terminal-log   |- taken -|- waits -|- more than may wait: fetched again, from where the stage is
    #  overtaking               ......... | from here: the worker finds out, ends, and starts over
    worker = stack.worker(FRAUD_BATCH_RECORDS_MAX="50")
    worker.start(FAULT_SLOW="terminal:0.1", FAULT_WAITING_BYTES="4000", FAULT_WRONG=wrong)
    for at in range(0, 1000, 200):  # between the floods it stands at the end of the log, where records are handed over
        stack.feed(LOG[at : at + 200])
        stack.drain()
    stack.feed(LOG[1000:])
    stack.drain()
    if wrong:
        assert worker.codes == [70], worker.tail()
    else:
        assert worker.codes == []
        assert 0 < worker.counted(HANDED_OVER_TOTAL.name) < len(LOG)
    assert_clean(stack)


def copy_again(bootstrap: str, records: list[LogRecord]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for record in records:
        producer.send(record.topic, record.value, key=record.key, partition=record.partition)
    producer.close()


def _ended_or_rejoined(worker: Service) -> bool:
    worker.tend()
    return bool(worker.codes) or worker.log.read_text().count(" lanes ") > 1
