"""The switches of Break it on a real stack: each moves the parity meter, and its reversal brings nothing new.

Rule 1. The transactions are written through the feature worker and the archiver; the meter reads the lake, as in the stack.
Rule 2. The worker is killed while a switch is on: the switch stays on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from contextlib import closing

import numpy as np
import pytest
from kafka import KafkaProducer

from adapters.switch_feed import read_switches
from fraud import topics
from fraud.control import SetSwitch
from fraud.packed import VECTORS, unpack
from fraud.switches import BY_NAME, META, SWITCHES, Side
from fraud.transaction import Transaction
from fraud.windows import HOUR_MS, MINUTE_MS
from monitoring.parity import Parity, measure_parity
from tests.integration.faults.logs import read_logs
from tests.integration.faults.processes import ROOT, Service, wait_until
from tests.integration.faults.seeded_log import Sent
from tests.integration.faults.stack import Stack

SECONDS_MAX = 150.0
T = 1_714_000_000_000
SLICE = 48


class Broken:
    """A worker, an archiver, a stream of transactions, and the switches."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.worker: Service = stack.worker()
        self.archiver: Service = stack.archiver()
        self._sent = 0
        for service in (self.worker, self.archiver):
            service.start()
        wait_until("the worker has partitions", self.worker.is_healthy, SECONDS_MAX, self.worker.tail)

    def turn(self, name: str, on: bool) -> None:
        """Ask for it, and let transactions stream until the worker serves that way."""
        request = SetSwitch(f"test-{uuid.uuid4().hex[:8]}", T, name, on)
        with closing(KafkaProducer(bootstrap_servers=self.stack.bootstrap, acks="all")) as producer:
            producer.send(topics.CONTROL.name, request.to_json()).get(30)
        if BY_NAME[name].side is Side.SERVING:
            wait_until(
                f"{name} is {on}", lambda: self.served_under() == ((name,) if on else ()), SECONDS_MAX, self.worker.tail
            )

    def served_under(self) -> tuple[str, ...]:
        """The switches under which the newest of some more transactions are served."""
        self.stream()
        records = [records[-1] for records in read_logs(self.stack.bootstrap, ["features"])["features"] if records]
        found = {tuple(unpack(record.value, (VECTORS,)).meta.get(META, ())) for record in records}
        return found.pop() if len(found) == 1 else ("mixed",)

    def stream(self) -> None:
        """Some more transactions, every seventh of them two hours late, through the worker."""
        made = [self._transaction(i) for i in range(self._sent, self._sent + SLICE)]
        self._sent += SLICE
        self.stack.feed(
            [Sent(t.occurred_at_ms, topics.TRANSACTIONS.name, t.card_id.encode(), t.to_json()) for t in made]
        )
        self.stack.drain(SECONDS_MAX)

    def parity(self) -> Parity:
        """What the meter finds, over all that was served."""
        self.stack.drain_archiver(SECONDS_MAX)
        on = read_switches(self.stack.bootstrap).names(Side.SERVING, Side.METER)
        return measure_parity(self.stack.lake(), self.stack.partitions, on=on)

    def _transaction(self, i: int) -> Transaction:
        at_ms = T + i * MINUTE_MS - (2 * HOUR_MS if i % 7 == 3 else 0)
        amount = int(np.random.default_rng(i).integers(1, 90_000))
        return Transaction(f"t{i}", f"c{i % 5}", f"m{i % 3}", amount, "EUR", at_ms, at_ms)


@pytest.fixture
def broken(stack: Stack) -> Broken:
    return Broken(stack)


def test_each_switch_moves_the_meter_and_off_is_exact_again_also_across_a_restart(broken: Broken) -> None:
    broken.stream()
    before = broken.parity()
    assert before.holds
    for switch in SWITCHES:
        if switch.side is Side.TRAINING:
            continue
        broken.turn(switch.name, True)
        if switch.name == "hopping-windows":
            broken.worker.kill()
            broken.worker.wait(SECONDS_MAX)
            broken.worker.start()
            wait_until("the worker is back", broken.worker.is_healthy, SECONDS_MAX, broken.worker.tail)
            assert broken.served_under() == (switch.name,)
        broken.stream()  # what follows a late transaction does not count it
        on = broken.parity()
        assert on.on == (switch.name,)
        assert on.mismatched_rows > 0, switch.name
        assert (on.missing, on.extra, on.repeated) == (0, 0, 0), switch.name
        broken.turn(switch.name, False)
        broken.stream()
        off = broken.parity()
        assert off.holds, (switch.name, off.mismatches)
        if switch.side is Side.SERVING:
            assert off.on_purpose[switch.name] > 0
        assert off.compared > before.compared
        before = off
    assert broken.worker.stop(SECONDS_MAX) == 0
    told = _command(broken.stack, "monitoring", "parity", "--all", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["on_purpose"].keys() == {s.name for s in SWITCHES if s.side is Side.SERVING}
    _the_command_line_has_the_same_switches(broken.stack)


def _the_command_line_has_the_same_switches(stack: Stack) -> None:
    turned = _command(stack, "cli", "break", "on", "event-time-replay", "--json")
    assert turned.returncode == 0, turned.stderr
    assert json.loads(turned.stdout)["on"] is True
    listed = json.loads(_command(stack, "cli", "break", "list", "--json").stdout)
    assert [each["name"] for each in listed if each["on"]] == ["event-time-replay"]
    found = _command(stack, "monitoring", "parity", "--all", "--json")
    assert (found.returncode, json.loads(found.stdout)["on"]) == (1, ["event-time-replay"])
    assert _command(stack, "cli", "break", "off", "event-time-replay").returncode == 0
    assert read_switches(stack.bootstrap).on == {}


def _command(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "FRAUD_KAFKA_BOOTSTRAP": stack.bootstrap,
        "FRAUD_STATE_DIR": str(stack.run_folder),
        "FRAUD_PARTITIONS": str(stack.partitions),
    }
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
