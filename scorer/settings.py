"""Settings of the scorer.

Rule 1. Every field is read once, in __main__, from `FRAUD_` and its name.
"""

from __future__ import annotations

from pydantic import Field

from adapters.settings import StackSettings


class ScorerSettings(StackSettings):
    """What `python -m scorer` reads from the environment."""

    scorer_group: str = Field(
        "scorer", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="consumer group of the scorers that share the work"
    )
    scorer_id: str = Field(
        "0", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="name of this scorer, unlike any other scorer's"
    )
    poll_records_max: int = Field(64, ge=1, le=10_000, description="most records of `features` taken at once")
    fetch_wait_ms: int = Field(200, ge=10, le=5_000, description="longest that the broker holds an empty fetch")
    dead_letter_share_max: float = Field(
        0.5, gt=0, le=1, description="largest share of dead letters before the scorer stops"
    )
    dead_letter_records_min: int = Field(1000, ge=1, description="records that must be seen before the share is judged")
    exploration_share: float = Field(
        0.01, ge=0, le=1, description="share of the declined transactions that is let through, to learn from them"
    )
    kafka_away_seconds_max: float = Field(60.0, gt=0, description="seconds without Kafka before the scorer ends")
    batch_path: bool = Field(True, description="score every transaction on the batch path, too")
    snapshot_age_days_max: float = Field(
        2.0, gt=0, le=30, description="oldest nightly snapshot that the batch path uses, days of event time"
    )
    snapshot_timeout_s: float = Field(0.25, gt=0, le=10, description="longest that the batch path waits for Redis")
