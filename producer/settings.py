"""Settings of the producer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from adapters.settings import StackSettings


class ProducerSettings(StackSettings):
    """What `python -m producer` reads from the environment."""

    world_processes: int = Field(0, ge=0, le=256, description="processes that generate a world; 0: one per CPU")
    scorer_group: str = Field("scorer", description="consumer group of the scorers, to say whether they lag")
    stall_seconds_max: float = Field(
        60.0, gt=0, description="seconds without progress before a waiting replay gives up"
    )
    demo_world: Literal["generated", "handbook"] = Field("generated", description="the world that `demo` streams")
    demo_cards: int = Field(5000, ge=100, le=1_000_000, description="cards of the generated world that `demo` streams")
    demo_history_days: int = Field(60, ge=0, le=183, description="days that `demo` streams before it goes live")
    demo_speed: float = Field(1440.0, ge=1, le=1440, description="event time per real time of the live part of `demo`")

    @property
    def worlds(self) -> Path:
        """Folder of the generated worlds."""
        return self.state_dir / "worlds"

    @property
    def position_file(self) -> Path:
        """How far each world has been streamed."""
        return self.state_dir / "producer.json"
