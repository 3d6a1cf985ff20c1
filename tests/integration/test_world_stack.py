"""The world through the whole stack: a history, then live with a scenario on purpose, as a person would do it.

Rule 1. The stack decides by rules: what is shown is that a scenario reaches its cards' alerts, not how good a model is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.backends.child import polled
from cli.services import CODE_FOLDER, SERVICES
from fraud.labels import parse_label
from tests.integration.faults.logs import read_logs
from tests.integration.terminal import Terminal, stack_up

pytestmark = pytest.mark.timeout(420)
WAIT_S = 120.0
CARDS = "1000"


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal with a running stack and a history of twelve days."""
    with stack_up(tmp_path_factory.mktemp("world")) as made:
        streamed = made.fraudstream(
            "world", "stream", "--cards", CARDS, "--until-day", "12", "--speed", "max", "--wait", "--json"
        )
        assert streamed.returncode == 0, streamed.stderr
        told = json.loads(streamed.stdout)
        assert told["sent"] == told["scored"] + told["duplicates_ignored"] > 5_000
        assert told["dead_lettered"] == told["scored_twice"] == 0
        yield made


@pytest.fixture
def live(terminal: Terminal, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The world, live at a simulated day a minute; it goes on where it stopped."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    with (tmp_path / "live.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "world", "stream", "--cards", CARDS, "--speed", "1440"],
            cwd=terminal.folder, env={**clean, "PYTHONPATH": str(CODE_FOLDER)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        assert eventually(lambda: clock(terminal).get("paused") is False), (tmp_path / "live.log").read_text()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "live.log").read_text()


def eventually(condition: Callable[[], bool]) -> bool:
    return any(condition() for _ in polled(WAIT_S, 0.5))


def clock(terminal: Terminal) -> dict[str, Any]:
    told = terminal.fraudstream("clock", "show", "--json")
    facts: dict[str, Any] = json.loads(told.stdout) if told.returncode == 0 else {}
    return facts


def runs(terminal: Terminal) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(terminal.fraudstream("caught", "--json").stdout)
    return [one for one in found if one["run_id"] is not None]


def test_a_scenario_started_live_raises_alerts_on_its_cards_within_minutes_of_event_time(
    terminal: Terminal, live: subprocess.Popen[bytes]
) -> None:
    refused = terminal.fraudstream("scenario", "start", "card-testing", "--cards", "1001")
    assert refused.returncode == 2 and "1 .. 1000" in refused.stderr
    started = terminal.fraudstream("scenario", "start", "card-testing", "--cards", "20", "--minutes", "10", "--json")
    assert started.returncode == 0, started.stderr
    assert eventually(lambda: bool(runs(terminal)) and runs(terminal)[0]["cards_alerted"] >= 10), runs(terminal)
    (run,) = runs(terminal)
    assert run["run_id"] == json.loads(started.stdout)["run_id"]
    assert run["seconds_to_alert"] <= 600
    (status,) = json.loads(terminal.fraudstream("scenario", "status", "--json").stdout)
    assert (status["scenario"], status["cards"]) == ("card-testing", 20)
    paused = json.loads(terminal.fraudstream("clock", "pause", "--json").stdout)
    assert paused["paused"] is True
    assert clock(terminal)["event_time"] == paused["event_time"]
    assert json.loads(terminal.fraudstream("clock", "resume", "--json").stdout)["paused"] is False


def test_the_console_of_the_stack_shows_alerts_as_they_come_and_that_every_service_is_up(
    terminal: Terminal, live: subprocess.Popen[bytes]
) -> None:
    page = terminal.state().services["console"].address
    told = terminal.fraudstream("status", "--json")
    assert json.loads(told.stdout)["services"]["console"]["address"] == page
    others = {service.name for service in SERVICES} - {"console"}

    def greeting() -> dict[str, Any]:
        with urllib.request.urlopen(f"{page}/api/stream", timeout=30) as stream:
            assert stream.readline() == b"event: hello\n"
            found: dict[str, Any] = json.loads(stream.readline().removeprefix(b"data: "))
        return found

    def shows_it() -> bool:
        hello = greeting()
        signs = (hello["pulse"] or {}).get("vitals", {"up": []})
        return bool(hello["alerts"]) and others <= set(signs["up"]) and bool(signs["scored_per_s"])

    assert eventually(shows_it), greeting()
    assert greeting()["pulse"]["world"]["clock"]["speed"] == 1440


def test_a_verdict_of_a_person_becomes_a_label(terminal: Terminal, live: subprocess.Popen[bytes]) -> None:
    listed = terminal.fraudstream("alerts", "watch", "--from-start", "--json", "--limit", "1")
    alert = json.loads(listed.stdout.splitlines()[0])
    told = terminal.fraudstream("alerts", "confirm", alert["alert_id"])
    assert told.returncode == 0, told.stderr
    nobody = terminal.fraudstream("alerts", "dismiss", "nobody")
    assert nobody.returncode == 2 and "the log has no alert nobody" in nobody.stderr

    def labelled() -> bool:
        ((records,),) = read_logs(terminal.state().servers["kafka"].address, ["labels"]).values()
        labels = [parse_label(record.value, record.key) for record in records]
        return any(one.transaction_id == alert["transaction_id"] and one.source == "analyst" for one in labels)

    assert eventually(labelled)


def test_the_vectors_that_were_served_equal_the_backfill(terminal: Terminal) -> None:
    assert eventually(lambda: terminal.status()["progress"] is not None)
    parity = terminal.fraudstream("parity", "--all")
    assert parity.returncode == 0, parity.stdout + parity.stderr
    assert "parity holds" in parity.stdout
