"""The stream that says how trainings go, line by line, for whoever asked and for the console.

Rule 1. One Redis stream, PROGRESS_STREAM; a line has request_id, state, stage, percent (0 .. 100, as text) and detail.
        The last line of a request has a state of `adapters.run_history.ENDED`.
Rule 2. Redis away loses lines, never a run: the history (adapters/run_history.py) is the truth, this is the news.
"""

from __future__ import annotations

from typing import Final

import redis
import structlog

PROGRESS_STREAM: Final = "fraudstream:train:progress"
_STREAM_LENGTH: Final = 10_000


class Progress:
    """Writes the stream. The client decodes responses."""

    def __init__(self, client: redis.Redis, log: structlog.stdlib.BoundLogger) -> None:
        self._client = client
        self._log = log
        self.fault: str | None = None

    def say(self, request_id: str, state: str, stage: str, percent: int, detail: str) -> None:
        """Add one line."""
        self._log.info("training", request_id=request_id, state=state, stage=stage, percent=percent, detail=detail)
        fields = {"request_id": request_id, "stage": stage, "percent": str(percent), "state": state, "detail": detail}
        try:
            self._client.xadd(PROGRESS_STREAM, fields, maxlen=_STREAM_LENGTH, approximate=True)  # type: ignore[arg-type]  # str values are valid fields
            self.fault = None
        except redis.RedisError as error:
            self.fault = f"progress cannot be written to Redis: {error}"
            self._log.warning("progress not written", error=str(error))
