"""Alerts on the system itself, as Alertmanager's webhook tells them: what fires, and what has resolved.

Rule 1. An alert is known by its fingerprint; a later message about it replaces the earlier one.
Rule 2. At most KEPT are kept: what has resolved goes first, then what came first. How many went is said.
Rule 3. The dead man's switch is no alert: its message says that alerting lives.

The payload is version "4": https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

KEPT: Final = 200
ALERTS_OF_MESSAGE_MAX: Final = 500
HEARTBEAT: Final = "DeadMansSwitch"
_TEXT_MAX: Final = 500
_runbook = re.compile(r"\A(?:\./)?docs/runbook\.md#([a-z0-9-]{1,80})\Z").match


class SystemAlert(BaseModel):
    """One alert of a message. startsAt, endsAt: RFC 3339; endsAt is in the year 1 while it fires without an end."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: datetime  # noqa: N815 (the payload's names)
    endsAt: datetime | None = None  # noqa: N815 (the payload's names)
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{1,64}$")]


class Webhook(BaseModel):
    """A message of Alertmanager; more fields than these are there, and ignored."""

    version: Literal["4"]
    status: Literal["firing", "resolved"]
    alerts: Annotated[list[SystemAlert], Field(max_length=ALERTS_OF_MESSAGE_MAX)]
    truncatedAlerts: int = 0  # noqa: N815 (the payload's names)


class SystemAlerts:
    """What was told. Used on the event loop's thread only. wall_ms: epoch milliseconds."""

    def __init__(self, kept: int = KEPT, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._kept = kept
        self._wall_ms = wall_ms
        self._alerts: dict[str, dict[str, Any]] = {}
        self._heartbeat_ms: int | None = None
        self._gone = 0

    def take(self, message: Webhook) -> None:
        """Take a message."""
        now_ms = self._wall_ms()
        self._gone += message.truncatedAlerts
        for alert in message.alerts:
            if alert.labels.get("alertname") == HEARTBEAT:
                self._heartbeat_ms = now_ms if alert.status == "firing" else self._heartbeat_ms
                continue
            self._alerts.pop(alert.fingerprint, None)
            self._alerts[alert.fingerprint] = _values(alert, now_ms)
        while len(self._alerts) > self._kept:
            resolved = (name for name, each in self._alerts.items() if each["status"] == "resolved")
            del self._alerts[next(resolved, next(iter(self._alerts)))]
            self._gone += 1

    def values(self) -> dict[str, Any]:
        """As browsers get it: what fires first, then by time, newest first."""
        newest = sorted(self._alerts.values(), key=lambda each: -each["starts_ms"])
        rows = [each for status in ("firing", "resolved") for each in newest if each["status"] == status]
        return {"alerts": rows, "gone": self._gone, "heartbeat_ms": self._heartbeat_ms}


def _values(alert: SystemAlert, now_ms: int) -> dict[str, Any]:
    anchor = _runbook(alert.annotations.get("runbook", ""))
    named = {"alertname", "severity"}
    return {
        "fingerprint": alert.fingerprint,
        "name": alert.labels.get("alertname", "unnamed")[:_TEXT_MAX],
        "severity": alert.labels.get("severity", "")[:_TEXT_MAX],
        "status": alert.status,
        "summary": alert.annotations.get("summary", "")[:_TEXT_MAX],
        "runbook": None if anchor is None else anchor.group(1),
        "labels": {k[:_TEXT_MAX]: v[:_TEXT_MAX] for k, v in list(alert.labels.items())[:20] if k not in named},
        "starts_ms": _epoch_ms(alert.startsAt),
        "ends_ms": _epoch_ms(alert.endsAt) if alert.status == "resolved" and alert.endsAt is not None else None,
        "told_ms": now_ms,
    }


def _epoch_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000) if moment.year > 1 else 0
