"""The contrast: recall of each scenario at one alert budget for both paths, and the difference with its interval.

Rule 1. Both paths rank the same rows and may look at the same number of them; rows of equal score share the end of the budget.
Rule 2. A draw of the bootstrap weighs cards, the same for both paths: the difference is paired (see trainer/measures.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.model import Floats
from trainer.measures import Interval

Array = npt.NDArray[np.float64]
STREAMING: Final = "streaming"
BATCH: Final = "batch"
PATHS: Final = (STREAMING, BATCH)
DRAWS: Final = 400
CONFIDENCE: Final = 0.95
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall at the budget of one kind of fraud by path, and streaming minus batch."""

    name: str
    frauds: int
    cards: int
    by_path: Mapping[str, Interval]
    difference: Interval


def recalls(
    scores: Mapping[str, Floats],
    card: npt.NDArray[np.int64],
    scenario: npt.NDArray[np.int64],
    names: Sequence[str],
    budget: float,
    draws: int = DRAWS,
) -> list[Recall]:
    """Recall of every scenario, of `all fraud` first.

    card: 0 .. cards - 1 of each row. scenario: -1 for a genuine row, else its index into `names`. budget: rows in all.
    """
    cards = int(card.max()) + 1
    random = np.random.default_rng(_SEED)
    weights = [np.ones(cards), *random.poisson(1.0, (draws, cards)).astype(np.float64)]
    ranked = {path: np.unique(-score, return_inverse=True)[1] for path, score in scores.items()}
    found = np.empty((len(weights), len(PATHS), len(names) + 1))
    fraud = np.flatnonzero(scenario >= 0)
    for draw, card_weight in enumerate(weights):
        weight = card_weight[card]
        for column, path in enumerate(PATHS):
            found[draw, column] = _recall(ranked[path], weight, budget, fraud, scenario[fraud], len(names))
    return [_described(i, name, found[:, :, i], card, scenario) for i, name in enumerate(["all fraud", *names])]


def _recall(
    level: npt.NDArray[np.intp],
    weight: Array,
    budget: float,
    fraud: npt.NDArray[np.intp],
    scenario: npt.NDArray[np.int64],
    kinds: int,
) -> Array:
    """All fraud first, then each kind, [1 + kinds]; NaN where a draw has none of it."""
    of_level = np.bincount(level, weight)
    before = np.cumsum(of_level) - of_level
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(np.clip((budget - before) / of_level, 0.0, 1.0))
        caught = weight[fraud] * share[level[fraud]]
        by_kind = np.bincount(scenario, caught, kinds) / np.bincount(scenario, weight[fraud], kinds)
        return np.asarray(np.r_[caught.sum() / weight[fraud].sum(), by_kind], np.float64)


def _described(
    number: int, name: str, found: Array, card: npt.NDArray[np.int64], scenario: npt.NDArray[np.int64]
) -> Recall:
    chosen = scenario >= 0 if number == 0 else scenario == number - 1
    return Recall(
        name,
        int(chosen.sum()),
        len(np.unique(card[chosen])),
        {path: _band(found[:, column]) for column, path in enumerate(PATHS)},
        _band(found[:, 0] - found[:, 1]),
    )


def _band(values: Array) -> Interval:
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if len(drawn) else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))
