"""Engines: where the rows of a training run are made and its trees are grown. Locally in one process, or in Spark.

Rule 1. Engines give equal rows: vectors bit for bit, and the same labels. What is judged, published and promoted is not theirs.
Rule 2. The local engine is the default and needs nothing of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import polars as pl

from trainer.dataset import Rows
from trainer.fit import FitParams
from trainer.ladder import Fits

if TYPE_CHECKING:
    from adapters.lake import Lake
    from trainer.train import TrainPlan


class EngineMissingError(RuntimeError):
    """The engine cannot run here; the message says what is missing and where it comes from."""


class EngineFailedError(RuntimeError):
    """The engine or one of its tasks failed; the message says what of."""


@dataclass(frozen=True, slots=True)
class Read:
    """The labelled rows of a plan. events: occurred_at_ms of all transactions, labelled or not. vectors: where from, in words.

    switched: vectors that were left out, since they were served under a break-it switch.
    """

    rows: Rows
    events: pl.LazyFrame
    vectors: str
    switched: int = 0


class Engine(Protocol):
    """What a training run asks of an engine."""

    def read(self, lake: Lake, plan: TrainPlan) -> Read:
        """Vectors and labels as of the plan's moment. Raises TrainRefusedError, LakeGapError."""

    def fits(self, rows: Rows, params: FitParams) -> Fits | None:
        """The fits of rows that come from read(), or of a period of them; None: in this process."""
