"""A changed feature definition takes over under load: every transaction is scored once, and by a vector of one definition.

Rule 1. Two releases run on one broker and one Redis; the second computes other values (faults/next_release.py).
Rule 2. What the next release serves is compared bit for bit with its own fold over the logs from the beginning.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from adapters.feature_switch import read_definitions
from fraud import packed
from fraud.features import FEATURE_HASH
from fraud.packed import unpack
from tests.integration.faults import checker
from tests.integration.faults.checker import summary
from tests.integration.faults.feeder import BackgroundFeeder
from tests.integration.faults.logs import LogRecord, first_copies, read_logs, rows_of
from tests.integration.faults.next_release import NEXT_HASH, NextCardFold, NextTerminalFold
from tests.integration.faults.processes import Service, wait_until
from tests.integration.faults.seeded_log import Shape, seeded_log
from tests.integration.faults.stack import Stack

LOG = seeded_log(4, Shape(transactions=5000))
pytestmark = pytest.mark.soak  # minutes, not seconds
RECORDS_PER_SECOND = 300.0
SECONDS_MAX = 120.0
READ = ["transactions", "labels", "terminal-log", "features", "scores"]


@pytest.mark.parametrize(("source", "killed"), [("log", False), ("lake", True)], ids=["from log", "from lake, killed"])
def test_a_new_definition_takes_over_under_load(
    stack: Stack, source: str, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, scorer = stack.worker(FRAUD_BATCH_RECORDS_MAX="100"), stack.scorer()
    running = [old, scorer, stack.archiver()]
    for service in running:
        service.start()
    feeder = BackgroundFeeder(stack.bootstrap, stack.partitions, LOG, RECORDS_PER_SECOND)
    stack.feed(LOG[:1500])
    stack.drain(SECONDS_MAX)
    feeder.allow(1.0)  # the first 1500 come again, as duplicates, and everything after them
    _serve_some_more(stack)
    worker = stack.next_release("worker")
    worker.start()
    if killed:
        old.discard()
    rebuild = stack.next_release("features", "rebuild", "--from", source)
    rebuild.start()
    assert rebuild.wait(SECONDS_MAX) == 0, rebuild.tail()
    if not killed:
        assert _ends_for_a_person(old), old.tail()
        assert f"features {FEATURE_HASH} of this worker are retired, active are {NEXT_HASH}" in old.log.read_text()
    assert _end_of(scorer, worker) == 2
    assert f"vectors of features {NEXT_HASH}, this scorer is built for {FEATURE_HASH}" in scorer.log.read_text()
    stack.services = [worker, running[2]]
    stack.feature_hash = NEXT_HASH
    next_scorer = stack.next_release("scorer")
    next_scorer.start()
    wait_until("everything is sent", feeder.is_done, SECONDS_MAX, lambda: "the feeder still writes")
    stack.drain(SECONDS_MAX)
    stack.drain_readers(SECONDS_MAX)
    definitions = read_definitions(stack.redis_url)
    assert (definitions.active, definitions.retired) == (NEXT_HASH, {FEATURE_HASH})
    monkeypatch.setattr(checker, "CardFold", NextCardFold)
    monkeypatch.setattr(checker, "TerminalFold", NextTerminalFold)
    _check(stack, worker)


def _serve_some_more(stack: Stack) -> None:
    def served() -> int:
        return sum(len(records) for records in read_logs(stack.bootstrap, ["features"])["features"])

    before = served()
    wait_until(
        "the old worker serves what streams", lambda: served() > before + 10, SECONDS_MAX, stack.services[0].tail
    )


def _end_of(scorer: Service, worker: Service) -> int:
    """The scorer's exit code; meanwhile the worker is started again when it asks for it."""

    def ended() -> bool:
        worker.tend()
        return scorer._ended() is not None

    wait_until("the old scorer meets the next features", ended, SECONDS_MAX, worker.tail)
    return scorer.wait(SECONDS_MAX)


def _ends_for_a_person(worker: Service) -> bool:
    """A worker that is fenced may end for a restart first."""
    while worker.wait(SECONDS_MAX) == 70:
        worker.start()
    return worker.codes[-1] == 2


def _check(stack: Stack, worker: Service) -> None:
    logs = read_logs(stack.bootstrap, READ)
    cut = _first_positions(worker, stack.partitions)
    cards = [checker.expected_cards(records) for records in logs["transactions"]]
    vectors = {origin: row["vector"] for one in cards for origin, row in one.rows.items()}
    labels = [checker.expected_labels(records) for records in logs["labels"]]
    due = {origin for one in cards + labels for origin in one.rows}
    scored: Counter[tuple[str, int, int]] = Counter()
    expected_scored, found, next_rows, differs = set(), [], 0, 0
    for p in range(stack.partitions):
        order = _taken(logs["terminal-log"][p], cut[p])
        log, _ = first_copies(rows_of(order, (packed.CARD_VECTORS, packed.LABELS)), f"terminal-log/{p}")
        for origin, row in log.items():
            if "vector" in row:
                row["vector"] = vectors[origin]
        due -= log.keys()
        expected = checker.expected_terminals(log).rows
        served, wrong = first_copies(rows_of(_of(logs["features"][p], NEXT_HASH), (packed.VECTORS,)), f"features/{p}")
        before = rows_of(_of(logs["features"][p], FEATURE_HASH), (packed.VECTORS,))
        found += wrong + checker._compare_rows(
            served, {o: r for o, r in expected.items() if o in served}, f"features/{p}"
        )
        missing = expected.keys() - served.keys() - {origin for origin, _ in before}
        found += [f"features/{p}: no row of {origin}" for origin in missing]
        differs += sum(expected[origin]["vector"] != row["vector"] for origin, row in before if origin in expected)
        next_rows += len(served)
        scored.update(origin for origin, _ in rows_of(logs["scores"][p], (packed.SCORES,)))
        expected_scored |= expected.keys()
    found += [f"terminal-log: no row of {origin}" for origin in due]
    assert not found, summary(found)
    assert scored.keys() == expected_scored
    assert {origin for origin, times in scored.items() if times > 1} == set()
    assert next_rows > 100
    assert differs > 100  # the old definition's vectors are not those of the next one


def _of(records: list[LogRecord], feature_hash: str) -> list[LogRecord]:
    kinds = (packed.CARD_VECTORS, packed.LABELS, packed.VECTORS)
    return [record for record in records if unpack(record.value, kinds).meta["feature_hash"] == feature_hash]


def _taken(records: list[LogRecord], cut: int) -> list[LogRecord]:
    """What the next release folds: everything before the cut, and behind it what it has written itself."""
    return [r for r in records if r.offset < cut] + _of([r for r in records if r.offset >= cut], NEXT_HASH)


def _first_positions(worker: Service, partitions: int) -> list[int]:
    """Where the worker began in terminal-log, as its first lines of `lanes` say."""
    told = worker.log.read_text()
    found = [re.search(rf"'terminal-log/{p}': (\d+)", told) for p in range(partitions)]
    assert all(found), told[-2000:]
    return [int(one[1]) for one in found if one]
