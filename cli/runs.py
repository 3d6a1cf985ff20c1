"""`fraudstream runs`: the trainings, past and present.

Rule 1. The trainer's history is read from its file: it is shown also while nothing runs.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec

from adapters.run_history import TrainingRun, read_runs
from adapters.settings import StackSettings
from cli.alert_table import event_time


def show_runs(limit: int, as_json: bool) -> int:
    """Print the newest runs, newest first; return the exit code."""
    runs = read_runs(StackSettings.read().runs_file, limit)
    if as_json:
        print(json.dumps(msgspec.to_builtins(runs), indent=1))
    elif not runs:
        print("no training was asked for yet: `fraudstream retrain` asks, and the trainer does each simulated night")
    for run in [] if as_json else runs:
        print("\n".join(_lines(run)))
    return 0


def _lines(run: TrainingRun) -> list[str]:
    asked = f"{datetime.fromtimestamp(run.asked_at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    as_of = "the newest" if run.as_of_ms is None else event_time(run.as_of_ms)
    took = (
        f", {(run.ended_at_ms - run.started_at_ms) / 1000:.0f} s"
        if run.ended_at_ms is not None and run.started_at_ms is not None
        else f", {run.stage} {run.percent} %"
        if run.state == "running"
        else ""
    )
    lines = [f"{run.request_id}  {run.state}{took}", f"  {run.trigger}, asked {asked}, as of {as_of}"]
    lines += [f"  why: {run.why}"] if run.why else []
    return lines + ([f"  {run.detail}"] if run.detail else [])
