"""The trainer's HTTP over a real socket: who may ask, and what they are told.

Rule 1. The service is the real one with a run that waits; its thread is the test's.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.ports import free_port_near
from adapters.run_history import RunHistory
from adapters.telemetry import serve_metrics
from tests.unit.test_trainer_service import WAITS, Said, runner
from trainer.door import BODY_MAX, Door
from trainer.service import TrainService
from trainer.settings import TrainerSettings

JSON = {"Content-Type": "application/json"}


class Served:
    """A trainer's HTTP."""

    def __init__(self, folder: Path, token: str = "") -> None:
        path = folder / "runs.sqlite"
        self.history = RunHistory(path)
        self.service = TrainService(Said(), self.history, runner(WAITS))
        self.port = free_port_near(0)
        settings = TrainerSettings(metrics_port=self.port)  # type: ignore[call-arg]
        self.server = serve_metrics(settings, lambda: None, Door(path, self.service.ask, token))

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Ask on a thread beside, and let the service work until the answer is here."""
        answer: list[tuple[int, Any]] = []

        def request() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            answer.append((response.status, json.loads(response.read())))
            connection.close()

        thread = threading.Thread(target=request)
        thread.start()
        while thread.is_alive():
            thread.join(0.02)
            self.service.step()
        return answer[0]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.service.stop()
    assert one.server is not None
    one.server.shutdown()


def retrain(served: Served, body: bytes = b"{}", **headers: str) -> tuple[int, Any]:
    return served.ask("POST", "/retrain", body, **{"Content_Type": "application/json", **headers})


def test_a_request_is_accepted_runs_and_stands_in_the_list_and_a_second_one_joins(served: Served) -> None:
    status, first = retrain(served, b'{"why": "the console asked"}')
    assert (status, first["state"], first["why"]) == (202, "queued", "the console asked")
    assert retrain(served)[1]["joined"] == first["request_id"]
    status, told = served.ask("GET", "/runs?limit=5")
    assert status == 200
    assert [run["request_id"] for run in told["runs"]][-1] == first["request_id"]
    for number in range(5):
        status, run = retrain(served, json.dumps({"as_of_ms": 1_530_000_000_000 + number}).encode())
    assert (status, run["state"]) == (409, "failed")
    assert "requests wait already" in run["detail"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"{}", {"Content_Type": "text/plain"}, 415, "application/json"),
        (b"{}", {"Origin": "https://evil.example"}, 403, "evil.example"),
        (b"{}", {"Host": "evil.example"}, 401, "FRAUD_TRAINER_TOKEN"),
        (b"{", {}, 400, "no request"),
        (b'{"as_of": 1}', {}, 400, "as_of"),
        (b'{"as_of_ms": 3}', {}, 400, "as_of_ms"),
        (b" " * (BODY_MAX + 1), {}, 413, str(BODY_MAX)),
    ],
    ids=["form", "another site", "another name", "no JSON", "unknown field", "impossible time", "too long"],
)
def test_who_may_not_ask_and_what_cannot_be_asked_is_told(
    served: Served, body: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    got, told = retrain(served, body, **headers)
    assert (got, words in told["error"]) == (status, True), told
    assert served.history.all() == []


def test_its_own_origin_may_ask_and_the_method_and_limits_are_checked(served: Served) -> None:
    assert retrain(served, Origin=f"http://127.0.0.1:{served.port}")[0] == 202
    assert served.ask("GET", "/retrain")[0] == 405
    assert served.ask("GET", "/runs?limit=0")[0] == 400


def test_with_a_token_only_who_knows_it_may_ask(tmp_path: Path) -> None:
    served = Served(tmp_path, "secret")
    assert retrain(served)[0] == 401
    assert retrain(served, Authorization="Bearer wrong")[0] == 401
    assert retrain(served, Authorization="Bearer secret", Host="trainer:9104")[0] == 202
    served.service.stop()


def test_events_tell_every_change_of_a_run(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", "/runs/events")
    response = connection.getresponse()
    assert response.getheader("Content-Type") == "text/event-stream"
    retrain(served)

    def event() -> dict[str, Any]:
        line = response.readline()
        while not line.startswith(b"data: "):
            line = response.readline()
        run: dict[str, Any] = json.loads(line[6:])
        return run

    assert event()["state"] in ("queued", "running")
    served.service.stop()
    run = event()
    while run["state"] != "failed":
        run = event()
    assert run["detail"] == "the trainer was stopped during the run: ask again"
    connection.close()
