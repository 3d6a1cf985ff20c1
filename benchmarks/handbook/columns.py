"""Which of the fold's features the benchmark's model looks at.

Rule 1. They were chosen on the test weeks of July (published.CHOOSING_WEEKS), never on the four published ones.
Rule 2. Few features: 27 of the fold, among them these nine, gave AP 0.751 on July where these nine gave 0.750. What this world
        cannot fill (places, devices, merchants, minutes) is a constant here and is left out.
"""

from __future__ import annotations

from typing import Final

from fraud.features import NAMES, TERMINAL_RISK, Entity

CHOSEN: Final = (
    "request_amount_minor",
    "card_amount_over_recent_median",
    "card_amount_over_mean_30d",
    "card_max_amount_minor_7d",
    "card_mean_amount_minor_30d",
    "terminal_fraud_streak",
    "terminal_days_since_first_fraud",
    "terminal_days_since_last_fraud",
    "terminal_fraud_share_28d",
)

_RISK: Final = tuple(aggregate.name for aggregate in TERMINAL_RISK.aggregates)


def is_terminal_risk(name: str) -> bool:
    """Whether a feature tells what is known about frauds at the terminal."""
    stem = name.removeprefix(f"{Entity.TERMINAL}_")
    return stem != name and any(stem == risk or stem.startswith(f"{risk}_") for risk in _RISK)


def check_chosen() -> None:
    """Raise ValueError when the fold has no such feature: then choose again, on the weeks of July."""
    if unknown := [name for name in CHOSEN if name not in NAMES]:
        raise ValueError(f"benchmarks/handbook/columns.py chooses {unknown[0]}, which fraud/features.py does not have")
