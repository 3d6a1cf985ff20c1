"""Kafka away: how long that is waited for, and what is raised then.

Rule 1. A client that cannot connect at first is tried again until a deadline.
Rule 2. Once connected, aiokafka retries by itself, and some of it for ever: whoever waits for it sets a deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiokafka.errors import KafkaConnectionError

CONNECT_AGAIN_SECONDS: Final = 0.5


class KafkaAwayError(RuntimeError):
    """Kafka did not answer for longer than FRAUD_KAFKA_AWAY_SECONDS_MAX."""


async def connected(start: Callable[[], Awaitable[None]], seconds_max: float) -> None:
    """Await `start` of an aiokafka client, again and again while no broker answers.

    Raises aiokafka's KafkaConnectionError when none has answered within seconds_max.
    """
    deadline_s = time.monotonic() + seconds_max
    while True:
        try:
            return await start()
        except KafkaConnectionError:
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(CONNECT_AGAIN_SECONDS)


@asynccontextmanager
async def answered_within(seconds_max: float) -> AsyncIterator[None]:
    """A block that Kafka lets end within seconds_max. Raises KafkaAwayError where it does not."""
    try:
        async with asyncio.timeout(seconds_max):
            yield
    except TimeoutError as error:
        raise KafkaAwayError(f"Kafka has not answered for {seconds_max:.0f} s") from error
