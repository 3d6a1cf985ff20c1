"""The page of models: every version with what it promised and what it has delivered, and who has which role.

Rule 1. A version whose files are not whole is shown as such, and cannot be promoted.
Rule 2. Roles change by compare-and-set on what the person has seen: who looks at an old page is refused, not obeyed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from adapters.model_store import Aliases, ModelStore
from fraud.model import CARD_FILE, ModelRefusedError, is_version
from monitoring.evaluation import Evaluation, promised

CARD_BYTES_MAX: Final = 200_000


class RegistryPage:
    """The registry below `models`, for browsers."""

    def __init__(self, models: Path) -> None:
        self._models = models

    def values(self, evaluation: Evaluation | None) -> dict[str, Any]:
        """Every version, newest first, and the roles."""
        if not self._models.exists():
            return {"roles": msgspec.to_builtins(Aliases()), "versions": [], "fault": None}
        store = ModelStore(self._models)
        delivered = {} if evaluation is None else {(d.path, d.version): d for d in evaluation.delivered}
        shadowed = {} if evaluation is None else {each.version: each for each in evaluation.shadowed}
        try:
            roles, fault = store.aliases(), None
        except ModelRefusedError as error:
            roles, fault = Aliases(), str(error)
        rows = []
        for version in reversed(store.versions()):
            row = _row(store, version)
            found = delivered.get(("streaming", version))
            row["delivered"] = None if found is None else dict(found.quality)
            row["delivered_rows"] = None if found is None else found.fraud + found.genuine
            shadow = shadowed.get(version)
            row["in_shadow"] = None if shadow is None else dict(shadow.quality)
            row["champion_beside"] = None if shadow is None else dict(shadow.champion)
            rows.append(row)
        return {"roles": msgspec.to_builtins(roles), "versions": rows, "fault": fault}

    def card(self, version: str) -> str:
        """The model card, Markdown. Raises ModelRefusedError."""
        if not is_version(version):
            raise ModelRefusedError(f"{version!r} is no version's name")
        try:
            return (self._models / version / CARD_FILE).read_bytes()[:CARD_BYTES_MAX].decode(errors="replace")
        except OSError as error:
            raise ModelRefusedError(f"{version} has no model card ({error.strerror})") from error

    def promote(self, version: str, seen_champion: str | None) -> Aliases:
        """Make a version the champion. Raises ModelRefusedError, AliasConflictError."""
        store = ModelStore(self._models)
        return store.promote(version, _as_seen(store, seen_champion))

    def rollback(self, seen_champion: str | None) -> Aliases:
        """Make the previous version the champion again. Raises ModelRefusedError, AliasConflictError."""
        store = ModelStore(self._models)
        _as_seen(store, seen_champion)
        return store.rollback()


def _as_seen(store: ModelStore, seen_champion: str | None) -> Aliases:
    now = store.aliases()
    if now.champion != seen_champion:
        raise ModelRefusedError(
            f"the champion is {now.champion} by now, not {seen_champion}: look again and decide again"
        )
    return now


def _row(store: ModelStore, version: str) -> dict[str, Any]:
    try:
        manifest = store.manifest(version)
    except ModelRefusedError as error:
        return {"version": version, "error": str(error)}
    return {
        "version": version,
        "as_of_ms": manifest.as_of_ms,
        "created_at": manifest.created_at,
        "trained_on": msgspec.to_builtins(manifest.trained_on),
        "promise": msgspec.to_builtins(manifest.promise),
        "promised": promised(manifest.promise),
        "thresholds": manifest.thresholds,
        "gate": msgspec.to_builtins(manifest.gate),
        "feature_hash": manifest.feature_hash,
    }
