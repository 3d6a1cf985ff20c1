"""What is bought: the categories of merchants, and what a purchase there costs.

Rule 1. A category is an ISO 18245 code with the amounts, the hours and the weekdays of its purchases.
Rule 2. Amounts are log-normal within a category and card; over categories and cards they are heavy-tailed.

The codes are real; amounts, hours and shares are plausible round numbers, chosen here (docs/world.md says after what).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of merchant.

    amount: median purchase in euros. sigma: standard deviation of its logarithm, within one card.
    hours: name in habits' table HOURS. sunday: purchases on a Sunday against those on a Wednesday; saturday likewise.
    shop_share: of the purchases of people in shops; online_share: of their purchases online (before their lifestyle's taste).
    """

    mcc: str
    name: str
    amount: float
    sigma: float
    hours: str
    saturday: float
    sunday: float
    shop_share: float
    online_share: float


CATEGORIES: Final = (
    Category("5411", "grocery", 24.0, 0.85, "shopping", 1.35, 0.15, 0.295, 0.03),
    Category("5541", "fuel", 52.0, 0.40, "commuting", 1.05, 0.75, 0.08, 0.00),
    Category("5812", "restaurant", 33.0, 0.65, "meals", 1.45, 1.15, 0.10, 0.02),
    Category("5814", "fast food", 9.5, 0.50, "meals", 1.20, 1.00, 0.11, 0.05),
    Category("5912", "pharmacy", 16.0, 0.70, "shopping", 0.85, 0.15, 0.06, 0.03),
    Category("4111", "local transport", 3.4, 0.60, "commuting", 0.70, 0.55, 0.09, 0.06),
    Category("5651", "clothing", 46.0, 0.75, "shopping", 1.60, 0.20, 0.05, 0.12),
    Category("5732", "electronics", 85.0, 1.15, "shopping", 1.30, 0.25, 0.02, 0.08),
    Category("5942", "books", 17.0, 0.60, "shopping", 1.15, 0.25, 0.02, 0.05),
    Category("5311", "department store", 42.0, 0.90, "shopping", 1.50, 0.15, 0.04, 0.02),
    Category("5200", "home supply", 39.0, 0.95, "shopping", 1.70, 0.15, 0.03, 0.04),
    Category("5944", "jewelry", 130.0, 1.00, "shopping", 1.50, 0.10, 0.005, 0.01),
    Category("7832", "cinema", 19.0, 0.45, "evening", 1.70, 1.40, 0.015, 0.02),
    Category("7011", "hotel", 145.0, 0.70, "meals", 1.10, 0.90, 0.015, 0.03),
    Category("6011", "cash machine", 80.0, 0.75, "shopping", 1.05, 0.60, 0.06, 0.00),
    Category("5999", "marketplace", 27.0, 0.95, "evening", 1.00, 1.20, 0.00, 0.23),
    Category("4511", "airline", 190.0, 0.80, "evening", 0.80, 1.00, 0.00, 0.02),
    Category("4722", "travel agency", 310.0, 0.85, "evening", 0.85, 1.15, 0.00, 0.015),
    Category("5816", "digital games", 8.0, 0.95, "night", 1.20, 1.25, 0.00, 0.10),
    Category("4899", "streaming", 11.0, 0.45, "any", 1.00, 1.00, 0.00, 0.02),
    Category("4814", "telephone", 21.0, 0.55, "any", 0.90, 0.80, 0.005, 0.025),
    Category("7995", "betting", 18.0, 1.10, "night", 1.50, 1.30, 0.00, 0.02),
    Category("8398", "charity", 15.0, 0.90, "evening", 0.90, 1.10, 0.005, 0.01),
)
INDEX: Final = {category.mcc: index for index, category in enumerate(CATEGORIES)}
CASH: Final = INDEX["6011"]
SUBSCRIPTIONS: Final = (INDEX["4899"], INDEX["4814"], INDEX["5816"], INDEX["8398"])
"""Categories that are also paid monthly without the card holder doing anything."""
