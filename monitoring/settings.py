"""Settings of the services that watch.

Rule 1. Every field is read once, in __main__, from `FRAUD_` and its name.
Rule 2. What the trainer calls by a name has the same name here: a promise and what is delivered are measured alike.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from adapters.settings import StackSettings


class MonitoringSettings(StackSettings):
    """What `python -m monitoring ...` reads from the environment."""

    label_delay_days: float = Field(
        7, ge=0, description="days after which a transaction without a label counts as genuine (maturity horizon)"
    )
    alerts_per_day_max: int = Field(100, ge=1, description="alert budget: alerts per day that analysts can handle")
    evaluation_days: int = Field(7, ge=1, le=365, description="newest matured days over which models are evaluated")
    evaluate_every_s: float = Field(5.0, gt=0, description="seconds between two evaluations")
    drift_window_hours: int = Field(
        24, ge=1, le=24 * 28, description="length of a window of event time that is compared with the model's reference"
    )
    drift_retrain: bool = Field(True, description="whether raised drift asks the trainer for a new model")
    drift_cool_down_days: float = Field(
        7, gt=0, description="simulated days between two trainings that drift asks for, however long it stays raised"
    )
    probe_every_s: float = Field(5.0, gt=0, description="seconds between two looks at lags, state store and registry")
    parity_every_s: float = Field(300.0, ge=0, description="seconds between two rounds of the parity meter; 0: none")
    parity_sample: int = Field(5_000, ge=1, description="vectors that a round of the parity meter compares")
    scorer_group: str = Field("scorer", description="consumer group of the scorers, to say how far they are")
    kafka_away_seconds_max: float = Field(60.0, gt=0, description="seconds without Kafka before the service ends")

    @property
    def evaluation_file(self) -> Path:
        """Where the evaluator keeps its state."""
        return self.state_dir / "monitoring" / "evaluation.sqlite"

    def drift_file(self, feature_hash: str) -> Path:
        """Where drift is kept; counts of other features are never read."""
        return self.state_dir / "monitoring" / f"drift-{feature_hash}.sqlite"


class ConsoleSettings(MonitoringSettings):
    """What `python -m monitoring console` reads from the environment."""

    console_host: str = Field("127.0.0.1", description="address that the console listens on")
    console_port: int = Field(8400, ge=0, le=65535, description="port of the console; 0: any free one")
    console_names: str = Field(
        "127.0.0.1,localhost,[::1]",
        description="names under which a browser may open the console; another one is refused (DNS rebinding)",
    )
    console_webhook_token: str = Field(
        "",
        description="what Alertmanager's webhook must send as `Authorization: Bearer`; empty: it is taken from this machine only",
    )
    console_alerts_kept: int = Field(
        5_000, ge=100, le=100_000, description="newest alerts that the console keeps, to show and to resume from"
    )
    console_targets: str = Field(
        "",
        description="metrics pages of the services, name=host:port,...; default: those that `fraudstream up` started",
    )
