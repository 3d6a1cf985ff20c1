"""Judging: from rows of feature vectors to scores, decisions and alerts. No Kafka, no clock.

Rule 1. The rules always judge; a model decides when there is one.
Rule 2. Reasons are computed for alerts only: an exact SHAP value costs some hundred times a score.
Rule 3. Every row with a decision other than approve gets exactly one alert.
Rule 4. Who scores beside (the challenger) changes no decision: it sees the same vectors in the same pass, and is written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud import rules
from fraud.alert import Alert, alert_id_of, feature_reasons
from fraud.decision import APPROVE, COSTS, DECISIONS, Costs, decide, explored
from fraud.model import Floats
from fraud.packed import Array, Batch, Column
from fraud.transaction import LEDGER_CURRENCY
from scorer.model import Model


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was decided for the rows of a batch, row by row.

    score: of the model or rules named by `version`, float32. fired: bool [rows, rules]. decision: index into DECISIONS.
    explored: would have been declined, and is let through (decision approve, no alert).
    challenger_score: of the version `challenger_version`, NaN where nobody scores in shadow (version None).
    """

    version: str
    review_threshold: float
    score: Floats
    rules_score: Floats
    fired: npt.NDArray[np.bool_]
    decision: npt.NDArray[np.uint8]
    explored: npt.NDArray[np.bool_]
    challenger_version: str | None
    challenger_score: Floats


def concatenated(batches: Sequence[Batch]) -> Batch:
    """The rows of several batches of one kind, in order, with the last one's meta."""
    if len(batches) == 1:
        return batches[0]
    columns: dict[str, Column] = {}
    for name in batches[0].columns:
        parts = [batch.columns[name] for batch in batches]
        columns[name] = (
            np.concatenate(parts) if isinstance(parts[0], np.ndarray) else [text for part in parts for text in part]
        )
    return Batch(batches[0].kind, sum(batch.rows for batch in batches), columns, batches[-1].meta)


def judge(
    batch: Batch,
    model: Model | None,
    exploration_share: float,
    costs: Costs = COSTS,
    *,
    challenger: Model | None = None,
) -> Verdicts:
    """Score and decide every row of a batch of vectors; exploration_share of the declined are let through."""
    vectors: Array = batch.array("vector")
    fired = rules.fired(vectors)
    rules_score = rules.score(fired)
    score = rules_score if model is None else model.score(vectors)
    threshold = rules.REVIEW_THRESHOLD if model is None else model.review_threshold
    decision = decide(score, batch.array("amount_minor"), threshold, costs)
    let_through = explored(decision, batch.text("transaction_id"), exploration_share)
    decision[let_through] = APPROVE
    return Verdicts(
        version=rules.VERSION if model is None else model.version,
        review_threshold=threshold,
        score=score,
        rules_score=rules_score,
        fired=fired,
        decision=decision,
        explored=let_through,
        challenger_version=None if challenger is None else challenger.version,
        challenger_score=_beside(challenger, vectors),
    )


def _beside(model: Model | None, vectors: Floats) -> Floats:
    """The scores of one that decides nothing, NaN without one."""
    return np.full(len(vectors), np.nan, np.float32) if model is None else model.score(vectors)


def alerts_of(batch: Batch, verdicts: Verdicts, model: Model | None, scored_at_ms: int) -> list[Alert]:
    """The alerts of a judged batch, in row order; `model` is the one that judged it."""
    rows = np.flatnonzero(verdicts.decision != APPROVE)
    if not len(rows):
        return []
    reasons = reasons_of(batch.array("vector")[rows], verdicts.fired[rows], model)
    return [_alert(batch, verdicts, row, why, scored_at_ms) for row, why in zip(rows.tolist(), reasons, strict=True)]


def reasons_of(vectors: Floats, fired: npt.NDArray[np.bool_], model: Model | None) -> list[tuple[str, ...]]:
    """Reason codes of each row: the features that raised the model's score most, then the rules that fired."""
    if model is None:
        return [rules.codes(row) for row in fired]
    contributions = model.contributions(vectors)
    return [(*feature_reasons(own), *rules.codes(row)) for own, row in zip(contributions, fired, strict=True)]


def _alert(batch: Batch, verdicts: Verdicts, row: int, reasons: tuple[str, ...], scored_at_ms: int) -> Alert:
    partition, offset = int(batch.array("origin_partition")[row]), int(batch.array("origin_offset")[row])
    return Alert(
        alert_id=alert_id_of(partition, offset),
        transaction_id=batch.text("transaction_id")[row],
        card_id=batch.text("card_id")[row],
        terminal_id=batch.text("terminal_id")[row],
        amount_minor=int(batch.array("amount_minor")[row]),
        currency=LEDGER_CURRENCY,
        occurred_at_ms=int(batch.array("occurred_at_ms")[row]),
        score=float(verdicts.score[row]),
        decision="review" if DECISIONS[verdicts.decision[row]] == "review" else "decline",
        reason_codes=reasons,
        model_version=verdicts.version,
        scored_at_ms=scored_at_ms,
        origin_partition=partition,
        origin_offset=offset,
    )
