"""What was measured, as data: docs/two-paths.json holds it, docs/two-paths.md is made from it.

Rule 1. The page is a pure function of this: a test keeps the two equal.
"""

from __future__ import annotations

import msgspec

from benchmarks.paths.contrast import Recall


class Settings(msgspec.Struct, frozen=True):
    """Of a run. alerts_per_day: how many transactions a day both paths may look at, on average over the test."""

    seed: int = 0
    cards: int = 5000
    days: int = 154
    train_days: int = 56
    test_days: int = 56
    alerts_per_day: int = 100


class PathResult(msgspec.Struct, frozen=True):
    """Of one path over the test rows, against the truth."""

    auc: float
    ap: float
    cp_at_100: float


class CpuCost(msgspec.Struct, frozen=True):
    """CPU, microseconds a transaction; night_s: seconds of one nightly job."""

    fold_us: float
    streaming_model_us: float
    nightly_job_us: float
    join_us: float
    batch_model_us: float
    night_s: float


class Result(msgspec.Struct, frozen=True):
    """One run. snapshot_age_hours: mean and largest. features: how many the streaming and the batch path have."""

    settings: Settings
    transactions: int
    tested: int
    history_days: int
    paths: dict[str, PathResult]
    recalls: tuple[Recall, ...]
    snapshot_age_hours: tuple[float, float]
    cpu: CpuCost
    feature_hash: str
    batch_hash: str
    features: tuple[int, int]
    machine: str = ""
    seconds: float = 0.0


def to_json(result: Result) -> str:
    """As it stands in docs/two-paths.json."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1).decode()


def from_json(raw: bytes) -> Result:
    """Back again. Raises msgspec.DecodeError."""
    return msgspec.json.decode(raw, type=Result)
