"""The state store: window state of every entity, and how far each stage has come, in Redis or Valkey.

Rule 1. A batch takes effect in one call of one Redis function, together with its watermark: all of it or nothing.
Rule 2. The watermark is compared before it is set: a batch that is applied again, by this worker or by one that was
        thought dead, changes nothing. It is compared when entities are read, too: they are read as of one watermark.
Rule 3. Everything of one partition carries the hash tag {partition} and the feature hash: a cluster can hold it, and
        state of another definition is never read.
Rule 4. redis-py's own retries are off: a silent retry of a write is the doubling that rule 2 exists for.
Rule 5. Commands are packed in C (hiredis): the asynchronous client would pack in Python, a seventh of a busy worker's CPU.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, Literal, TypeVar

import redis
import redis.asyncio as redis_async
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import BusyLoadingError, ConnectionError, ResponseError, TimeoutError  # noqa: A004 (redis's own names)
from redis.retry import Retry

Stage = Literal["card", "labels", "terminal"]
Change = tuple[str, Literal["append", "set"], bytes]
_T = TypeVar("_T")

AWAY_SECONDS_MAX: Final = 60.0
_PAUSE_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
_AWAY = (ConnectionError, TimeoutError, BusyLoadingError, OSError)
MARK_PREFIX: Final = "mark:"


class StateStoreAwayError(RuntimeError):
    """The state store has not answered for AWAY_SECONDS_MAX: end the process, the supervisor starts it again."""


class StateMovedError(RuntimeError):
    """The stored watermark is not where this worker left it: the store lost data, or another worker took over.

    The worker's memory is no longer the state; it must end, start again and resume from the stored watermark.
    """


@dataclass(frozen=True, slots=True)
class StateKeys:
    """Names of a stage's keys in one partition."""

    stage: Stage
    partition: int
    feature_hash: str

    @property
    def prefix(self) -> str:
        """What all keys of this stage, partition and feature hash begin with."""
        return f"fs:{{{self.partition}}}:{self.stage}:{self.feature_hash}"

    @property
    def state(self) -> str:
        """The hash of watermark (`next`), event time, origin marks and exact counters."""
        return f"{self.prefix}:state"

    def entity(self, entity_id: str) -> str:
        """The append log of one entity's events."""
        return f"{self.prefix}:e:{entity_id}"

    def entities(self, entity_ids: Iterable[str]) -> list[str]:
        """entity() of each."""
        prefix = self.entity("")
        return [prefix + entity_id for entity_id in entity_ids]


@dataclass(frozen=True, slots=True)
class StageState:
    """What is stored of a stage in one partition. `next` is None before the first batch."""

    next: int | None = None
    event_time_ms: int = 0
    marks: Mapping[tuple[str, int], int] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def decode(cls, fields: Mapping[bytes, bytes]) -> StageState:
        """From the stored hash: `next`, `event_time_ms`, `mark:<topic>:<partition>`, and the rest are counters."""
        marks: dict[tuple[str, int], int] = {}
        counters: dict[str, int] = {}
        for raw_name, raw_value in fields.items():
            name, value = raw_name.decode(), int(raw_value)
            if name.startswith(MARK_PREFIX):
                topic, partition = name.removeprefix(MARK_PREFIX).rsplit(":", 1)
                marks[topic, int(partition)] = value
            elif name not in ("next", "fenced_at", "event_time_ms"):
                counters[name] = value
        stored = fields.get(b"next", fields.get(b"fenced_at"))
        return cls(None if stored is None else int(stored), int(fields.get(b"event_time_ms", 0)), marks, counters)


@dataclass(frozen=True, slots=True)
class Effect:
    """What one batch does to the state: offsets [first, next) of the source, changed entities, and counts to add.

    `first` is None for the first batch of a partition that has no state yet.
    """

    first: int | None
    next: int
    event_time_ms: int
    marks: Mapping[tuple[str, int], int]
    counters: Mapping[str, int]
    changes: Sequence[Change]


