"""Two versions side by side: what they promised, how they were made, and how differently they score.

Rule 1. Scores are compared on the canaries of both, so that neither chooses the rows: each model scores all of them now.
Rule 2. Models of other features cannot score each other's canaries; everything else is compared all the same.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from adapters.model_store import StoredModel
from trainer.fit import from_bytes, score

_MEASURES: Final = ("auc", "ap", "cp_at_100", "rows", "fraud")


def difference(a: StoredModel, b: StoredModel) -> dict[str, Any]:
    """What differs, as JSON values: pairs are [of a, of b]; what is equal is left out, but for the promises."""
    one, other = a.manifest, b.manifest
    params = (one.params | {"as_of_ms": one.as_of_ms}, other.params | {"as_of_ms": other.as_of_ms})
    return {
        "a": a.version,
        "b": b.version,
        "promised": {name: [getattr(one.promise, name), getattr(other.promise, name)] for name in _MEASURES},
        "trained_on": _pairs(msgspec.structs.asdict(one.trained_on), msgspec.structs.asdict(other.trained_on)),
        "thresholds": _pairs(one.thresholds, other.thresholds),
        "params": _pairs(*params),
        "features": {
            "hashes": [one.feature_hash, other.feature_hash],
            "only_a": [name for name in one.feature_names if name not in other.feature_names],
            "only_b": [name for name in other.feature_names if name not in one.feature_names],
        },
        "gate": [msgspec.to_builtins(one.gate), msgspec.to_builtins(other.gate)],
        "files": sorted(name for name in one.files | other.files if one.files.get(name) != other.files.get(name)),
        "canaries": _on_canaries(a, b),
    }


def _pairs(one: dict[str, Any], other: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        name: [one.get(name), other.get(name)]
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    }


def _on_canaries(a: StoredModel, b: StoredModel) -> dict[str, Any] | None:
    """Differences of the scores, b minus a; None when the features are not the same."""
    if a.manifest.feature_names != b.manifest.feature_names or a.manifest.feature_hash != b.manifest.feature_hash:
        return None
    both = np.concatenate([a.manifest.canary_vectors(), b.manifest.canary_vectors()])
    rows = np.unique(both.view(np.uint32), axis=0).view(np.float32)  # by bits: no NaN equals another
    by_a, by_b = (score(from_bytes(each.model), rows).astype(np.float64) for each in (a, b))
    apart = by_b - by_a
    worst = int(np.abs(apart).argmax())
    return {
        "rows": len(rows),
        "equal": int((apart == 0).sum()),
        "mean_absolute": round(float(np.abs(apart).mean()), 6),
        "largest": {"a": round(float(by_a[worst]), 6), "b": round(float(by_b[worst]), 6)},
    }


def as_text(found: dict[str, Any]) -> str:
    """The difference for a terminal."""
    lines = [f"{'':<26}{found['a']:>24}{found['b']:>24}"]
    lines += [
        f"promised {name:<17}{_shown(one):>24}{_shown(other):>24}" for name, (one, other) in found["promised"].items()
    ]
    for title in ("trained_on", "thresholds", "params"):
        lines += [
            f"{title[:8]} {name[:16]:<17}{_shown(one):>24}{_shown(other):>24}"
            for name, (one, other) in found[title].items()
        ]
    for letter, gate in zip("AB", found["gate"], strict=True):
        lines.append(f"gate of {letter}: {gate['outcome']}, {gate['reason']}")
    features = found["features"]
    if features["hashes"][0] == features["hashes"][1]:
        lines.append(f"features: the same ({features['hashes'][0]})")
    else:
        lines.append(f"features: {features['hashes'][0]} against {features['hashes'][1]}")
        lines += [f"  only {letter.upper()}: {name}" for letter in "ab" for name in features[f"only_{letter}"]]
    canaries = found["canaries"]
    if canaries is None:
        return "\n".join([*lines, "canaries: not comparable, the features differ"])
    largest = canaries["largest"]
    lines.append(
        f"canaries: {canaries['rows']} rows of both, {canaries['equal']} scored alike, mean absolute difference "
        f"{canaries['mean_absolute']:.4f}, largest {largest['a']:.4f} against {largest['b']:.4f}"
    )
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
