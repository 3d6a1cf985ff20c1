"""Which of the fold's features the benchmark's model looks at.

Rule 1. They were chosen on the test weeks of July (published.CHOOSING_WEEKS), never on the four published ones. Their kinds come
        with the specification of this yardstick; windows and limits that keep the fold bounded were compared on July: the typical
        amount over 30 days gave AP 0.767, over all of the past 0.769, over the newest 64, 32 and 16 amounts 0.764, 0.761, 0.749.
Rule 2. Few features: these five gave AP 0.767 on July, where nine others of the fold had given 0.750, and 27 others 0.751.
Rule 3. Their limits (2.5 and 3 times the typical amount, 220 EUR, 7 days) suit this world, whose frauds multiply amounts by 5 and
        begin above 220; in the main world they are features among others.
"""

from __future__ import annotations

from typing import Final

from fraud.features import NAMES, TERMINAL_RISK, Entity

CHOSEN: Final = (
    "request_amount_minor",
    "card_amount_over_typical",
    "card_max_amount_over_typical_7d",
    "terminal_unexplained_fraud_streak",
    "terminal_days_since_last_genuine",
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