def _arguments(keys: StateKeys, effect: Effect) -> tuple[list[str], list[Any]]:
    fields: list[Any] = ["event_time_ms", effect.event_time_ms]
    for (topic, partition), offset in effect.marks.items():
        fields += (f"{MARK_PREFIX}{topic}:{partition}", offset)
    counters = [part for pair in effect.counters.items() if pair[1] for part in pair]
    appended = [change for change in effect.changes if change[1] == "append"]
    changes = appended + [change for change in effect.changes if change[1] == "set"]
    args: list[Any] = ["" if effect.first is None else effect.first, effect.next]
    args += [len(fields) // 2, *fields, len(counters) // 2, *counters, len(appended)]
    args += [blob for _, _, blob in changes]
    return [keys.state, *keys.entities([entity_id for entity_id, _, _ in changes])], args


class _PackedInC(redis_async.Connection):
    """A connection whose commands hiredis packs, as the blocking client's are; redis-py 8 has no option for it."""

    _serializer: Final = HiredisRespSerializer()

    def pack_command(self, *args: Any) -> list[bytes]:
        packed: list[bytes] = self._serializer.pack(*args)
        return packed


class StateStore:
    """The asynchronous client of a worker. Calls are tried for AWAY_SECONDS_MAX, then raise StateStoreAwayError."""

    def __init__(self, url: str, feature_hash: str, away_seconds_max: float = AWAY_SECONDS_MAX) -> None:
        self._feature_hash = feature_hash
        self._away_seconds_max = away_seconds_max
        self._redis = redis_async.Redis.from_url(
            url,
            connection_class=_PackedInC,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=10,
            socket_connect_timeout=5,
            health_check_interval=0,
        )

    def keys(self, stage: Stage, partition: int) -> StateKeys:
        """Key names under this store's feature hash."""
        return StateKeys(stage, partition, self._feature_hash)

    async def start(self) -> None:
        """Load the function (again, if it is there): it survives restarts through the append-only file."""
        await self._persist(self._load_function)

    async def stop(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def read(self, stage: Stage, partition: int) -> StageState:
        """The stored state of a stage in one partition."""
        key = self.keys(stage, partition).state
        fields: Any = await self._persist(lambda: self._redis.hgetall(key))
        return StageState.decode(fields)

    async def load(self, stage: Stage, partition: int, entity_ids: Sequence[str], at: int | None) -> list[bytes]:
        """The append logs of entities, in the order asked, as of watermark `at`; b"" for one without history.

        Raises StateMovedError when the stored watermark is not `at`: vectors folded onto logs of another moment would be
        wrong, and they are written before the effect is refused.
        """
        if not entity_ids:
            return []
        keys = self.keys(stage, partition)
        names = keys.entities(entity_ids)

        async def read_together() -> Any:
            async with self._redis.pipeline(transaction=True) as together:
                together.hget(keys.state, "next")
                together.mget(names)
                return await together.execute()

        stored, logs = await self._persist(read_together)
        if stored != (None if at is None else str(at).encode()):
            raise StateMovedError(
                f"stage {stage}, partition {partition}: this worker is at {at}, the stored watermark is "
                f"{'absent' if stored is None else stored.decode()}"
            )
        return [log or b"" for log in logs]

    async def apply(self, stage: Stage, partition: int, effect: Effect) -> None:
        """Let a batch take effect. Raises StateMovedError when the stored watermark is not at `effect.first`.

        An answer may be lost after the call took effect; the retry then finds the watermark at `effect.next`, which
        counts as done: the fold is deterministic, so whoever put it there wrote the same state.
        """
        names, args = _arguments(self.keys(stage, partition), effect)
        attempts = 0

        async def call() -> Any:
            nonlocal attempts
            attempts += 1
            try:
                return await self._redis.fcall("fraudstream_apply_batch", len(names), *names, *args)
            except ResponseError as error:
                if "Function not found" not in str(error):
                    raise
                await self._load_function()
                return await self._redis.fcall("fraudstream_apply_batch", len(names), *names, *args)

        applied, stored = await self._persist(call)
        if not applied and not (attempts > 1 and stored == str(effect.next).encode()):
            raise StateMovedError(
                f"stage {stage}, partition {partition}: the batch begins at {effect.first}, the stored watermark is "
                f"{stored.decode() or 'absent'}"
            )

    async def call(self, ask: Callable[[redis_async.Redis], Awaitable[_T]]) -> _T:
        """Ask the server something that may be asked twice. Raises StateStoreAwayError."""
        return await self._persist(lambda: ask(self._redis))

    async def _load_function(self) -> Any:
        code = resources.files("adapters").joinpath("state_store.lua").read_text()
        return await self._redis.function_load(code, replace=True)

    async def _persist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        deadline = time.monotonic() + self._away_seconds_max
        attempt = 0
        while True:
            try:
                return await call()
            except _AWAY as error:
                if time.monotonic() > deadline:
                    raise StateStoreAwayError(f"no answer for {self._away_seconds_max:.0f} s: {error}") from error
                await asyncio.sleep(_PAUSE_SECONDS[min(attempt, len(_PAUSE_SECONDS) - 1)])
                attempt += 1


class StateReader:
    """The blocking, reading side: progress and exact counters of the stages, for commands and dashboards."""

    def __init__(self, url: str, feature_hash: str) -> None:
        self._feature_hash = feature_hash
        self._redis = redis.Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_timeout=10, socket_connect_timeout=5
        )

    def read(self, stage: Stage, partition: int) -> StageState:
        """The stored state of a stage in one partition. Raises redis.exceptions.ConnectionError."""
        fields: Any = self._redis.hgetall(StateKeys(stage, partition, self._feature_hash).state)
        return StageState.decode(fields)

    def counters(self, stage: Stage, partitions: Iterable[int]) -> dict[str, int]:
        """The stage's counters, summed over partitions."""
        total: dict[str, int] = {}
        for partition in partitions:
            for name, count in self.read(stage, partition).counters.items():
                total[name] = total.get(name, 0) + count
        return total

    def entities(self, stage: Stage, partition: int) -> dict[str, bytes]:
        """Every entity's stored log: for tests and inspection of small states (it scans the keys)."""
        prefix = StateKeys(stage, partition, self._feature_hash).entity("")
        pattern = prefix.replace("[", r"\[") + "*"
        return {key.decode().removeprefix(prefix): self._redis.get(key) for key in self._redis.scan_iter(pattern)}  # type: ignore[misc]  # redis-py types both clients at once

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
