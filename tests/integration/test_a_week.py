"""A week of the world through the whole stack on the simulated clock, night by night, as a person would watch it.

Rule 1. A history goes by at full speed, with two waves of card testing in it: the first is learned from, the second proves it.
Rule 2. In the live week each night trains on what is known; the gate promotes and refuses, a person overrules it and rolls back.
        Cards are tested in the days of either, so that both have frauds to deliver on.
Rule 3. Days whose labels must mature pass at full speed; what was delivered is what the running evaluator has measured.
Rule 4. What is checked (week_record.py) is checked for being able to fail: a week that lacks a thing is told what.
Rule 5. By command only, `pytest -m soak tests/integration/test_a_week.py`: on a busy machine it takes eleven minutes, and a
        version that decided for a night alone may have had no fraud to deliver on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.backends.child import polled
from adapters.model_store import ModelStore
from adapters.ports import free_ports
from adapters.run_history import ENDED, TrainingRun, read_runs
from cli.services import CODE_FOLDER
from fraud.control import SPEED_MAX
from fraud.windows import DAY_MS
from producer.world.days import BEGIN_MS
from tests.integration.terminal import Terminal, stack_up
from tests.integration.week_record import Values, Week, read_week, shortcomings

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1500)]
WAIT_S = 300.0
WORLD = ("world", "stream", "--cards", "800")
WAVE = ("card-testing", "--cards", "40", "--minutes", "30")
WAVES = (5, 23)  # days of the history after which cards are tested
HISTORY_DAYS = 34  # the first night that is tried learns from the first wave and is measured on the second
NIGHTS = 7
MATURE_DAYS = 8  # after the week: all its labels that count as known
OVERRULED_AFTER, BACK_AFTER = 3, 5  # nights
TESTED_BEFORE = (2, 4)  # nights: the first champion decides on one, whoever a person has promoted on the other
SETTINGS = {
    "FRAUD_TRAIN_SETTLE_S": "3",  # a day of the week takes six seconds
    "FRAUD_TRAIN_SHARE_MAX": "1",
    "FRAUD_TRAIN_NICENESS": "0",  # the test waits for it
    "FRAUD_ARCHIVE_AGE_MAX_S": "1",
    "FRAUD_EVALUATE_EVERY_S": "1",
    "FRAUD_PARITY_EVERY_S": "0",
    "FRAUD_DRIFT_RETRAIN": "false",  # nights alone train
}


def midnight_ms(day: int) -> int:
    return BEGIN_MS + day * DAY_MS


def eventually(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    assert any(condition() for _ in polled(WAIT_S, 0.2)), f"not within {WAIT_S:.0f} s: {what()}"


def stream_to(terminal: Terminal, day: int, speed: str) -> None:
    told = terminal.fraudstream(*WORLD, "--until-day", str(day), "--speed", speed, "--wait", "--json")
    assert told.returncode == 0, told.stderr
    facts = json.loads(told.stdout)
    assert facts["dead_lettered"] == facts["scored_twice"] == 0


def runs(terminal: Terminal) -> dict[str, TrainingRun]:
    path = terminal.folder / ".fraudstream" / "trainer" / "runs.sqlite"
    return {run.request_id: run for run in read_runs(path, 100)} if path.exists() else {}


def await_night(terminal: Terminal, day: int) -> TrainingRun:
    """The run of a day's first moment, ended."""
    night = f"night-{midnight_ms(day)}"
    eventually(lambda: night in runs(terminal) and runs(terminal)[night].state in ENDED, lambda: runs(terminal))
    return runs(terminal)[night]


