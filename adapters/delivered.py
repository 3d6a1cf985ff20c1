"""What each version has delivered on matured labels, kept for whoever puts it beside the promise.

Rule 1. The evaluator writes, others read: one JSON file, replaced whole. Without it nothing is known, and that is no error.
Rule 2. Of a version the evaluation with the most frauds stays: in its last days a version decides few transactions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec


class DeliveredQuality(msgspec.Struct, frozen=True):
    """Of one version on one path, over event times from_ms <= t < to_ms. None: undefined there.

    path: streaming or batch, or challenger: scored in shadow. champion_auc, champion_ap: of whoever decided, on those same
    transactions; only of a challenger.
    """

    path: str
    version: str
    from_ms: int
    to_ms: int
    fraud: int
    genuine: int
    auc: float | None
    ap: float | None
    card_precision: float | None
    recall: float | None
    champion_auc: float | None = None
    champion_ap: float | None = None


def read_delivered(path: Path) -> list[DeliveredQuality]:
    """What is kept; nothing when the file is missing or cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[DeliveredQuality])
    except (OSError, msgspec.DecodeError):
        return []


def keep_delivered(path: Path, newest: Iterable[DeliveredQuality]) -> None:
    """Put newest evaluations beside what is kept. Raises OSError when the disk refuses."""
    kept = {(each.path, each.version): each for each in read_delivered(path)}
    before = dict(kept)
    for each in newest:
        had = kept.get((each.path, each.version))
        if had is None or each.fraud >= had.fraud:
            kept[each.path, each.version] = each
    if kept == before:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(sorted(kept.values(), key=lambda e: (e.version, e.path)))))
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
