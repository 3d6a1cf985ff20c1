"""`fraudstream models list | show | promote | rollback | shadow`: the registry for a person.

Rule 1. A name is a version's name or the begin of exactly one.
Rule 2. `promote` asks what the gate has said, against whom it compared, and overrules it only with --force and a reason, which
        is kept. A version of other features is never promoted: nobody could score with it.
Rule 3. What is promised stands beside what was delivered (adapters/delivered.py); what is not known is a dash, never a zero.
Rule 4. What a challenger would have delivered stands apart from that, beside whoever decided on the same transactions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from adapters.delivered import DeliveredQuality, read_delivered
from adapters.model_store import AliasConflictError, Aliases, ModelStore
from adapters.settings import StackSettings
from cli.alert_table import event_time
from cli.failure import CommandError
from fraud.batch_features import BATCH_HASH, BATCH_KIND
from fraud.features import FEATURE_HASH
from fraud.model import Manifest, ModelRefusedError

_STREAMING: Final = "streaming"
_BATCH: Final = "batch"
_SHADOW: Final = "challenger"
_CHANGES_SHOWN: Final = 5


def list_models(as_json: bool) -> int:
    """Print every version, newest last; return the exit code."""
    settings = StackSettings.read()
    store = ModelStore(settings.models)
    roles = _roles(_aliases(store))
    told = {(each.path, each.version): each for each in read_delivered(settings.delivered_file)}
    rows = [_row(store, version, roles.get(version, []), told) for version in store.versions()]
    if as_json:
        print(json.dumps(rows, indent=1))
    elif not rows:
        print(
            f"no model in {settings.models} yet: `fraudstream retrain` makes one, until then the scorer decides by rules"
        )
    else:
        print("\n".join(_lines(rows)))
    return 0


def show_model(name: str, as_json: bool) -> int:
    """Print one version whole: manifest, gate, promise, delivery, and how its role came to be."""
    settings = StackSettings.read()
    store = ModelStore(settings.models)
    version = _version(store, name)
    manifest = _manifest(store, version)
    told = [each for each in read_delivered(settings.delivered_file) if each.version == version]
    changes = [
        c for c in store.changes() if version in msgspec.structs.astuple(c.before) + msgspec.structs.astuple(c.after)
    ]
    values: dict[str, Any] = {
        **msgspec.to_builtins(manifest),
        "roles": _roles(_aliases(store)).get(version, []),
        "delivered": msgspec.to_builtins(told),
        "changes": msgspec.to_builtins(changes),
        "folder": str(settings.models / version),
    }
    del values["canaries"]  # hexadecimal, for machines that load it
    print(json.dumps(values, indent=1) if as_json else _page(manifest, values, told))
    return 0


def promote(name: str, force: bool, reason: str, as_json: bool) -> int:
    """Make a version the champion; return the exit code."""
    reason = reason.strip()
    if force and not reason:
        raise CommandError("--force overrules the gate: say why with --reason '...', it is kept", 2)
    store = ModelStore(StackSettings.read().models)
    version = _version(store, name)
    manifest, before = _manifest(store, version), _aliases(store)
    computed = BATCH_HASH if manifest.kind == BATCH_KIND else FEATURE_HASH
    if manifest.feature_hash != computed:
        raise CommandError(
            f"{version} was trained on features {manifest.feature_hash}, this release computes {computed}: "
            "nobody can score with it, also not by force; `fraudstream retrain` makes one that fits"
        )
    objection = _objection(manifest, before)
    if objection is not None and not force:
        raise CommandError(f"{objection}. To overrule the gate: --force --reason '...'")
    after = _changed(lambda: store.promote(version, before, reason=reason or manifest.gate.reason))
    return _told(before, after, as_json)


def rollback(reason: str, as_json: bool) -> int:
    """Make the previous champion the champion again, and say what changed; return the exit code."""
    store = ModelStore(StackSettings.read().models)
    before = _aliases(store)
    return _told(before, _changed(lambda: store.rollback(reason=reason)), as_json)


def shadow(name: str | None, as_json: bool) -> int:
    """Let a version score in shadow, or nobody; return the exit code."""
    store = ModelStore(StackSettings.read().models)
    before = _aliases(store)
    version = None if name is None else _version(store, name)
    if version is not None and _manifest(store, version).feature_hash != FEATURE_HASH:
        raise CommandError(
            f"{version} was trained on other features than this release computes: nobody can score with it"
        )
    return _told(before, _changed(lambda: store.shadow(version, before)), as_json)


def _objection(manifest: Manifest, now: Aliases) -> str | None:
    """What the gate has against the promotion, None when it agrees."""
    gate = manifest.gate
    holder, role = (
        (now.batch_champion, "the batch path's champion")
        if manifest.kind == BATCH_KIND
        else (now.champion, "the champion")
    )
    if holder == manifest.version:
        return None
    if gate.outcome != "promoted":
        return f"the gate has {gate.outcome} {manifest.version}: {gate.reason}"
    if holder is not None and gate.rival != holder:
        return f"the gate has measured {manifest.version} against {gate.rival or 'nobody'}, and {holder} is {role} now"
    return None


def _changed(change: Any) -> Aliases:
    try:
        after: Aliases = change()
    except AliasConflictError:
        raise CommandError(
            "the roles were changed by somebody else just now: look at `fraudstream models list`"
        ) from None
    except ModelRefusedError as error:
        raise CommandError(str(error)) from None
    return after


def _told(before: Aliases, after: Aliases, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(after)}))
        return 0
    changed = [
        f"{role}: {getattr(before, role) or 'nobody'} -> {getattr(after, role) or 'nobody'}"
        for role in Aliases.__struct_fields__
        if getattr(before, role) != getattr(after, role)
    ]
    print(
        "\n".join([*changed, "the scorer takes it within seconds"]) if changed else "nothing changed: it has that role"
    )
    return 0


def _aliases(store: ModelStore) -> Aliases:
    try:
        return store.aliases()
    except ModelRefusedError as error:
        raise CommandError(str(error)) from None


def _manifest(store: ModelStore, version: str) -> Manifest:
    try:
        return store.manifest(version)
    except ModelRefusedError as error:
        raise CommandError(str(error)) from None


def _version(store: ModelStore, name: str) -> str:
    try:
        return store.named(name)
    except ModelRefusedError as error:
        raise CommandError(str(error), 2) from None


def _roles(aliases: Aliases) -> dict[str, list[str]]:
    roles: dict[str, list[str]] = {}
    for role, version in msgspec.structs.asdict(aliases).items():
        if version:
            roles.setdefault(version, []).append(role)
    return roles


def _row(
    store: ModelStore, version: str, roles: list[str], told: Mapping[tuple[str, str], DeliveredQuality]
) -> dict[str, Any]:
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
        "delivered": _told_of(told.get((_BATCH if manifest.kind == BATCH_KIND else _STREAMING, version))),
        "in_shadow": _told_of(told.get((_SHADOW, version))),
        "outcome": manifest.gate.outcome,
        "reason": manifest.gate.reason,
    }


def _told_of(found: DeliveredQuality | None) -> dict[str, Any] | None:
    return None if found is None else msgspec.to_builtins(found)


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    """Two lines a version, 80 columns: a name is never cut."""
    lines = [
        f"{'':<35}{'average precision':<20}{'AUC':<16}",
        f"{'version':<24}{'role':<11}{'promised':>9} {'delivered':>9} {'promised':>9} {'delivered':>9}",
    ]
    for row in rows:
        role = " ".join(row["roles"]) or "-"
        if "error" in row:
            lines += [f"{row['version']:<24}{role:<11}", f"  {row['error']}"]
            continue
        told = row["delivered"] or {}
        numbers = " ".join(f"{_number(value):>9}" for value in (row["ap"], told.get("ap"), row["auc"], told.get("auc")))
        lines += [
            f"{row['version']:<24}{role:<11}{numbers}",
            f"  as of {event_time(row['as_of_ms'])}, {row['rows']:,} rows, {row['fraud']:,} fraud",
            f"  {row['outcome']}: {_first_clause(row['reason'])}",
        ]
        if shadow := row["in_shadow"]:
            lines.append(
                f"  in shadow: AP {_number(shadow['ap'])}, AUC {_number(shadow['auc'])}; who decided on the same "
                f"{_number(shadow['champion_ap'])}, {_number(shadow['champion_auc'])}"
            )
    return lines


def _first_clause(reason: str) -> str:
    """Up to the first parenthesis, semicolon or colon; `models show` has all of it."""
    ends = [place for mark in (" (", "; ", ": ") if (place := reason.find(mark)) > 0]
    return reason[: min(ends)] if ends else reason


def _page(manifest: Manifest, values: dict[str, Any], told: list[DeliveredQuality]) -> str:
    promise, gate, on = manifest.promise, manifest.gate, manifest.trained_on
    lines = [
        f"{manifest.version}  {' '.join(values['roles']) or 'no role'}",
        f"  made         {manifest.created_at} (wall clock), as of {event_time(manifest.as_of_ms)}",
        f"  learned from {on.rows:,} rows, {on.fraud:,} fraud, {event_time(on.from_ms)} .. {event_time(on.to_ms)}",
        f"  promised     AP {_number(promise.ap)}, AUC {_number(promise.auc)}, CP@100 {_number(promise.cp_at_100)} on "
        f"{promise.rows:,} rows, {promise.fraud:,} fraud, {_day(promise.from_ms)} .. {_day(promise.to_ms)}",
    ]
    lines += [
        f"  delivered    AP {_number(each.ap)}, AUC {_number(each.auc)}, card precision {_number(each.card_precision)} on "
        f"{each.fraud + each.genuine:,} matured rows, {each.fraud:,} fraud, {_day(each.from_ms)} .. {_day(each.to_ms)} "
        f"({_by_whom(each)})"
        for each in told
    ] or ["  delivered    - (no labels have matured, or it has not decided)"]
    lines.append(f"  gate         {gate.outcome}{', may score in shadow' if gate.shadow else ''}: {gate.reason}")
    if gate.difference is not None and gate.low is not None and gate.high is not None:
        lines.append(
            f"               against {gate.rival}: AP {gate.difference:+.4f}, 90 % of draws {gate.low:+.4f} .. {gate.high:+.4f}"
            f", {gate.rows:,} rows, {gate.fraud:,} fraud"
        )
    lines += [
        f"  review from  {manifest.thresholds.get('review')}",
        f"  features     {len(manifest.feature_names)}, hash {manifest.feature_hash}; XGBoost {manifest.xgboost_version}",
        f"  parameters   {', '.join(f'{name}={value}' for name, value in manifest.params.items())}",
        f"  files        {', '.join(sorted(manifest.files))} in {values['folder']}",
    ]
    lines += [
        f"  {change['at']}  {change['action']} by {change['by']}: {change['reason'] or 'no reason given'}"
        for change in values["changes"][-_CHANGES_SHOWN:]
    ]
    return "\n".join(lines)


def _by_whom(each: DeliveredQuality) -> str:
    if each.path != _SHADOW:
        return each.path
    return f"in shadow; who decided on the same: AP {_number(each.champion_ap)}, AUC {_number(each.champion_auc)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d}"
