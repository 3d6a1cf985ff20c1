"""A small log of scores, labels and truth, as the topics hold it, and what it means, row by row.

Rule 1. Everything is a function of the seed. Rows are repeated as a scorer that crashed would write them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fraud.features import FEATURE_HASH
from fraud.labels import Label
from fraud.packed import SCORES, Column, pack
from fraud.truth import Truth
from fraud.windows import DAY_MS, HOUR_MS

BEGIN_MS = 17_622 * DAY_MS  # 2018-04-01
DAYS = 30
APPROVE, REVIEW, DECLINE = 0, 1, 2


@dataclass(frozen=True)
class Row:
    """One scored transaction."""

    offset: int
    card: str
    at_ms: int
    amount: int
    score: float
    decision: int
    explored: bool
    is_fraud: bool
    version: str

    @property
    def transaction_id(self) -> str:
        return f"t{self.offset}"


def rows(count: int, seed: int = 1) -> list[Row]:
    """Rows of DAYS days; the second half is scored by another version."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(count):
        is_fraud = bool(random.random() < 0.04)
        score = float(np.float32(np.clip(random.beta(2, 8) + (0.5 if is_fraud else 0) * random.random(), 0, 1)))
        decision = DECLINE if score > 0.55 else REVIEW if score > 0.4 else APPROVE
        explored = decision == DECLINE and bool(random.random() < 0.3)
        made.append(
            Row(
                offset=i,
                card=f"c{random.integers(0, max(2, count // 20))}",
                at_ms=BEGIN_MS + i * DAYS * DAY_MS // count,
                amount=int(random.integers(1, 50_000)),
                score=score,
                decision=APPROVE if explored else decision,
                explored=explored,
                is_fraud=is_fraud,
                version="20180401T000000-aaaaaa" if i < count * 3 // 5 else "20180416T000000-bbbbbb",
            )
        )
    return made


def columns_of(part: list[Row]) -> dict[str, Column]:
    """What every record of `scores` has of its rows."""
    return {
        "origin_partition": np.zeros(len(part), np.int32),
        "origin_offset": np.array([r.offset for r in part]),
        "transaction_id": [r.transaction_id for r in part],
        "card_id": [r.card for r in part],
        "terminal_id": ["m1"] * len(part),
        "amount_minor": np.array([r.amount for r in part]),
        "occurred_at_ms": np.array([r.at_ms for r in part]),
        "ingested_at_ms": np.array([r.at_ms for r in part]),
        "score": np.array([r.score for r in part]),
        "rules_score": np.zeros(len(part)),
        "decision": np.array([r.decision for r in part]),
        "explored": np.array([r.explored for r in part]),
    }


def packed(part: list[Row]) -> bytes:
    """A record of `scores`."""
    meta = {"feature_hash": FEATURE_HASH, "model_version": part[0].version, "stage_at_ms": 0}
    return pack(SCORES, columns_of(part), meta)


def score_records(made: list[Row], seed: int = 2) -> list[bytes]:
    """Records of up to 50 rows of one version; some stretches are written again, cut otherwise."""
    random = np.random.default_rng(seed)
    records, at = [], 0
    while at < len(made):
        part = [r for r in made[at : at + int(random.integers(1, 50))] if r.version == made[at].version]
        records.append(packed(part))
        if random.random() < 0.15:
            again = [r for r in made[max(0, at - 30) : at + len(part) // 2 + 1] if r.version == part[0].version]
            records.append(packed(again))
        at += len(part)
    return records


def labels(made: list[Row], seed: int = 3) -> list[Label]:
    """Labels in the order in which they become known: frauds after hours to 12 days, some genuine ones, some corrected."""
    random = np.random.default_rng(seed)
    told = []
    for row in made:
        if row.decision == DECLINE or not (row.is_fraud or random.random() < 0.05):
            continue
        known = row.at_ms + int(random.integers(1, 12 * 24)) * HOUR_MS
        told.append(_label(row, row.is_fraud, known, "customer_report"))
        if random.random() < 0.1:
            told.append(_label(row, not row.is_fraud, known + HOUR_MS, "chargeback"))
    return sorted(told, key=lambda each: each.known_at_ms)


def _label(row: Row, is_fraud: bool, known_at_ms: int, source: Any) -> Label:
    return Label(row.transaction_id, row.card, "m1", row.at_ms, is_fraud, known_at_ms, source, known_at_ms)


def truths(made: list[Row]) -> list[Truth]:
    """The scenario of every fraud."""
    return [
        Truth(r.transaction_id, r.card, r.at_ms, "card_testing" if r.offset % 2 else "leaked_card")
        for r in made
        if r.is_fraud
    ]
