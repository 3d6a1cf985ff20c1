"""A judgement for people and for scripts.

Rule 1. Both say the same; the blind spot is said each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from fraud.drift import ALERT_RATE, CALENDAR, Alarm, Judgement

BLIND_SPOT: Final = (
    "Estimated from the scores alone: blind to fraud that changes while features and scores stay (concept drift); "
    "`fraudstream paths` has what labels say."
)


def as_values(judgement: Judgement, alarms: Mapping[str, Alarm]) -> dict[str, Any]:
    """One JSON object."""
    return {
        **asdict(judgement),
        "raised": raised(alarms),
        "estimate": BLIND_SPOT,
    }


def raised(alarms: Mapping[str, Alarm]) -> list[str]:
    """Columns whose alarm is raised."""
    return sorted(column for column, alarm in alarms.items() if alarm.raised)


def as_text(judgement: Judgement, alarms: Mapping[str, Alarm]) -> str:
    """Lines for a terminal: the columns that have moved most first."""
    head = f"{'column':<34}{'PSI':>8}{'JS':>7}{'KS':>7}{'no value':>10}{'outside':>9}{'of limit':>10}  alarm"
    lines = [
        f"{judgement.version}: {_day(judgement.start_ms)} .. {_day(judgement.end_ms)}, {judgement.rows:,} transactions",
        "",
        head,
    ]
    for column, verdict in sorted(judgement.columns.items(), key=lambda pair: -pair[1].excess):
        far, state = verdict.distances, _state(column, alarms)
        lines.append(
            f"{column:<34}{far.psi:>8.3f}{far.jensen_shannon:>7.3f}{far.ks:>7.3f}{far.null_share:>10.1%}"
            f"{far.out_of_range_share:>9.2%}{verdict.excess:>10.0%}  {state}"
        )
    if judgement.alert_share is not None:
        state = _state(ALERT_RATE, alarms)
        lines += ["", f"alert rate {judgement.alert_share:.3%}, {judgement.alert_excess:.0%} of its limit  {state}"]
    estimates = ((judgement.precision, "precision"), (judgement.recall, "recall"))
    lines += [f"estimated {name} of the alerts {value:.2f}" for value, name in estimates if value is not None]
    found = raised(alarms)
    return "\n".join([*lines, BLIND_SPOT, "", f"DRIFT: {', '.join(found)}" if found else "no drift"])


def _state(column: str, alarms: Mapping[str, Alarm]) -> str:
    if column in CALENDAR:
        return "not judged: a calendar"
    alarm = alarms.get(column, Alarm())
    return "RAISED" if alarm.raised else ("watched" if alarm.streak else "")


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
