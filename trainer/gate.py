"""The gate: whether a new model takes the champion's place.

Rule 1. Both are measured on the same rows, which neither has learned from.
Rule 2. Every verdict has a reason with its numbers; a rejected version stays in the registry.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from adapters.model_store import ModelStore
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import Gate, Manifest, ModelRefusedError
from trainer.evaluate import Scores, average_precision, paired_noise
from trainer.fit import from_bytes, score

PROMOTED: Final = "promoted"
REJECTED: Final = "rejected"
_COMPARABLE_FRAUD_MIN: Final = 10


def verdict(store: ModelStore, judged: pl.DataFrame, promise: Scores, seed: int) -> Gate:
    """Whether the candidate becomes champion.

    judged: the validation rows with the candidate's `score`, `is_fraud`, `occurred_at_ms` and NAMES.
    """
    champion = store.champion()
    if champion is None:
        return Gate(PROMOTED, "there is no champion yet")
    if promise.ap is None:
        return Gate(REJECTED, "no fraud was left in the validation period to measure on, and there is a champion")
    try:
        stored = store.read(champion)
    except ModelRefusedError as error:
        return Gate(PROMOTED, f"the champion cannot be used: {error}")
    if stored.manifest.feature_hash != FEATURE_HASH:
        return Gate(
            PROMOTED,
            f"the champion {champion} needs features {stored.manifest.feature_hash}, served are {FEATURE_HASH}",
        )
    unseen = judged.filter(pl.col("occurred_at_ms") >= stored.manifest.trained_on.to_ms)
    if int(unseen["is_fraud"].sum()) < _COMPARABLE_FRAUD_MIN:
        return _against_promise(stored.manifest, promise, unseen.height)
    vectors = np.ascontiguousarray(unseen.select(NAMES).to_numpy(), np.float32)
    rival = score(from_bytes(stored.model), vectors)
    return _compared(champion, unseen, rival, seed)


def _compared(
    champion: str, unseen: pl.DataFrame, rival: np.ndarray[tuple[int], np.dtype[np.float32]], seed: int
) -> Gate:
    truth, mine = unseen["is_fraud"].to_numpy(), unseen["score"].to_numpy()
    ap, rival_ap = average_precision(truth, mine) or 0.0, average_precision(truth, rival) or 0.0
    noise = paired_noise(truth, mine, rival, seed)
    outcome = PROMOTED if ap >= rival_ap - noise else REJECTED
    return Gate(
        outcome,
        f"AP {ap:.4f} against {rival_ap:.4f} of {champion} on {unseen.height} rows neither has learned from (noise {noise:.4f})",
    )


def _against_promise(champion: Manifest, promise: Scores, unseen_rows: int) -> Gate:
    """The champion has learned from these rows: its score on them would flatter it, so its promise stands in."""
    ap, rival_ap = promise.ap or 0.0, champion.promise.ap or 0.0
    noise = float(np.sqrt(max(rival_ap * (1 - rival_ap), 0.0) / max(champion.promise.fraud, 1)))
    outcome = PROMOTED if ap >= rival_ap - noise else REJECTED
    return Gate(
        outcome,
        f"AP {ap:.4f} against the {rival_ap:.4f} that {champion.version} promised on its own validation rows "
        f"(it has learned from all but {unseen_rows} of these; noise {noise:.4f})",
    )
