"""What a version promises and how it is recognised: of both paths, measured and made alike.

Rule 1. What makes a card known is the same for both: frauds of the week before the judged days and of the delay behind it, as in
        the Handbook's protocol.
Rule 2. Canaries are scored by the call that the scorer makes, and one of them has no value at all.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
import xgboost as xgb

from fraud.model import Canary, Floats, Promise, canaries_of
from fraud.windows import DAY_MS
from trainer.dataset import Rows, Split
from trainer.evaluate import Scores
from trainer.fit import score

_CANARIES: Final = 32


def known_frauds(rows: Rows, split: Split) -> pl.DataFrame:
    """The frauds that make a card known before the judged days begin: card_id, known_at_ms."""
    at = pl.col("occurred_at_ms")
    before = (at >= split.judged_to_ms - 7 * DAY_MS) & (at < split.validation_from_ms)
    return rows.frame.filter(pl.col("is_fraud") & before).select("card_id", "known_at_ms")


def promise_of(scores: Scores, judged: pl.DataFrame, split: Split) -> Promise:
    """What was measured; judged: the validation rows without known cards, with `is_fraud`."""
    return Promise(
        auc=scores.auc,
        ap=scores.ap,
        cp_at_100=scores.cp_at_100,
        from_ms=split.validation_from_ms,
        to_ms=split.validation_to_ms,
        rows=judged.height,
        fraud=int(judged["is_fraud"].sum()),
    )


def canaries(booster: xgb.Booster, vectors: Floats, scores: Floats) -> tuple[Canary, ...]:
    """Rows over the whole range of the vectors' scores, and one without any value, scored as the scorer will."""
    ranked = np.argsort(scores, kind="stable")
    chosen = vectors[ranked[np.linspace(0, len(ranked) - 1, _CANARIES - 1).astype(int)]]
    rows = np.concatenate([chosen, np.full((1, vectors.shape[1]), np.nan, np.float32)])
    return canaries_of(rows, score(booster, rows))
