"""The decision: approve, review or decline, by expected cost, within the alert budget.

Rule 1. Of the three the cheapest in expectation is taken (Bayes minimum risk); a tie goes to the milder one.
Rule 2. No alert below the review threshold, whatever the costs say: the threshold is the alert budget.
Rule 3. A small share of what would be declined is let through, and marked: a declined transaction never shows whether it
        was fraud, so without this share nobody could learn from, or measure, what is declined.
Rule 4. Costs are integers in minor units, amounts too; only their product with a probability is a float.

With p the probability of fraud and a the amount, the expected cost of

    approve   p * (a + chargeback)      a fraud that passes costs its amount and the chargeback's fee
    review    review                    an analyst's time, whatever the verdict; the verdict is taken as right
    decline   (1 - p) * refusal         an honest customer who is refused, and may not come back

Source of the rule: Elkan, "The foundations of cost-sensitive learning", IJCAI 2001; costs that depend on the amount:
Bahnsen, Stojanovic, Aouada, Ottersten, "Cost sensitive credit card fraud detection using Bayes minimum risk", ICMLA 2013.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

DECISIONS: Final = ("approve", "review", "decline")
APPROVE, REVIEW, DECLINE = range(3)


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs in minor units (cents): of one review, of one chargeback beside the amount, of refusing one honest customer.

    The defaults are plausible round numbers, not measurements. With them a transaction of any amount is worth a review
    from p = 0.2 (a smaller p for larger amounts), and declining beats reviewing from p = 0.85.
    """

    review_minor: int = 300
    chargeback_minor: int = 1500
    refusal_minor: int = 2000


COSTS: Final = Costs()


def expected_costs(
    score: npt.NDArray[np.float32], amount_minor: npt.NDArray[np.int64], costs: Costs = COSTS
) -> npt.NDArray[np.float64]:
    """Expected cost in minor units, float64 [rows, decisions in the order of DECISIONS]."""
    p = score.astype(np.float64)
    expected = np.empty((len(p), len(DECISIONS)))
    expected[:, APPROVE] = p * (amount_minor + costs.chargeback_minor)
    expected[:, REVIEW] = costs.review_minor
    expected[:, DECLINE] = (1.0 - p) * costs.refusal_minor
    return expected


def decide(
    score: npt.NDArray[np.float32],
    amount_minor: npt.NDArray[np.int64],
    review_threshold: float,
    costs: Costs = COSTS,
) -> npt.NDArray[np.uint8]:
    """Index into DECISIONS, uint8 [rows].

    score: probability of fraud in [0, 1]. review_threshold: the lowest score that may alert, compared as float32,
    the type in which scores are made and stored.

    >>> decide(np.array([0.1, 0.4, 0.95], np.float32), np.array([900, 900, 900]), 0.3).tolist()
    [0, 1, 2]
    """
    cheapest: npt.NDArray[np.uint8] = expected_costs(score, amount_minor, costs).argmin(axis=1).astype(np.uint8)
    cheapest[~(score >= np.float32(review_threshold))] = APPROVE
    return cheapest


def explored(decision: npt.NDArray[np.uint8], transaction_ids: Sequence[str], share: float) -> npt.NDArray[np.bool_]:
    """Which of the declined are let through, bool [rows]; share: in [0, 1].

    Chosen by a hash of the transaction's id, so that a second judgement after a crash chooses the same.
    """
    chosen = np.zeros(len(decision), np.bool_)
    for row in np.flatnonzero(decision == DECLINE).tolist():
        digest = hashlib.blake2b(transaction_ids[row].encode(), digest_size=8, person=b"exploration").digest()
        chosen[row] = int.from_bytes(digest, "little") < share * 2**64
    return chosen
