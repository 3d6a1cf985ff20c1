"""card.md of a version: what a person should know before trusting the model, in plain text.

Rule 1. Every number comes from the manifest's own values; nothing is claimed that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from fraud.features import FEATURE_HASH, NAMES
from fraud.model import Gate, Promise, TrainedOn
from trainer.fit import FitParams

_SHOWN_FEATURES = 12


def card_text(
    trained_on: TrainedOn,
    promise: Promise,
    gate: Gate,
    thresholds: Mapping[str, float],
    params: FitParams,
    importances: Sequence[tuple[str, float]],
) -> str:
    """The card's text, Markdown."""
    lines = [
        "# Fraud model",
        "",
        "Scores a card payment with the probability that it is fraud, from the vector as it stood at that moment.",
        "",
        f"- Learned from: {_period(trained_on.from_ms, trained_on.to_ms)}, {trained_on.rows} transactions, {trained_on.fraud} fraud",
        f"- Measured on: {_period(promise.from_ms, promise.to_ms)}, {promise.rows} transactions, {promise.fraud} fraud",
        "  (by a fit that knew no label of that period; cards known to be compromised left out)",
        f"- AUC {_number(promise.auc)}, average precision {_number(promise.ap)}, card precision at 100 {_number(promise.cp_at_100)}",
        f"- Gate: {gate.outcome}: {gate.reason}",
        *[f"- {name} from score {value:.6f}" for name, value in sorted(thresholds.items())],
        f"- Features: {len(NAMES)}, hash {FEATURE_HASH}",
        f"- Fit: {', '.join(f'{name} {value}' for name, value in params.as_dict().items())}",
        "",
        "## What it looks at (share of total gain)",
        "",
        *[f"- {name}: {share:.1%}" for name, share in importances[:_SHOWN_FEATURES]],
        "",
        "## Limits",
        "",
        "Frauds that were not yet known when it learned are genuine to it. It has seen only the world that made these transactions.",
        "",
    ]
    return "\n".join(lines)


def _period(from_ms: int, to_ms: int) -> str:
    first, last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (from_ms, to_ms))
    return f"{first:%Y-%m-%d %H:%M} to before {last:%Y-%m-%d %H:%M} UTC"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
