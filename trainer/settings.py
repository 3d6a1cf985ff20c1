"""Settings of the trainer's commands.

Rule 1. Everything that changes what a model learns from stands here or on the command line, and ends up in the manifest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from adapters.settings import StackSettings


class TrainerSettings(StackSettings):
    """Settings of `python -m trainer ...`."""

    archive_rows_max: int = Field(200_000, ge=1, description="rows at which the archiver writes a file")
    archive_age_max_s: float = Field(5.0, gt=0, description="seconds after which the archiver writes what it has")
    archive_small_files_max: int = Field(64, ge=2, description="small files of a partition before they are merged")
    lake_keep_days: float | None = Field(
        None,
        gt=0,
        description="days of event time that the lake keeps; unset: all. Less than training may need is refused",
    )
    lake_size_max_gib: float | None = Field(
        None,
        gt=0,
        description="GiB above which the lake's oldest rows go, down to what training may need; unset: no limit",
    )
    train_days: int = Field(56, ge=1, description="days of matured transactions that a model learns from")
    validation_days: int = Field(7, ge=1, description="newest matured days, on which a model's promise is measured")
    label_delay_days: float = Field(
        7, ge=0, description="days after which a transaction without a label counts as genuine (maturity horizon)"
    )
    require_labels: bool = Field(
        False, description="leave out transactions without a label instead of taking them as genuine"
    )
    train_replay: bool = Field(
        False, description="compute vectors of other features again from the lake's logs, to learn from them too"
    )
    train_engine: Literal["local", "spark"] = Field(
        "local", description="where vectors are computed and trees are grown; spark: docs/scale-out.md"
    )
    spark_master: str = Field(
        "local[2]",
        pattern=r"^(local(\[(\d+|\*)\])?|spark://\S+|k8s://\S+|yarn)$",
        description="where Spark runs: local[TASKS], spark://HOST:PORT, k8s://..., yarn",
    )
    spark_memory_mib: int = Field(
        2048, ge=512, description="MiB of heap of Spark's driver; with a local master that is all of Spark's JVM"
    )
    train_rows_min: int = Field(1_000, ge=2, description="fewer training rows than this are refused")
    train_fraud_min: int = Field(10, ge=1, description="fewer frauds than this in training or validation are refused")
    alerts_per_day_max: int = Field(100, ge=1, description="alert budget: alerts per day that analysts can handle")
    train_every_days: int = Field(
        1, ge=0, le=365, description="simulated days from one scheduled training to the next, at midnight UTC; 0: none"
    )
    train_share_max: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of real time that scheduled trainings may take: nights that are shorter are left out",
    )
    train_settle_s: float = Field(
        20,
        ge=0,
        description="no scheduled training and no nightly snapshot while the stream passes a midnight in less real time than "
        "that: it catches up",
    )
    train_archive_wait_s: float = Field(
        60, ge=0, description="longest that a training waits until the lake has what the log had when it was asked"
    )
    train_niceness: int = Field(10, ge=0, le=19, description="niceness of a training process: the live path goes first")
    trainer_token: str = Field(
        "", description="token that `POST /retrain` asks for (Authorization: Bearer ...); empty: this machine only"
    )

    @property
    def snapshots(self) -> Path:
        """Folder of the batch path's nightly snapshots."""
        return self.state_dir / "snapshots"
