"""The numbers of the retrain benchmark: which transactions count to which phase, and what the ratio is of.

Rule 1. Latencies are made up, one value a phase, so that a transaction in the wrong phase shows.
"""

from __future__ import annotations

import resource
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.harness import train
from benchmarks.retrain import BATCH, QUIET, RETRAIN, SWAP, as_text, table

PHASES = [(QUIET, 0.0, 10.0), (RETRAIN, 10.0, 20.0), (SWAP, 30.0, 40.0), (QUIET, 40.0, 50.0)]


def test_transactions_count_to_the_phase_in_which_they_came_and_ratios_are_to_the_quiet_ones_of_all_rounds() -> None:
    taken = np.arange(0.0, 60.0, 0.1) + 0.05
    latency = np.select(
        [taken < 10, taken < 20, taken < 30, taken < 40, taken < 50], [0.02, 0.03, 9.0, 0.05, 0.02], 9.0
    )
    rows = {row["phase"]: row for row in table(PHASES, taken, latency)}
    assert BATCH not in rows, "no transaction came in it"
    assert [rows[name]["transactions"] for name in (QUIET, RETRAIN, SWAP)] == [200, 100, 100]
    assert [rows[name]["p99_ms"] for name in (QUIET, RETRAIN, SWAP)] == pytest.approx([20, 30, 50])
    assert [rows[name]["ratio"] for name in (QUIET, RETRAIN, SWAP)] == pytest.approx([1, 1.5, 2.5])
    told = {
        "machine": "m",
        "load": [1.0, 2.0],
        "rate": 10.0,
        "swaps_seen": 1,
        "bar": 2.0,
        "phases": list(rows.values()),
    }
    assert "2.50 times" in as_text(told)


@pytest.mark.parametrize(("gib", "good"), [(3.9, True), (4.1, False)])
def test_a_night_that_needs_more_memory_than_its_bar_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, gib: float, good: bool
) -> None:
    peak = SimpleNamespace(ru_maxrss=gib * 2**20)
    monkeypatch.setattr(resource, "getrusage", lambda whose: peak)
    told = train._memory(is_judged=True)
    assert [(each.value, each.unit, each.passed) for each in told] == [(gib, "GiB", good)] * 2
    assert [each.bar for each in train._memory(is_judged=False)] == ["", ""]
