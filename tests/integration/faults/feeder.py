"""Writes the seeded log to Kafka, gradually, through every fault of the broker.

Rule 1. A record is sent again until it is acknowledged. So it may stand in the log twice: the log, not the feeder, is the truth.
Rule 2. Records of one topic are appended in the order given.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka.errors import KafkaError

from adapters.kafka import AsyncWriter, Record, partition_for
from tests.integration.faults.seeded_log import Sent

CHUNK: Final = 100
POLL_SECONDS: Final = 0.05
GIVE_UP_SECONDS: Final = 120.0


def feed(bootstrap: str, partitions: int, sent: Sequence[Sent]) -> None:
    """Write the records as fast as it goes. Raises TimeoutError when the broker is away for too long."""
    asyncio.run(_feed(bootstrap, partitions, sent, lambda: len(sent)))


class BackgroundFeeder:
    """Writes on a thread, as far as it is allowed to, at most `records_per_second`."""

    def __init__(self, bootstrap: str, partitions: int, sent: Sequence[Sent], records_per_second: float) -> None:
        self._error: Exception | None = None
        self._sent = sent
        self._rate = records_per_second
        self._allowed_from, self._allowed_to = 0, 0
        self._allowed_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(bootstrap, partitions), daemon=True)
        self._thread.start()

    def allow(self, share: float) -> None:
        """Let it go on, from where it may be now, to this share of the log."""
        self._allowed_from, self._allowed_at = self._allowed(), time.monotonic()
        self._allowed_to = int(share * len(self._sent))

    def is_done(self) -> bool:
        """Whether everything was sent. Raises what went wrong."""
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def _allowed(self) -> int:
        paced = self._allowed_from + int((time.monotonic() - self._allowed_at) * self._rate)
        return min(paced, self._allowed_to)

    def _run(self, bootstrap: str, partitions: int) -> None:
        try:
            asyncio.run(_feed(bootstrap, partitions, self._sent, self._allowed))
        except Exception as error:
            self._error = error


async def _feed(bootstrap: str, partitions: int, sent: Sequence[Sent], allowed: Callable[[], int]) -> None:
    writer: AsyncWriter | None = None
    for at in range(0, len(sent), CHUNK):
        while allowed() < min(at + CHUNK, len(sent)):
            await asyncio.sleep(POLL_SECONDS)
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                if writer is None:
                    writer = AsyncWriter(bootstrap, "feeder")
                    await writer.start()
                await _append(writer, partitions, sent[at : at + CHUNK])
                break
            except (KafkaError, OSError) as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"record {at}: not acknowledged for {GIVE_UP_SECONDS:.0f} s: {error!r}"
                    ) from error
                if writer is not None:
                    await _closed(writer)
                writer = None
                await asyncio.sleep(0.2)
    if writer is not None:
        await writer.stop()


async def _closed(writer: AsyncWriter) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):  # what was not acknowledged is sent again
        await asyncio.wait_for(writer.stop(), 5)


async def _append(writer: AsyncWriter, partitions: int, sent: Sequence[Sent]) -> None:
    groups: dict[tuple[str, int], list[Record]] = {}
    for one in sent:
        key = (one.key or b"").decode(errors="replace")
        groups.setdefault((one.topic, partition_for(key, partitions)), []).append((one.key, one.value, []))  # type: ignore[arg-type]  # a missing value is one of the bad inputs
    await asyncio.gather(*(writer.write(topic, p, records) for (topic, p), records in groups.items()))
