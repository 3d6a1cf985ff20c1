"""Reading what the feature workers have stored of a card and a terminal, or saying why that is not possible now.

Rule 1. It only reads, in one transaction of the store: histories and watermarks are of one moment.
Rule 2. An answer is awaited until the deadline and not longer. A store that did not answer is not asked again for a
        while, so that requests do not queue up behind it; then one request tries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis_async
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from adapters.state_store import Stage, StateKeys

CONNECTIONS_MAX = 64


class StateAwayError(RuntimeError):
    """The state store did not answer in time, or is not asked just now."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One entity: a card of stage `card`, a terminal of stage `terminal`, and its partition."""

    stage: Stage
    partition: int
    entity_id: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of an entity. log: its append log, b"" without history. next: the stage's watermark, the next offset
    that is not yet in it, None before the first batch. event_time_ms: the stage's newest event time in this partition.
    """

    log: bytes
    next: int | None
    event_time_ms: int


class StoredState:
    """The asynchronous, reading client. retry_s: how long a store that did not answer is left alone."""

    def __init__(
        self, url: str, feature_hash: str, retry_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._feature_hash = feature_hash
        self._retry_s = retry_s
        self._clock = clock
        self._ask_at = 0.0
        self._redis = redis_async.Redis.from_url(url, retry=Retry(NoBackoff(), 0), max_connections=CONNECTIONS_MAX)
        self.away_because: str | None = None

    async def fetch(self, wanted: Sequence[Wanted], seconds_max: float) -> list[Stored]:
        """What is stored of each entity, in the order asked. Raises StateAwayError with the reason."""
        now = self._clock()
        if self.away_because is not None:
            if now < self._ask_at:
                raise StateAwayError(self.away_because)
            self._ask_at = now + self._retry_s  # this request tries; those beside it do not
        try:
            async with asyncio.timeout(max(seconds_max, 0.001)):
                found = await self._read(wanted)
        except TimeoutError:
            raise self._away(f"the state store did not answer within {seconds_max * 1000:.0f} ms") from None
        except (RedisError, OSError) as error:
            raise self._away(f"the state store is away: {error}") from error
        self.away_because = None
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _read(self, wanted: Sequence[Wanted]) -> list[Stored]:
        async with self._redis.pipeline(transaction=True) as together:
            for one in wanted:
                keys = StateKeys(one.stage, one.partition, self._feature_hash)
                together.hmget(keys.state, "next", "event_time_ms")
                together.get(keys.entity(one.entity_id))
            told: list[Any] = await together.execute()
        return [
            Stored(log or b"", None if at is None else int(at), int(newest or 0))
            for (at, newest), log in zip(told[::2], told[1::2], strict=True)
        ]

    def _away(self, reason: str) -> StateAwayError:
        self.away_because = reason
        self._ask_at = self._clock() + self._retry_s
        return StateAwayError(reason)
