"""The rules of the batch path: what judges a request when its snapshot or its model is not there.

Rule 1. They are rules as in fraud/rules.py, over the features of this path: without a snapshot all but the request's own fields are
        NaN, and only what those fulfil can fire.
"""

from __future__ import annotations

from typing import Final

from fraud.batch_features import BATCH_NAMES
from fraud.rules import Condition, Rule, RuleBook

VERSION: Final = "batch-rules"  # where a version of this path stands when its rules judge
REVIEW_THRESHOLD: Final = 0.5

RULES: Final = (
    Rule("BATCH_LARGE_AMOUNT", "at least 1,000 EUR", 0.5, (Condition("request_amount_minor", 100_000),)),
    Rule(
        "BATCH_AMOUNT_FAR_ABOVE_MEAN",
        "at least five times the card's usual amount as of midnight, and far outside its spread",
        0.6,
        (
            Condition("nightly_card_amount_over_mean_30d", 5),
            Condition("nightly_card_amount_deviations_30d", 5),
            Condition("nightly_card_count_30d", 10),
        ),
    ),
    Rule(
        "BATCH_AMOUNT_ABOVE_OWN_MAX",
        "at least twice the largest amount that the card paid in the 30 days before midnight",
        0.5,
        (
            Condition("request_amount_minor", 2, times="nightly_card_max_amount_minor_30d"),
            Condition("nightly_card_count_30d", 20),
        ),
    ),
    Rule(
        "BATCH_TERMINAL_FRAUD_7D",
        "a third of the terminal's matured week was known fraud at midnight",
        0.7,
        (Condition("nightly_terminal_fraud_share_7d", 1 / 3), Condition("nightly_terminal_fraud_count_7d", 2)),
    ),
)
BOOK: Final = RuleBook(VERSION, RULES, BATCH_NAMES)
