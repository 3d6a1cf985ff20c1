"""A small stack with a world that lives in it, as `fraudstream up` and `fraudstream world stream` give it to a person.

Rule 1. Every wait has a deadline and waits for a state; what does not come is told with the log of who should have made it.
Rule 2. The world runs in the foreground of nobody: it is ended by its own id before the stack is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from adapters.backends.child import polled
from adapters.ports import free_ports
from cli.services import CODE_FOLDER
from fraud import topics
from fraud.alert import Alert, parse_alert
from fraud.labels import Label, parse_label
from fraud.truth import parse_truth
from fraud.windows import DAY_MS
from producer.world.days import BEGIN_MS
from tests.integration.faults.logs import read_logs
from tests.integration.terminal import Terminal

_T = TypeVar("_T")
WORLD = ("world", "stream", "--cards", "1000", "--drift", "late_share=0.05")  # two switches show with late ones only
WAIT_S = 180.0
LOOK_S = 0.4
SPEED = "4320"  # three days a minute, some 70 transactions a second
SETTINGS = {
    "FRAUD_LABEL_DELAY_DAYS": "3",  # so that a history of two weeks is enough to learn from
    "FRAUD_VALIDATION_DAYS": "3",
    "FRAUD_TRAIN_DAYS": "10",
    "FRAUD_TRAIN_FRAUD_MIN": "1",
    "FRAUD_TRAIN_ROWS_MIN": "300",
    "FRAUD_TRAIN_EVERY_DAYS": "0",  # a person alone asks for trainings
    "FRAUD_DRIFT_RETRAIN": "false",
    "FRAUD_TRAIN_NICENESS": "0",  # the test waits for it
    "FRAUD_ARCHIVE_AGE_MAX_S": "1",
    "FRAUD_EVALUATE_EVERY_S": "1",
    "FRAUD_PARITY_EVERY_S": "1",
    "FRAUD_PARITY_SAMPLE": "200",
}


def eventually(what: str, look: Callable[[], _T | None], seconds: float = WAIT_S) -> _T:
    """What `look` gives as soon as it is something true; looked for seldom, for looking costs the stack its processor."""
    for _ in polled(seconds, LOOK_S):
        if found := look():
            return found
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def settings() -> dict[str, str]:
    """SETTINGS, and ports of the test's own."""
    api, console = free_ports(2)
    return {**SETTINGS, "FRAUD_API_PORT": str(api), "FRAUD_CONSOLE_PORT": str(console)}


class LiveWorld:
    """The world of a stack."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._log = terminal.folder / "world.log"

    @property
    def bootstrap(self) -> str:
        """The stack's broker."""
        return self._terminal.state().servers["kafka"].address

    def stream_to(self, day: int) -> None:
        """At full speed, until all of it is scored."""
        told = self._terminal.fraudstream(*WORLD, "--until-day", str(day), "--speed", "max", "--wait", "--json")
        assert told.returncode == 0, told.stderr
        facts = json.loads(told.stdout)
        assert facts["dead_lettered"] == facts["scored_twice"] == 0

    def today(self) -> int:
        """The day of the world, from 0."""
        facts = json.loads(self._terminal.fraudstream("clock", "show", "--json").stdout)
        now_ms = datetime.fromisoformat(facts["event_time"]).replace(tzinfo=UTC).timestamp() * 1000
        return int((now_ms - BEGIN_MS) // DAY_MS)

    @contextmanager
    def live(self) -> Iterator[None]:
        """At SPEED meanwhile."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", *WORLD, "--speed", SPEED],
                cwd=self._terminal.folder,
                env={**clean, "PYTHONPATH": str(CODE_FOLDER)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, self._log.read_text()

    def alerts(self) -> list[Alert]:
        """All alerts, oldest first."""
        return [parse_alert(record.value) for record in self._records(topics.ALERTS.name)]

    def alerts_of(self, run_id: str) -> list[Alert]:
        """The alerts on transactions of a run, oldest first."""
        truths = (parse_truth(record.value) for record in self._records(topics.TRUTH.name))
        made = {truth.transaction_id for truth in truths if truth.run_id == run_id}
        return [alert for alert in self.alerts() if alert.transaction_id in made]

    def labels(self) -> dict[str, list[Label]]:
        """Labels by transaction."""
        found: dict[str, list[Label]] = {}
        for record in self._records(topics.LABELS.name):
            label = parse_label(record.value, record.key)
            found.setdefault(label.transaction_id, []).append(label)
        return found

    def _records(self, topic: str) -> list[Any]:
        return read_logs(self.bootstrap, [topic])[topic][0]
