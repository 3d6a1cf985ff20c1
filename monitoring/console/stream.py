"""The event stream: one bounded ring of frames for all browsers; a browser is a place in it.

Rule 1. A frame is encoded once, however many browsers there are.
Rule 2. A browser that is slower than the ring loses its oldest frames, and is told how many alerts they held.
Rule 3. A frame is for who follows when it is put: with no browser (`readers`) there is nobody to make one for.
Rule 4. Everything here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

FRAMES_KEPT: Final = 512
BYTES_KEPT: Final = 8 * 1024 * 1024
QUIET_S: Final = 15.0
RETRY_MS: Final = 1_000
_encode = msgspec.json.Encoder().encode


def frame(event: str, values: Mapping[str, Any], event_id: str | None = None, retry_ms: int | None = None) -> bytes:
    """One server-sent event whose data is one line of JSON."""
    return format_sse_event(data_str=_encode(values).decode(), event=event, id=event_id, retry=retry_ms)


@dataclass(frozen=True, slots=True)
class _Kept:
    data: bytes
    alerts_before: int


class Stream:
    """The ring, of at most `kept` frames and `kept_bytes` bytes. `readers`: how many browsers follow now.

    opened(): called when a browser begins to follow.
    """

    def __init__(
        self, kept: int = FRAMES_KEPT, kept_bytes: int = BYTES_KEPT, opened: Callable[[], None] = lambda: None
    ) -> None:
        self._kept = kept
        self._kept_bytes = kept_bytes
        self._frames: deque[_Kept] = deque()
        self._bytes = 0
        self._next = 0
        self._alerts = 0
        self._changed = asyncio.Event()
        self._closed = False
        self.readers = 0
        self.opened = opened

    def put(self, data: bytes, alerts: int = 0) -> None:
        """Add a frame that holds so many alerts, and wake who waits."""
        self._frames.append(_Kept(data, self._alerts))
        self._alerts += alerts
        self._next += 1
        self._bytes += len(data)
        while len(self._frames) > 1 and (len(self._frames) > self._kept or self._bytes > self._kept_bytes):
            self._bytes -= len(self._frames.popleft().data)
        self._wake()

    def close(self) -> None:
        """End every browser's stream: the process stops."""
        self._closed = True
        self._wake()

    async def follow(self, greet: Callable[[], bytes]) -> AsyncIterator[bytes]:
        """What `greet` gives, then every frame that is put from that moment on: one step, so that nothing lies between."""
        at, seen = self._next, self._alerts
        self.readers += 1
        self.opened()
        try:
            yield greet()
            while not self._closed:
                lost, ready, at, seen = self._from(at, seen)
                if lost:
                    yield frame("dropped", {"alerts": lost})
                for data in ready:
                    yield data
                if not ready:
                    try:
                        await asyncio.wait_for(self._changed.wait(), QUIET_S)
                    except TimeoutError:
                        yield KEEPALIVE_COMMENT
        finally:
            self.readers -= 1

    def _from(self, at: int, seen: int) -> tuple[int, list[bytes], int, int]:
        """Alerts lost, frames to send, and the place after them."""
        oldest = self._next - len(self._frames)
        lost = 0
        if at < oldest:
            lost, at = self._frames[0].alerts_before - seen, oldest
        ready = [kept.data for kept in islice(self._frames, at - oldest, None)]
        return lost, ready, self._next, self._alerts

    def _wake(self) -> None:
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()
