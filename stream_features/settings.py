"""Settings of the feature worker."""

from __future__ import annotations

from pydantic import Field

from adapters.settings import StackSettings


class FeatureSettings(StackSettings):
    """What `python -m stream_features` reads from the environment."""

    worker_id: str = Field(
        "0", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="name of this worker, unlike any other worker's"
    )
    scorer_group: str = Field(
        "scorer", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="consumer group of the scorers that share the work"
    )
    batch_records_max: int = Field(2000, ge=1, le=10_000, description="most records taken from a partition at once")
    entities_cached_max: int = Field(200_000, ge=1, description="entities of a stage and partition kept in memory")
    dead_letter_share_max: float = Field(
        0.5, gt=0, le=1, description="largest share of dead letters before the worker stops"
    )
    dead_letter_records_min: int = Field(1000, ge=1, description="records that must be seen before the share is judged")
    state_away_seconds_max: float = Field(
        60.0, gt=0, description="seconds without the state store before the worker ends"
    )
