"""Which feature definition is active: one hash in the state store, and the hashes that were retired.

Rule 1. One definition is active at a time; a worker of another one waits, a worker of a retired one ends.
Rule 2. A retired definition's state is fenced before another becomes active: no batch can take effect there any more.
Rule 3. Readers skip records of a retired definition, for what of them was not scored is written again, and refuse any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

import redis
import redis.asyncio as redis_async

from adapters.state_store import Stage, StateKeys, StateStore

KEY: Final = "fs:features"
STAGES: Final = get_args(Stage)
_RETIRED: Final = "retired:"
_UNLINK_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Definitions:
    """The active feature hash, None before the first worker, and the retired ones."""

    active: str | None
    retired: frozenset[str]

    @classmethod
    def decode(cls, fields: Mapping[bytes, bytes]) -> Definitions:
        """From the stored hash."""
        names = [name.decode() for name in fields]
        retired = frozenset(name.removeprefix(_RETIRED) for name in names if name.startswith(_RETIRED))
        active = fields.get(b"active")
        return cls(None if active is None else active.decode(), retired)


def read_definitions(url: str) -> Definitions:
    """The definitions, read once. Raises redis.exceptions.RedisError."""
    with redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5) as client:
        fields: Any = client.hgetall(KEY)
        return Definitions.decode(fields)


class FeatureSwitch:
    """Reads and changes which definition is active, by the connection of a state store."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    async def read(self) -> Definitions:
        """What is active, what is retired."""
        fields: Any = await self._store.call(lambda client: client.hgetall(KEY))
        return Definitions.decode(fields)

    async def claim(self, feature_hash: str) -> Definitions:
        """Make a definition the active one if there is none yet."""
        await self._store.call(lambda client: client.hsetnx(KEY, "active", feature_hash))
        return await self.read()

    async def fence(self, feature_hash: str, partitions: int) -> None:
        """Let no batch take effect in the state of a definition any more; its watermarks can still be read."""
        for stage in STAGES:
            for p in range(partitions):
                key = StateKeys(stage, p, feature_hash).state
                await self._store.call(lambda client, key=key: client.fcall("fraudstream_fence", 1, key))  # type: ignore[misc]  # a default binds the loop's key

    async def activate(self, feature_hash: str, instead_of: str) -> None:
        """Make a definition the active one in the place of another, which is retired."""

        async def change(client: redis_async.Redis) -> Any:
            async with client.pipeline(transaction=True) as together:
                together.hset(KEY, mapping={"active": feature_hash, f"{_RETIRED}{instead_of}": 1})
                together.hdel(KEY, f"{_RETIRED}{feature_hash}")
                return await together.execute()

        await self._store.call(change)

    async def drop(self, feature_hash: str) -> int:
        """Delete the state of a definition; return how many keys that were."""

        async def delete(client: redis_async.Redis) -> int:
            dropped, names = 0, []
            async for name in client.scan_iter(f"fs:{{*}}:*:{feature_hash}:*", count=_UNLINK_AT_ONCE):
                names.append(name)
                if len(names) == _UNLINK_AT_ONCE:
                    dropped, names = dropped + await _unlink(client, names), []
            return dropped + await _unlink(client, names)

        return await self._store.call(delete)


async def _unlink(client: redis_async.Redis, names: Iterable[bytes]) -> int:
    async with client.pipeline(transaction=False) as together:
        for name in names:  # one by one: they are of several hash tags
            together.unlink(name)
        return sum(await together.execute())
