"""`fraudstream models list`."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from adapters.model_store import ModelStore
from adapters.settings import StackSettings
from cli.alert_table import event_time
from fraud.model import ModelRefusedError


def list_models(as_json: bool) -> int:
    """Print every version, newest last; return the exit code."""
    settings = StackSettings.read()
    store = ModelStore(settings.models)
    roles: dict[str, list[str]] = {}
    for role, version in msgspec.structs.asdict(store.aliases()).items():
        if version:
            roles.setdefault(version, []).append(role)
    rows = [_row(store, version, roles.get(version, [])) for version in store.versions()]
    if as_json:
        print(json.dumps(rows, indent=1))
    elif not rows:
        print(
            f"no model in {settings.models} yet: `fraudstream retrain` makes one, until then the scorer decides by rules"
        )
    else:
        _show(rows)
    return 0


def _row(store: ModelStore, version: str, roles: list[str]) -> dict[str, Any]:
    try:
        manifest = store.manifest(version)
    except ModelRefusedError as error:
        return {"version": version, "roles": roles, "error": str(error)}
    promise = manifest.promise
    return {
        "version": version,
        "roles": roles,
        "as_of_ms": manifest.as_of_ms,
        "rows": manifest.trained_on.rows,
        "fraud": manifest.trained_on.fraud,
        "auc": promise.auc,
        "ap": promise.ap,
        "cp_at_100": promise.cp_at_100,
        "outcome": manifest.gate.outcome,
        "reason": manifest.gate.reason,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table("version", "role", "as of", "learned from", "AUC", "AP", "CP@100", "gate", box=None, pad_edge=False)
    for row in rows:
        if "error" in row:
            table.add_row(row["version"], " ".join(row["roles"]), "", "", "", "", "", row["error"])
            continue
        promised = ("-" if row[name] is None else f"{row[name]:.3f}" for name in ("auc", "ap", "cp_at_100"))
        learned = f"{row['rows']:,} rows, {row['fraud']:,} fraud"
        gate = f"{row['outcome']}: {row['reason']}"
        table.add_row(
            row["version"], " ".join(row["roles"]) or "-", event_time(row["as_of_ms"]), learned, *promised, gate
        )
    Console().print(table)
