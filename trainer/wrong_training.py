"""The wrong ways of training, under a switch of "Break it": labels known at once, and a split drawn at random.

Rule 1. What is wrong is what is learned and promised; the version says so in its gate (fraud.model.Gate.switches).
Rule 2. Such a version never becomes champion by itself: it may score in shadow, where what it delivers stands beside its promise.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
import polars as pl

from fraud.model import Gate
from fraud.switches import LABELS_AT_ONCE, RANDOM_SPLIT, in_words
from trainer.dataset import Maturity, Rows

_SEED: Final = 11


def maturity_under(switches: Collection[str], maturity: Maturity) -> Maturity:
    """No delay between a transaction and its label, when labels are taken as known at once."""
    return replace(maturity, horizon_ms=0) if LABELS_AT_ONCE.name in switches else maturity


def labels_under(switches: Collection[str], labels: pl.LazyFrame) -> pl.LazyFrame:
    """Labels as they became known, or each as known when its transaction happened."""
    if LABELS_AT_ONCE.name not in switches:
        return labels
    return labels.with_columns(known_at_ms=pl.col("occurred_at_ms"))


def periods_under(switches: Collection[str], learned: Rows, validation: Rows, everything: Rows) -> tuple[Rows, Rows]:
    """What is learned from and what is judged on: two periods, or as many rows of both drawn from everything at random."""
    if RANDOM_SPLIT.name not in switches:
        return learned, validation
    share = len(validation) / max(1, len(learned) + len(validation))
    drawn = pl.Series(np.random.default_rng(_SEED).random(len(everything)) < share)
    return Rows(everything.frame.filter(~drawn)), Rows(everything.frame.filter(drawn))


def gate_under(switches: tuple[str, ...], gate: Gate) -> Gate:
    """What the gate says of a version that was made under switches: never promoted, scored in shadow, and marked."""
    if not switches:
        return gate
    reason = (
        f"made under the break-it switch {in_words(switches)}: its promise is not to be believed, so it decides nothing "
        f"by itself (otherwise: {gate.outcome}, {gate.reason})"
    )
    return msgspec.structs.replace(gate, outcome="rejected", reason=reason, shadow=True, switches=switches)
