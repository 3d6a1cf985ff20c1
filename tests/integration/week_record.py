"""What a week of the world has left behind, as anyone can read it, and what is missing of what it must show.

Rule 1. Everything is read from where a person reads it: runs, the registry's list, the roles' changes, the paths.
Rule 2. What is missing is said in words, one sentence each; a whole week has none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from adapters.model_store import ModelStore
from tests.integration.terminal import Terminal

Values = dict[str, Any]


@dataclass(frozen=True)
class Week:
    """nights_ms: its midnights. runs, listed, paths: as the commands print them. gates: what the gate said, by version."""

    nights_ms: tuple[int, ...]
    runs: list[Values]
    listed: list[Values]
    text: str
    gates: dict[str, Values]
    changes: list[Values]
    paths: Values


def read_week(terminal: Terminal, nights_ms: tuple[int, ...], changes: int) -> Week:
    """Ask the commands, and the registry for what it remembers of its roles: its first `changes`, which are the week's."""
    store = ModelStore(terminal.folder / ".fraudstream" / "models")
    listed: list[Values] = json.loads(terminal.fraudstream("models", "list", "--json").stdout)
    return Week(
        nights_ms,
        runs=json.loads(terminal.fraudstream("runs", "--json", "--limit", "50").stdout),
        listed=listed,
        text=terminal.fraudstream("models", "list").stdout,
        gates={row["version"]: msgspec.to_builtins(store.manifest(row["version"]).gate) for row in listed},
        changes=msgspec.to_builtins(store.changes())[:changes],
        paths=json.loads(terminal.fraudstream("paths", "--json").stdout),
    )


def shortcomings(week: Week) -> list[str]:
    """What the week fails to show."""
    return [*_of_nights(week), *_of_roles(week), *_of_metrics(week), *_of_paths(week), *_of_list(week)]


def _of_nights(week: Week) -> list[str]:
    runs = {run["request_id"]: run for run in week.runs}
    found = []
    for night_ms in week.nights_ms:
        run = runs.get(f"night-{night_ms}")
        if run is None:
            found.append(f"the night of {night_ms} has no run of its own")
        elif run["trigger"] != "nightly" or run["state"] not in ("promoted", "rejected"):
            found.append(f"the night of {night_ms} is {run['state']}: {run['detail']}")
    refused = [gate for gate in week.gates.values() if gate["outcome"] == "rejected"]
    if not any(_is_no_better(gate) for gate in refused):
        found.append("no candidate was refused for being no better, with the numbers")
    return found


def _is_no_better(gate: Values) -> bool:
    """Measured, and not better by more than noise: than its rival, or than chance. Too few frauds to measure on do not count."""
    low: float | None = gate.get("low")
    return low <= 0 if low is not None else str(gate["reason"]).startswith("no better than chance")


def _of_roles(week: Week) -> list[str]:
    found = []
    by_gate = [c["after"]["champion"] for c in week.changes if (c["action"], c["by"]) == ("promote", "gate")]
    if not any(((week.gates.get(version) or {}).get("low") or 0) > 0 for version in by_gate):
        found.append("the gate has promoted nobody by more than noise")
    back = [c for c in week.changes if c["action"] == "rollback"]
    if not any(c["after"]["champion"] == c["before"]["previous"] for c in back):
        found.append("nobody was rolled back to")
    return found


def _of_metrics(week: Week) -> list[str]:
    rows = {row["version"]: row for row in week.listed}
    decided = {c["after"]["champion"] for c in week.changes} - {None}
    found = [f"{version} has decided and is not listed" for version in decided - rows.keys()]
    for version in sorted(decided & rows.keys()):
        told = rows[version]
        if told["ap"] is None or told["auc"] is None:
            found.append(f"{version} has promised nothing")
        if not told["delivered"] or told["delivered"]["ap"] is None or not told["delivered"]["fraud"]:
            found.append(f"{version} has decided and delivered nothing")
    shadows = [row["in_shadow"] for row in week.listed if row["in_shadow"]]
    if not any(shadow["ap"] is not None and shadow["champion_ap"] is not None for shadow in shadows):
        found.append("no challenger was measured beside the champion")
    return found


def _of_paths(week: Week) -> list[str]:
    contrast = week.paths["contrast"]
    if contrast is None or contrast["transactions"] < 1:
        return ["the paths were not compared on one transaction"]
    return [
        f"the {path} path has no average precision"
        for path in ("streaming", "batch")
        if contrast["by_path"].get(path, {}).get("quality", {}).get("ap") is None
    ]


def _of_list(week: Week) -> list[str]:
    lines = week.text.splitlines()
    found = [f"the list has no line of {version}" for version in week.gates if not any(version in x for x in lines)]
    found += [f"the list does not name a {role}" for role in ("champion", "previous") if role not in week.text]
    found += [
        f"the list has nobody who was {word}" for word in ("promoted", "rejected") if f"  {word}:" not in week.text
    ]
    return found
