"""Settings that every service has: read once, from the environment or the running stack's `stack.env`, then passed down.

Rule 1. A variable is `FRAUD_` and the field's name. What the environment says wins over `stack.env`, which `fraudstream up`
        writes, so that a second terminal finds the running stack without being told.
Rule 2. A variable that is set to nothing counts as not set: `FRAUD_STATE_DIR=` must not spread a stack over this folder.
Rule 3. Only a service's `__main__` reads settings.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

_Settings = TypeVar("_Settings", bound="StackSettings")


class StackSettings(BaseSettings):
    """Where the stack is. A service's own settings class extends this one."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_", frozen=True, extra="ignore", env_ignore_empty=True)

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, host:port[,host:port]")
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey, as redis://host:port/db")
    partitions: int = Field(
        1, ge=1, le=1024, description="partitions of each data topic; fixed when the topics are made"
    )
    feature_workers: int = Field(
        1, ge=1, le=64, description="feature workers that `fraudstream up` starts; at most FRAUD_PARTITIONS"
    )
    state_dir: Path = Field(
        Path(".fraudstream"), description="folder of the local stack: lake, models, logs, servers' data"
    )
    lake_dir: Path | None = Field(None, description="folder of the Parquet lake; default: lake/ in state_dir")
    models_dir: Path | None = Field(None, description="folder of the model registry; default: models/ in state_dir")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics and /healthz; 0: none")
    metrics_host: str = Field("127.0.0.1", description="address that /metrics and /healthz listen on")
    log_format: Literal["console", "json"] = Field("console", description="form of the log lines on stderr")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="least severe level that is logged"
    )

    @property
    def lake(self) -> Path:
        """Root folder of the lake."""
        return self.lake_dir or self.state_dir / "lake"

    @property
    def models(self) -> Path:
        """Root folder of the model registry."""
        return self.models_dir or self.state_dir / "models"

    @property
    def runs_file(self) -> Path:
        """Where the trainer keeps the history of its runs."""
        return self.state_dir / "trainer" / "runs.sqlite"

    @property
    def delivered_file(self) -> Path:
        """Where the evaluator says what each version has delivered."""
        return self.state_dir / "monitoring" / "delivered.json"

    @classmethod
    def read(cls) -> Self:
        """Read the environment and the running stack's `stack.env`.

        Exits with code 2 and a message that names the variable when one has an impossible value.
        """
        env_file = Path(os.environ.get("FRAUD_STATE_DIR") or ".fraudstream") / "stack.env"
        try:
            return cls(_env_file=env_file if env_file.exists() else None)  # type: ignore[call-arg]  # pydantic-settings' own argument
        except ValidationError as error:
            lines = [
                f"FRAUD_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']} (it is {e['input']!r})"
                for e in error.errors()
            ]
            print("impossible setting\n  " + "\n  ".join(lines), file=sys.stderr)
            raise SystemExit(2) from None
