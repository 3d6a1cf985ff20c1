"""`python -m benchmarks.harness.load`: the process that sends. It is told what to do by lines of JSON on its standard input.

Rule 1. Messages are made before the hold begins; during it nothing is done but sending, and nothing is collected.
Rule 2. The beginning is a moment of time.time_ns() that was agreed before; the moments of benchmarks/harness/pacing.py follow.

    -> {"prepare": Order}      <- {"ready": count}
    -> {"begin_ns": ...}       <- {"paced": {"sent": ..., "behind_s_max": ...}}
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections import defaultdict
from typing import Any

import msgspec
import polars as pl
from aiokafka import AIOKafkaProducer

from adapters.kafka import WRITE_BATCH_BYTES
from benchmarks.harness.pacing import Paced, Schedule, send_paced
from benchmarks.harness.rows import RowCursor, apart, messages, named


class Order(msgspec.Struct, frozen=True):
    """A hold to prepare. cursor: whose position in the world; partitions: of the topic; cards: None for the load's own world,
    else rows apart from it, of so many cards."""

    hold: str
    cursor: str
    topic: str
    partitions: int
    rate: float
    count: int
    linger_s: float
    cards: int | None = None


class Load:
    """The sender and its positions in the world."""

    def __init__(self, producer: AIOKafkaProducer, cards: int) -> None:
        self._producer = producer
        self._cursors: defaultdict[str, RowCursor] = defaultdict(lambda: RowCursor(cards))

    async def serve(self, lines: asyncio.StreamReader) -> None:
        """Do what the lines say until they end."""
        while line := await lines.readline():
            order = msgspec.json.decode(line, type=Order)
            made = messages(self._rows(order), order.partitions)
            _say({"ready": len(made)})
            begin_ns = int(msgspec.json.decode(await lines.readline())["begin_ns"])
            gc.collect()
            gc.freeze()
            gc.disable()
            paced = await self._send(order, made, begin_ns)
            gc.enable()
            gc.unfreeze()
            _say({"sent": paced.sent, "behind_s_max": paced.behind_s_max})

    def _rows(self, order: Order) -> pl.DataFrame:
        if order.cards is not None:
            return apart(order.cards, order.count, order.hold)
        return named(self._cursors[order.cursor].take(order.count), order.hold)

    async def _send(self, order: Order, made: list[tuple[int, bytes, bytes]], begin_ns: int) -> Paced:
        writes: list[asyncio.Future[Any]] = []

        async def send(first: int, end: int) -> None:
            by_partition: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
            for partition, key, value in made[first:end]:
                by_partition[partition].append((key, value))
            for partition, records in by_partition.items():
                await self._write(order.topic, partition, records, writes)

        def clock() -> float:
            return (time.time_ns() - begin_ns) / 1e9

        paced = await send_paced(Schedule(order.rate, order.count, order.linger_s), send, clock, asyncio.sleep)
        await asyncio.gather(*writes)
        return paced

    async def _write(
        self, topic: str, partition: int, records: list[tuple[bytes, bytes]], writes: list[asyncio.Future[Any]]
    ) -> None:
        batch = self._producer.create_batch()
        for key, value in records:
            if batch.append(key=key, value=value, timestamp=None) is None:
                writes.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        writes.append(await self._producer.send_batch(batch, topic, partition=partition))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


async def _main(bootstrap: str, cards: int) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id="load",
        acks="all",
        enable_idempotence=True,
        max_batch_size=WRITE_BATCH_BYTES,
        max_request_size=4 * WRITE_BATCH_BYTES,
    )
    await producer.start()
    try:
        await Load(producer, cards).serve(lines)
    finally:
        await producer.stop()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
