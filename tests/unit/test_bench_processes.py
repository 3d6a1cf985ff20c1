"""CPU by process: what a child burns is told, what nobody of ours burns is foreign.

Rule 1. Bounds are far apart: a loaded machine makes CPU time late, not large.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from adapters.backends.child import polled
from benchmarks.harness.processes import CpuReading, between, read_cpu, seconds_of

TICK_S = 0.02  # the kernel counts in hundredths
BURN = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True)\nimport sys; sys.stdin.read()"
BURN_IN_A_CHILD = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def burnt(program: str) -> Iterator[int]:
    """A process that has burnt 0.4 s of CPU, itself or in a child that has ended; it ends with the block."""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def test_a_childs_cpu_is_told_by_name_and_an_idle_ones_is_not():
    with burnt(BURN) as burning, burnt("print(flush=True)\nimport sys; sys.stdin.read()") as idle:
        told = read_cpu({"burning": burning, "idle": idle}).by_name
    assert told["burning"] >= 0.4 - TICK_S
    assert told["idle"] < 0.35


def test_a_child_that_was_reaped_still_counts():
    with burnt(BURN_IN_A_CHILD) as parent:
        assert seconds_of(parent) >= 0.4 - TICK_S


def test_a_descendant_that_is_named_itself_counts_there_only():
    with burnt(BURN) as child:
        told = read_cpu({"us": os.getpid(), "child": child}).by_name
        with_child, alone = seconds_of(os.getpid()), seconds_of(os.getpid(), frozenset({child}))
    assert told["child"] >= 0.4 - TICK_S
    assert with_child - alone >= 0.3


def test_a_process_that_is_gone_counts_nothing():
    with burnt(BURN) as pid:
        pass
    assert any(seconds_of(pid) == 0.0 for _ in polled(30))


def test_what_none_of_ours_used_is_foreign():
    before = CpuReading(10.0, {"a": 1.0, "b": 2.0}, 100.0)
    after = CpuReading(20.0, {"a": 6.0, "b": 2.5}, 112.0)
    use = between(before, after)
    assert use.cores == {"a": 0.5, "b": 0.05}
    assert use.foreign_cores == pytest.approx(0.65)
    assert use.us_per(1_000_000) == {"a": 5.0, "b": 0.5}


def test_a_foreign_burner_shows_as_foreign_cpu():
    """The control on the real machine: the same burner counts as ours when it is named, and as foreign when not."""
    before = read_cpu({})
    with burnt(BURN):
        use = between(before, read_cpu({}))
    assert use.foreign_cores * use.seconds >= 0.35


def test_two_readings_of_one_moment_are_refused():
    one = CpuReading(1.0, {}, 1.0)
    with pytest.raises(ValueError, match="one moment"):
        between(one, one)
