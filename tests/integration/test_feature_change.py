"""A changed feature definition takes over under load: every transaction is scored once, and by a vector of one definition.

Rule 1. Two releases run on one broker and one Redis; the second computes other values (faults/next_release.py).
Rule 2. What the next release serves is compared bit for bit with its own fold over the logs from the beginning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

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

LOG = seeded_log(4, Shape(transactions=2400))
BEFORE = 1000
RECORDS_PER_SECOND = 300.0
SECONDS_MAX = 120.0
Logs = Mapping[str, list[list[LogRecord]]]
READ = ["transactions", "labels", "terminal-log", "features", "scores"]


@pytest.mark.parametrize(
    ("source", "killed"),
    [("lake", False), pytest.param("log", True, marks=pytest.mark.soak)],
    ids=["from lake", "from log, the old worker killed"],
)
def test_a_new_definition_takes_over_under_load(
    stack: Stack, source: str, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    #  sent        |--- before ---|--- while it is rebuilt ---|--- after ---|
    #  old worker  ===============================| retired: ends
    #  next one                          standing by           ==============
    old, scorer, archiver = stack.worker(FRAUD_BATCH_RECORDS_MAX="100"), stack.scorer(), stack.archiver()
    for service in (old, scorer, archiver):
        service.start()
    stack.feed(LOG[:BEFORE])
    stack.drain(SECONDS_MAX)
    stack.drain_readers(SECONDS_MAX)
    feeder = BackgroundFeeder(stack.bootstrap, stack.partitions, LOG[BEFORE:], RECORDS_PER_SECOND)
    feeder.allow(0.5)
    worker = stack.next_release("worker")
    worker.start()
    if killed:
        old.discard()
    rebuild = stack.next_release("features", "rebuild", "--from", source)
    rebuild.start()
    assert rebuild.wait(SECONDS_MAX) == 0, rebuild.tail()
    told = re.search(r"([\d,]+) records of them from the lake", rebuild.log.read_text())
    assert told, rebuild.tail()
    assert (int(told[1].replace(",", "")) > BEFORE / 2) == (source == "lake")
    if not killed:
        assert _ends_for_a_person(old), old.tail()
        assert f"features {FEATURE_HASH} of this worker are retired, active are {NEXT_HASH}" in old.log.read_text()
    feeder.allow(1.0)
    assert _end_of(scorer, worker) == 2
    assert f"vectors of features {NEXT_HASH}, this scorer is built for {FEATURE_HASH}" in scorer.log.read_text()
    stack.services = [worker, archiver]
    stack.feature_hash = NEXT_HASH
    next_scorer = stack.next_release("scorer")
    next_scorer.start()
    wait_until("everything is sent", feeder.is_done, SECONDS_MAX, lambda: "the feeder still writes")
    stack.drain(SECONDS_MAX)
    stack.drain_readers(SECONDS_MAX)
    definitions = read_definitions(stack.redis_url)
    assert (definitions.active, definitions.retired) == (NEXT_HASH, {FEATURE_HASH})
    logs, cut = read_logs(stack.bootstrap, READ), _first_positions(worker, stack.partitions)
    assert _differences(logs, cut), "vectors of the old definition would do as well: the checker proves nothing"
    monkeypatch.setattr(checker, "CardFold", NextCardFold)
    monkeypatch.setattr(checker, "TerminalFold", NextTerminalFold)
    found = _differences(logs, cut)
    assert not found, summary(found)


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


def _differences(logs: Logs, cut: list[int]) -> list[str]:
    cards = [checker.expected_cards(records) for records in logs["transactions"]]
    vectors = {origin: row["vector"] for one in cards for origin, row in one.rows.items()}
    labels = [checker.expected_labels(records) for records in logs["labels"]]
    due = {origin for one in cards + labels for origin in one.rows}
    scored: Counter[tuple[str, int, int]] = Counter()
    expected_scored, found, next_rows = set(), [], 0
    for p, taken_from in enumerate(cut):
        order = _taken(logs["terminal-log"][p], taken_from)
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
        next_rows += len(served)
        scored.update(origin for origin, _ in rows_of(logs["scores"][p], (packed.SCORES,)))
        expected_scored |= expected.keys()
    found += [f"terminal-log: no row of {origin}" for origin in due]
    found += [f"scores: no row of {origin}" for origin in expected_scored - scored.keys()]
    found += [f"scores: a row of nobody's {origin}" for origin in scored.keys() - expected_scored]
    found += [f"scores: {times} rows of {origin}" for origin, times in scored.items() if times > 1]
    assert next_rows > 100
    return found


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