def wave_of_card_testing(terminal: Terminal, log: Path) -> None:
    """A wave of card testing in the world, live for as long as it lasts."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    with log.open("wb") as file:
        live = subprocess.Popen(
            [sys.executable, "-m", "cli", *WORLD, "--speed", "1440"],
            cwd=terminal.folder, env={**clean, "PYTHONPATH": str(CODE_FOLDER)}, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip

    def asked(*command: str) -> Any:
        told = terminal.fraudstream(*command, "--json")
        return json.loads(told.stdout) if told.returncode == 0 else None

    try:
        eventually(lambda: (asked("clock", "show") or {}).get("paused") is False, log.read_text)
        started = asked("scenario", "start", *WAVE)
        assert started is not None
        eventually(
            lambda: all(run["state"] == "ended" for run in asked("scenario", "status") or [{"state": ""}]),
            log.read_text,
        )
    finally:
        live.send_signal(signal.SIGTERM)
        assert live.wait(60) == 0, log.read_text()


def a_history(terminal: Terminal) -> None:
    """Days at full speed, with the waves between them, up to the eve of the first night that is tried."""
    for day in WAVES:
        stream_to(terminal, day, "max")
        wave_of_card_testing(terminal, terminal.folder / f"wave-{day}.log")
    stream_to(terminal, HISTORY_DAYS, "max")


def a_person_overrules_the_gate(terminal: Terminal) -> None:
    """Promote the newest candidate that the gate has refused and that did not turn out to be broken."""
    store = ModelStore(terminal.folder / ".fraudstream" / "models")
    refused = [v for v in store.versions() if store.manifest(v).gate.shadow and v != store.champion()]
    assert refused, "no sound candidate was refused so far"
    without = terminal.fraudstream("models", "promote", refused[-1])
    assert without.returncode != 0 and "--force" in without.stderr
    told = terminal.fraudstream("models", "promote", refused[-1], "--force", "--reason", "to see what it delivers")
    assert told.returncode == 0, told.stderr


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Week]:
    api, console = free_ports(2)
    ports = {"FRAUD_API_PORT": str(api), "FRAUD_CONSOLE_PORT": str(console)}
    with stack_up(tmp_path_factory.mktemp("week"), **SETTINGS, **ports) as terminal:
        a_history(terminal)
        first = await_night(terminal, HISTORY_DAYS - 1)
        assert first.state == "promoted", first
        for night in range(1, NIGHTS + 1):
            if night in TESTED_BEFORE:
                # The clock stands still: the wave begins with the day that is streamed next.
                asked = terminal.fraudstream("scenario", "start", *WAVE)
                assert asked.returncode == 0, asked.stderr
            # The night of a midnight begins when the first transactions after it are in the lake.
            stream_to(terminal, HISTORY_DAYS + night, f"{SPEED_MAX:g}")
            await_night(terminal, HISTORY_DAYS + night - 1)
            if night == OVERRULED_AFTER:
                a_person_overrules_the_gate(terminal)
            if night == BACK_AFTER:
                back = terminal.fraudstream("models", "rollback", "--reason", "it was no better")
                assert back.returncode == 0, back.stderr
        stream_to(terminal, HISTORY_DAYS + NIGHTS + MATURE_DAYS, "max")
        nights_ms = tuple(midnight_ms(HISTORY_DAYS + night) for night in range(NIGHTS))
        found = read_week(terminal, nights_ms)
        for _ in polled(WAIT_S, 1.0):
            if not shortcomings(found):
                break
            found = read_week(terminal, nights_ms)
        yield found


def test_seven_nights_a_promotion_a_refusal_a_rollback_and_what_every_version_promised_and_delivered(
    week: Week,
) -> None:
    assert shortcomings(week) == []
    print(week.text)


def test_the_delivered_numbers_are_of_days_that_the_version_has_decided(week: Week) -> None:
    spans = {row["version"]: row["delivered"] for row in week.listed if row["delivered"] and "champion" in row["roles"]}
    assert spans
    for told in spans.values():
        assert midnight_ms(HISTORY_DAYS) - DAY_MS <= told["from_ms"] < told["to_ms"]
        assert told["to_ms"] <= midnight_ms(HISTORY_DAYS + NIGHTS + MATURE_DAYS - 7)


def without_night(week: Week) -> Week:
    return replace(week, runs=[run for run in week.runs if run["request_id"] != f"night-{week.nights_ms[3]}"])


def failed_night(week: Week) -> Week:
    last = f"night-{week.nights_ms[-1]}"
    return replace(week, runs=[run | {"state": "failed"} if run["request_id"] == last else run for run in week.runs])


def promoted_within_noise(week: Week) -> Week:
    return replace(week, gates={version: gate | {"low": -0.01} for version, gate in week.gates.items()})


def refused_unmeasured(week: Week) -> Week:
    few = {"low": None, "reason": "3 fraud among the 900 rows to measure on, 10 needed of either kind"}
    return replace(
        week, gates={v: gate | (few if gate["outcome"] == "rejected" else {}) for v, gate in week.gates.items()}
    )


def nobody_refused(week: Week) -> Week:
    return replace(week, gates={version: gate | {"outcome": "promoted"} for version, gate in week.gates.items()})


def without_rollback(week: Week) -> Week:
    return replace(week, changes=[change for change in week.changes if change["action"] != "rollback"])


def with_rows(**changes: Any) -> Callable[[Week], Week]:
    def changed(week: Week) -> Week:
        return replace(week, listed=[row | changes for row in week.listed])

    return changed


def one_path(week: Week) -> Week:
    contrast: Values = {
        **week.paths["contrast"],
        "by_path": {"streaming": week.paths["contrast"]["by_path"]["streaming"]},
    }
    return replace(week, paths=week.paths | {"contrast": contrast})


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        (without_night, "has no run of its own"),
        (failed_night, "is failed"),
        (promoted_within_noise, "promoted nobody by more than noise"),
        (nobody_refused, "no candidate was refused"),
        (refused_unmeasured, "no candidate was refused"),
        (without_rollback, "nobody was rolled back to"),
        (with_rows(ap=None), "has promised nothing"),
        (with_rows(delivered=None), "has decided and delivered nothing"),
        (with_rows(in_shadow=None), "no challenger was measured"),
        (one_path, "the batch path has no average precision"),
        (lambda week: replace(week, paths=week.paths | {"contrast": None}), "not compared"),
        (lambda week: replace(week, text=""), "the list has no line of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_week_that_lacks_something_is_told_what(week: Week, spoiled: Callable[[Week], Week], words: str) -> None:
    assert any(words in sentence for sentence in shortcomings(spoiled(week)))
