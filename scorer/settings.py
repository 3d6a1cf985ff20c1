"""Settings of the scorer and of its synchronous API.

Rule 1. Every field is read once, in __main__, from `FRAUD_` and its name.
Rule 2. What decides about a transaction is one setting for both: the same transaction gets the same decision.
"""

from __future__ import annotations

from pydantic import Field

from adapters.settings import StackSettings


class DecisionSettings(StackSettings):
    """What decides, in the stream and in a synchronous answer."""

    exploration_share: float = Field(
        0.01, ge=0, le=1, description="share of the declined transactions that is let through, to learn from them"
    )


class ScorerSettings(DecisionSettings):
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
    kafka_away_seconds_max: float = Field(60.0, gt=0, description="seconds without Kafka before the scorer ends")
    batch_path: bool = Field(True, description="score every transaction on the batch path, too")
    snapshot_age_days_max: float = Field(
        2.0, gt=0, le=30, description="oldest nightly snapshot that the batch path uses, days of event time"
    )
    snapshot_timeout_s: float = Field(0.25, gt=0, le=10, description="longest that the batch path waits for Redis")


class ApiSettings(DecisionSettings):
    """What `python -m scorer api` reads from the environment."""

    api_host: str = Field(
        "127.0.0.1", min_length=1, description="address that the API listens on; it has no password of its own"
    )
    api_port: int = Field(8090, ge=0, le=65535, description="port of the API; 0: any free one, which the log names")
    api_deadline_ms: float = Field(
        50.0, ge=1, le=60_000, description="milliseconds for an answer; a later one is given by the rules, as degraded"
    )
    api_rate_per_s: float = Field(
        500.0, ge=0, le=1e6, description="requests a second of one client address that are answered; 0: any number"
    )
    api_burst: int = Field(500, ge=1, le=1_000_000, description="requests that a client may send at once after a pause")
    api_entities_cached_max: int = Field(
        2000, ge=1, description="cards, and as many terminals, whose folded histories the API keeps in memory"
    )
    api_state_retry_ms: float = Field(
        500.0, ge=0, le=60_000, description="milliseconds without a question to a state store that did not answer"
    )
