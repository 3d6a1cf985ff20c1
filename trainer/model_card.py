"""card.md of a version: what a person should know before trusting the model, in plain text with four pictures beside it.

Rule 1. Every number comes from the manifest's own values or from metrics.json; nothing is claimed that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fraud.features import FEATURE_HASH, NAMES
from fraud.model import Gate, Promise, TrainedOn
from trainer.calibration import Calibration
from trainer.fit import FitParams
from trainer.judgement import SHAP_ROWS, Soundness, earned
from trainer.ladder import RUNGS, SERVED
from trainer.measures import CONFIDENCE, JudgedRows, Measured

PRECISION_RECALL_FILE: Final = "precision_recall.png"
CALIBRATION_FILE: Final = "calibration.png"
COST_FILE: Final = "cost.png"
IMPORTANCE_FILE: Final = "importance.png"

_SHOWN_FEATURES = 12
_COLUMNS: Final = {
    "ap": "average precision",
    "auc": "AUC",
    "cp_at_100": "card precision at 100",
    "precision_at_budget": "precision",
    "recall_at_budget": "recall",
    "cost_minor_a_day": "cost a day, EUR",
    "brier": "Brier, 1e-4",
}
_SCALES: Final = {"cost_minor_a_day": (0.01, ".0f"), "brier": (1e4, ".2f")}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card tells. importances: feature and mean |SHAP value|, largest first."""

    trained_on: TrainedOn
    promise: Promise
    gate: Gate
    thresholds: Mapping[str, float]
    params: FitParams
    ladder: Measured
    rows: JudgedRows
    calibration: Calibration
    stopping: str
    soundness: Soundness
    importances: Sequence[tuple[str, float]]


def card_text(facts: CardFacts) -> str:
    """The card's text, Markdown."""
    parts = [_head(facts), _measured(facts), _looks_at(facts), _limits(facts)]
    return "\n".join(line for part in parts for line in part)


def _head(facts: CardFacts) -> list[str]:
    trained_on, promise = facts.trained_on, facts.promise
    return [
        "# Fraud model",
        "",
        "Scores a card payment with the probability that it is fraud, from the vector as it stood at that moment.",
        "",
        f"- Learned from: {_period(trained_on.from_ms, trained_on.to_ms)}, {trained_on.rows} transactions, {trained_on.fraud} fraud",
        f"- Measured on: {_period(promise.from_ms, promise.to_ms)}, {promise.rows} transactions, {promise.fraud} fraud",
        "  (by a fit that knew no label of that period; cards known to be compromised left out)",
        f"- AUC {_number(promise.auc)}, average precision {_number(promise.ap)}, card precision at 100 {_number(promise.cp_at_100)}",
        f"- Gate: {facts.gate.outcome}: {facts.gate.reason}",
        *[f"- {name} from score {value:.6f}" for name, value in sorted(facts.thresholds.items())],
        f"- Features: {len(NAMES)}, hash {FEATURE_HASH}",
        f"- Fit: {', '.join(f'{name} {value}' for name, value in facts.params.as_dict().items())}",
        f"- Rounds: {facts.stopping}",
        f"- Calibration: {_calibration(facts.calibration)}",
        *[f"- DEGRADED: {fault}" for fault in facts.soundness.faults],
        "",
    ]


def _measured(facts: CardFacts) -> list[str]:
    rows = facts.rows
    return [
        "## Does it earn its place?",
        "",
        *earned(facts.ladder),
        "",
        f"| model | {' | '.join(_COLUMNS.values())} |",
        f"|---|{'---|' * len(_COLUMNS)}",
        *[f"| {name}{' (served)' if name == SERVED else ''} | {_cells(facts.ladder, name)} |" for name in RUNGS],
        "",
        f"All on the same rows. In brackets the middle {CONFIDENCE:.0%} when cards are drawn anew. Precision and recall at "
        f"{rows.alerts_per_day_max} alerts a day. Cost: what fraud passes, a review {rows.costs.review_minor / 100:g} EUR, "
        f"a chargeback {rows.costs.chargeback_minor / 100:g} EUR beside the amount, an honest customer refused "
        f"{rows.costs.refusal_minor / 100:g} EUR; each transaction is decided by the score as if it were a probability.",
        "",
        f"![Precision and recall]({PRECISION_RECALL_FILE})",
        f"![Calibration]({CALIBRATION_FILE})",
        f"![Cost]({COST_FILE})",
        "",
    ]


def _looks_at(facts: CardFacts) -> list[str]:
    return [
        "## What it looks at",
        "",
        f"Mean |SHAP value| in log-odds, over at most {SHAP_ROWS} rows of the validation period:",
        "",
        *[f"- {name}: {value:.3f}" for name, value in facts.importances[:_SHOWN_FEATURES]],
        "",
        f"![Importance]({IMPORTANCE_FILE})",
        "",
    ]


def _limits(facts: CardFacts) -> list[str]:
    constant = facts.soundness.constant
    return [
        "## Limits",
        "",
        "Frauds that were not yet known when it learned are genuine to it. It has seen only the world that made these transactions.",
        "Calibration is that of the judged fit, carried over to the published one, which has learned from later rows too.",
        *([f"Features that never varied and that it therefore ignores: {', '.join(constant)}."] if constant else []),
        "",
    ]


def _cells(ladder: Measured, name: str) -> str:
    cells = []
    for measure in _COLUMNS:
        scale, form = _SCALES.get(measure, (1.0, ".3f"))
        found = ladder.interval(name, measure)
        value, low, high = (format(each * scale, form) for each in (found.value, found.low, found.high))
        cells.append(f"{value} ({low} .. {high})")
    return " | ".join(cells)


def _calibration(calibration: Calibration) -> str:
    if not calibration.applied:
        return calibration.reason
    return (
        f"Platt, log-odds times {calibration.slope:.3f} plus {calibration.intercept:+.3f}, folded into the model file; "
        f"{calibration.reason}"
    )


def _period(from_ms: int, to_ms: int) -> str:
    first, last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (from_ms, to_ms))
    return f"{first:%Y-%m-%d %H:%M} to before {last:%Y-%m-%d %H:%M} UTC"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
