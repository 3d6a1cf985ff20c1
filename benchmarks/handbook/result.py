"""What a run of the benchmark found, as plain data: the JSON that is printed, and that docs/handbook.md is drawn from.

Rule 1. Whatever is needed to repeat the run or to doubt it stands in it: data, weeks, settings, features, machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from benchmarks.handbook.published import Row


class Measured(msgspec.Struct, frozen=True):
    """One result of ours: a mean over weeks, its standard error over the weeks, and each week."""

    name: str
    train_days: int
    mean: Row
    standard_error: Row | None
    weeks: dict[str, Row]


class AblationResult(msgspec.Struct, frozen=True):
    """One of the four ablations; see benchmarks/handbook/ablations.py."""

    name: str
    lesson: str
    promised: tuple[float, float, float | None] | None
    delivered: Row


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A run. by_delay: our means by label delay in days, as text. bars: whether each bar is reached, when it applies."""

    data: str
    published_rows: bool
    rows: int
    label_delay_days: float
    test_weeks: tuple[str, ...]
    single_split: Measured
    single_split_week: str
    prequential: tuple[Measured, ...]
    choosing: Measured | None = None
    by_delay: dict[str, Row] = {}
    ablations: tuple[AblationResult, ...] = ()
    bars: dict[str, bool] = {}
    features: tuple[str, ...]
    feature_hash: str
    settings: dict[str, Any]
    machine: str
    seconds: float


def read_result(path: Path) -> Result:
    """A result that was written as to_json gives it."""
    return msgspec.json.decode(path.read_bytes(), type=Result)


def to_json(result: Result) -> str:
    """The result as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1).decode()
