"""How people live: what they buy, how much, how often, when, and how far they travel.

Rule 1. A lifestyle is a set of means; a card scatters around them (producer/world/population.py).
Rule 2. Shares over all lifestyles sum to 1; tastes multiply a category's share and are made to sum to 1 again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from producer.world.categories import CATEGORIES
from producer.world.draws import Floats


@dataclass(frozen=True, slots=True)
class Lifestyle:
    """A kind of card holder.

    share: of the cards. trips_per_day: times a day that they go and buy, once or more. amount: factor on all amounts.
    later_hours: how much later than the others they live. online_share: of their trips. wallet_share: of them, who pays in
    shops by phone. journeys: probability of a journey in 30 days. tastes: factor by MCC.
    """

    name: str
    share: float
    trips_per_day: float
    amount: float
    later_hours: float
    online_share: float
    wallet_share: float
    journeys: float
    tastes: Mapping[str, float] = field(default_factory=dict)


LIFESTYLES: Final = (
    Lifestyle("student", 0.14, 1.6, 0.60, 1.5, 0.40, 0.70, 0.15, {"5814": 2.0, "5816": 2.5, "4111": 1.8, "5541": 0.3}),
    Lifestyle("family", 0.30, 1.6, 1.15, -0.3, 0.28, 0.40, 0.12, {"5411": 1.5, "5912": 1.4, "5651": 1.3, "7995": 0.3}),
    Lifestyle("commuter", 0.26, 1.7, 1.00, -0.5, 0.30, 0.50, 0.15, {"5541": 1.8, "4111": 1.6, "5814": 1.3}),
    Lifestyle("retired", 0.17, 1.0, 0.85, -1.0, 0.12, 0.10, 0.14, {"5912": 2.5, "6011": 2.5, "5816": 0.1, "8398": 2.0}),
    Lifestyle(
        "traveller", 0.06, 2.2, 1.70, 0.3, 0.38, 0.65, 0.60, {"7011": 4.0, "4511": 5.0, "5812": 2.0, "4722": 2.0}
    ),
    Lifestyle(
        "night owl", 0.07, 1.5, 0.90, 4.5, 0.50, 0.60, 0.10, {"5816": 4.0, "7995": 4.0, "5999": 1.3, "5814": 1.5}
    ),
)


def mix(online: bool) -> Floats:
    """Share of each category in each lifestyle's trips in shops or online, shape [lifestyles, categories]; rows sum to 1."""
    everyone = np.array([c.online_share if online else c.shop_share for c in CATEGORIES])
    tastes = np.array([[lifestyle.tastes.get(c.mcc, 1.0) for c in CATEGORIES] for lifestyle in LIFESTYLES])
    shares: Floats = tastes * everyone
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
