"""How trainings go: the trainer's progress, line by line.

Rule 1. This file is the only one that knows where progress stands and what a line of it has.
Rule 2. Redis away is waited for; the lines that came meanwhile are read afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import redis

PROGRESS_STREAM: Final = "fraudstream:train:progress"  # the trainer writes it; the name is the contract between the two
FINAL: Final = frozenset({"promoted", "rejected", "failed"})
FIELDS: Final = ("request_id", "stage", "percent", "state", "detail")
_AT_FIRST: Final = 60
_AGAIN_S: Final = 2.0
_SOCKET_S: Final = 5.0
_BLOCK_MS: Final = 1_000


class TrainingFeed:
    """Follows the progress at a Redis. hand_over(step): called on this feed's thread, oldest first."""

    def __init__(self, url: str, hand_over: Callable[[dict[str, str]], None]) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=_SOCKET_S, socket_connect_timeout=2, decode_responses=True, protocol=2
        )
        self._hand_over = hand_over
        self._stop = threading.Event()
        self._after = "0-0"
        self._thread = threading.Thread(target=self._run, name="training-feed", daemon=True)
        self.fault: str | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End within a few seconds."""
        self._stop.set()
        self._thread.join(3)

    def _run(self) -> None:
        begun = False
        while not self._stop.is_set():
            try:
                if not begun:
                    newest: Any = self._client.xrevrange(PROGRESS_STREAM, count=_AT_FIRST)
                    self._take(list(reversed(newest)))
                    begun = True
                read: Any = self._client.xread({PROGRESS_STREAM: self._after}, count=100, block=_BLOCK_MS)
                for _, entries in read or ():
                    self._take(entries)
                self.fault = None
            except redis.RedisError as error:
                self.fault = f"Redis does not answer ({type(error).__name__}): progress cannot be shown"
                self._stop.wait(_AGAIN_S)

    def _take(self, entries: list[tuple[str, dict[str, str]]]) -> None:
        for entry_id, fields in entries:
            self._after = entry_id
            at_ms = entry_id.partition("-")[0]  # Redis' own clock, wall time
            self._hand_over({**{name: fields.get(name, "") for name in FIELDS}, "at_ms": at_ms})
