"""Alertmanager's webhook: what is kept and shown of its messages, and who may send one.

Rule 1. webhook-v4.json is a message that a real Alertmanager has sent (tests/contract/test_alertmanager_webhook.py sends another).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers

from monitoring.console.guard import WEBHOOK_BYTES_MAX, Guard
from monitoring.console.system_alerts import SystemAlerts, Webhook

MESSAGE = Path(__file__).parents[1] / "contract" / "alertmanager" / "webhook-v4.json"
NOW_MS = 1_800_000_000_000


def message(**of_alert: Any) -> Webhook:
    """The real message with one alert, changed."""
    sent = json.loads(MESSAGE.read_text())
    return Webhook.model_validate({**sent, "alerts": [{**sent["alerts"][0], **of_alert}]})


def book(kept: int = 3) -> SystemAlerts:
    return SystemAlerts(kept, lambda: NOW_MS)


def test_a_real_message_is_shown_with_its_runbook() -> None:
    alerts = book()
    alerts.take(Webhook.model_validate_json(MESSAGE.read_bytes()))
    (row,) = alerts.values()["alerts"]
    assert (row["name"], row["severity"], row["status"]) == ("ParityBroken", "page", "firing")
    assert row["runbook"] == "paritybroken"
    assert row["labels"] == {"fault": "mismatched"}
    assert row["summary"].startswith("120 served vectors are mismatched")
    assert row["ends_ms"] is None
    assert row["starts_ms"] > 1_700_000_000_000


def test_a_resolved_alert_takes_the_place_of_the_one_that_fired_and_stands_below_what_fires() -> None:
    alerts = book()
    alerts.take(message(fingerprint="a1"))
    alerts.take(message(fingerprint="b2"))
    alerts.take(message(fingerprint="b2", status="resolved", endsAt="2026-11-21T12:00:00Z"))
    assert [(row["fingerprint"], row["status"]) for row in alerts.values()["alerts"]] == [
        ("a1", "firing"),
        ("b2", "resolved"),
    ]
    assert alerts.values()["alerts"][1]["ends_ms"] == 1_795_262_400_000


def test_the_list_is_bounded_and_lets_go_of_what_has_resolved_first() -> None:
    alerts = book(kept=3)
    for fingerprint, status in (
        ("a1", "firing"),
        ("b2", "resolved"),
        ("c3", "firing"),
        ("d4", "firing"),
        ("e5", "firing"),
    ):
        alerts.take(message(fingerprint=fingerprint, status=status))
    found = alerts.values()
    assert {row["fingerprint"] for row in found["alerts"]} == {"c3", "d4", "e5"}
    assert found["gone"] == 2


def test_the_dead_mans_switch_is_a_sign_of_life_and_no_alert() -> None:
    alerts = book()
    alerts.take(message(labels={"alertname": "DeadMansSwitch", "severity": "none"}))
    assert alerts.values() == {"alerts": [], "gone": 0, "heartbeat_ms": NOW_MS}


@pytest.mark.parametrize("runbook", ["javascript:alert(1)", "https://evil.example/#x", "docs/runbook.md#<b>", ""])
def test_a_runbook_that_is_not_ours_is_no_link(runbook: str) -> None:
    alerts = book()
    alerts.take(message(annotations={"runbook": runbook, "summary": "x" * 9000}))
    (row,) = alerts.values()["alerts"]
    assert (row["runbook"], len(row["summary"])) == (None, 500)


@pytest.mark.parametrize(
    "wrong", [{"status": "perhaps"}, {"fingerprint": "../../x"}, {"startsAt": "yesterday"}, {"labels": 3}]
)
def test_a_message_of_another_shape_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        message(**wrong)


JSON = {"host": "127.0.0.1:8400", "content-type": "application/json", "content-length": "9"}


def status(headers: dict[str, str], client: str = "127.0.0.1", token: str = "", method: str = "POST") -> int | None:
    """What the guard answers; None when the message passes."""
    guard = Guard(lambda *_: None, ["127.0.0.1", "localhost"], "page's", token)  # type: ignore[arg-type,return-value]
    refused = guard.webhook_refused_because(method, Headers(headers), client)
    return None if refused is None else refused[0]


def test_without_a_token_only_this_machine_may_send_one() -> None:
    assert status(JSON) is None
    assert status(JSON, "::1") is None
    assert status(JSON, "10.0.0.7") == 401
    assert status({**JSON, "host": "evil.example"}) == 401  # a name that points here
    assert status(JSON, "") == 401


def test_with_a_token_it_alone_counts() -> None:
    assert status({**JSON, "authorization": "Bearer s3cret"}, "10.0.0.7", "s3cret") is None
    assert status({**JSON, "authorization": "Bearer other"}, "127.0.0.1", "s3cret") == 401
    assert status(JSON, "127.0.0.1", "s3cret") == 401


def test_a_browser_cannot_pass_for_alertmanager() -> None:
    assert status({**JSON, "origin": "http://evil.example"}) == 403
    assert status({**JSON, "origin": "http://127.0.0.1:8400"}) == 403
    assert status({**JSON, "sec-fetch-site": "cross-site"}) == 403
    assert status({**JSON, "content-type": "text/plain"}) == 415
    assert status(JSON, method="GET") == 405
    assert status({**JSON, "content-length": str(WEBHOOK_BYTES_MAX + 1)}) == 413
