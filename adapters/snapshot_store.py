"""Nightly snapshots in Redis: published whole with their date, looked up by the scorer.

Rule 1. A snapshot stands under keys of its own, its midnight and a token in their names; one pointer says which count. The pointer is
        switched last and in one transaction, so a reader sees a snapshot whole or not at all.
Rule 2. Until then its keys expire by themselves: whoever is killed while publishing leaves nothing that stays.
Rule 3. The newest two count: a transaction that was late finds the snapshot of its own midnight. The rest is dropped by the switch.
Rule 4. A snapshot is never joined with what is older than it.
Rule 5. A published snapshot never changes, so a reader keeps what it has read of one for as long as that one counts, and looks at the
        pointer every LOOK_SECONDS: so long after a switch, or after Redis went away, what is in memory may still be joined, whole.

    fs:{batch}:<hash>:current                       [{"midnight_ms": ..., "token": ..., "cards": 3610, "terminals": 8051}, ...]
    fs:{batch}:<hash>:<midnight_ms>-<token>:cards   hash: card id -> float32 of CARD_COLUMNS, and ":rows" -> their number
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fraud.batch_features import BATCH_HASH, CARD_DEFAULTS, TERMINAL_DEFAULTS
from fraud.model import Floats

KEPT: Final = 2
STAGING_SECONDS: Final = 600
_CHUNK: Final = 2_000
_TRIES: Final = 5
LOOK_SECONDS: Final = 0.2
ENTITIES_KEPT_MAX: Final = 200_000
_ROWS_FIELD: Final = ":rows"  # no id holds a colon
NO_SNAPSHOT: Final = -1

Int64s = npt.NDArray[np.int64]


class SnapshotAwayError(RuntimeError):
    """Redis does not answer, or what the pointer names is not there; the message says which."""


class SnapshotRefusedError(RuntimeError):
    """A snapshot that is not published; the message says why."""


class Published(msgspec.Struct, frozen=True):
    """A published snapshot: its midnight (epoch ms), and how many cards and terminals it holds."""

    midnight_ms: int
    token: str
    cards: int
    terminals: int


@dataclass(frozen=True, slots=True)
class Entities:
    """Ids and their columns, float32 [ids, columns]."""

    ids: Sequence[str]
    vectors: Floats


@dataclass(frozen=True, slots=True)
class Found:
    """Row by row: the midnight of the snapshot that was joined (NO_SNAPSHOT: none), and its columns.

    An entity that the snapshot does not have has the columns' defaults.
    """

    midnight_ms: Int64s
    card: Floats
    terminal: Floats


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Published]).decode


def connect(url: str, timeout_s: float) -> redis.Redis:
    """A client that does not retry by itself."""
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s, socket_connect_timeout=timeout_s
    )


class SnapshotStore:
    """The publishing side, and what tells which snapshots count."""

    def __init__(self, client: redis.Redis, batch_hash: str = BATCH_HASH) -> None:
        self._redis: Any = client
        self._prefix = f"fs:{{batch}}:{batch_hash}"

    @property
    def pointer(self) -> str:
        """The key that says which snapshots count."""
        return f"{self._prefix}:current"

    def keys_of(self, each: Published) -> tuple[str, str]:
        """The keys of a snapshot's cards and terminals."""
        name = f"{self._prefix}:{each.midnight_ms}-{each.token}"
        return f"{name}:cards", f"{name}:terminals"

    def published(self) -> list[Published]:
        """What counts now, newest first. Raises redis.RedisError."""
        return self.parsed(self._redis.get(self.pointer))

    def parsed(self, raw: bytes | None) -> list[Published]:
        """The pointer's content. Raises SnapshotAwayError when it cannot be read."""
        try:
            return [] if raw is None else _decode(raw)
        except msgspec.DecodeError as error:
            raise SnapshotAwayError(f"{self.pointer} cannot be read ({error}): publish a snapshot again") from error

    def publish(self, midnight_ms: int, cards: Entities, terminals: Entities) -> Published:
        """Publish the snapshot of a midnight; of one published before it takes the place.

        Raises SnapshotRefusedError for one older than the two that count, redis.RedisError when Redis is away.
        """
        made = Published(midnight_ms, secrets.token_hex(4), len(cards.ids), len(terminals.ids))
        for key, entities in zip(self.keys_of(made), (cards, terminals), strict=True):
            self._write(key, entities)
        for _ in range(_TRIES):
            try:
                self._switch(made)
            except redis.WatchError:
                continue
            return made
        raise SnapshotRefusedError(f"{self.pointer} was changed {_TRIES} times meanwhile: publish again")

    def _write(self, key: str, entities: Entities) -> None:
        """Write a key that expires, in parts, and check that all of it is there."""
        with self._redis.pipeline(transaction=True) as together:
            together.hset(key, _ROWS_FIELD, len(entities.ids))
            together.expire(key, STAGING_SECONDS)
            together.execute()
        rows = np.ascontiguousarray(entities.vectors, "<f4")
        for first in range(0, len(entities.ids), _CHUNK):
            part = range(first, min(first + _CHUNK, len(entities.ids)))
            self._redis.hset(key, mapping={entities.ids[i]: rows[i].tobytes() for i in part})
        if self._redis.hlen(key) != len(set(entities.ids)) + 1:
            raise SnapshotRefusedError(f"{key} does not hold what was written: publish again")

    def _switch(self, made: Published) -> None:
        """Let it count, in one transaction. Raises redis.WatchError when the pointer or its keys changed meanwhile."""
        mine = self.keys_of(made)
        with self._redis.pipeline(transaction=True) as together:
            together.watch(self.pointer, *mine)
            before = self.parsed(together.get(self.pointer))
            others = [each for each in before if each.midnight_ms != made.midnight_ms]
            after = sorted([made, *others], key=lambda each: -each.midnight_ms)[:KEPT]
            if made not in after:
                raise SnapshotRefusedError(
                    f"the snapshots of {before[0].midnight_ms} and {before[-1].midnight_ms} ms are published: one of "
                    f"{made.midnight_ms} ms would never be joined"
                )
            if together.exists(*mine) != len(mine):
                raise SnapshotRefusedError(f"publishing took more than {STAGING_SECONDS} s: publish again")
            together.multi()
            for key in mine:
                together.persist(key)
            together.set(self.pointer, _encode(after))
            dropped = [key for each in before if each not in after for key in self.keys_of(each)]
            if dropped:
                together.unlink(*dropped)
            together.execute()


class _Known:
    """What was read of one key: ids and their columns as they stand in Redis. An id that the key has not has the defaults."""

    def __init__(self, key: str, defaults: Floats) -> None:
        self.key = key
        self._defaults = defaults.astype("<f4").tobytes()
        self._columns: OrderedDict[str, bytes] = OrderedDict()

    def missing(self, ids: Sequence[str]) -> list[str]:
        """The ids that are still to be read, each once."""
        return list({id_ for id_ in ids if id_ not in self._columns})

    def add(self, ids: Sequence[str], answers: Sequence[bytes | None]) -> None:
        """Take in what Redis says of `ids`. Raises SnapshotAwayError for columns of another length."""
        for id_, raw in zip(ids, answers, strict=True):
            if raw is not None and len(raw) != len(self._defaults):
                raise SnapshotAwayError(
                    f"an entity of the snapshot has {len(raw)} bytes, {len(self._defaults)} are expected: publish again"
                )
            self._columns[id_] = self._defaults if raw is None else raw

    def columns(self, ids: Sequence[str]) -> Floats:
        """Float32 [ids, columns], read-only; none of the ids is missing."""
        for id_ in ids:
            self._columns.move_to_end(id_)
        together = b"".join([self._columns[id_] for id_ in ids])
        return np.frombuffer(together, "<f4").reshape(len(ids), len(self._defaults) // 4)

    def forget(self, entities_max: int) -> None:
        """Keep the entities_max that were used last."""
        while len(self._columns) > entities_max:
            self._columns.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a batch that are joined with one snapshot, its place in `counting`, and their ids in the same order."""

    snapshot: int
    rows: Int64s
    card_ids: Sequence[str]
    terminal_ids: Sequence[str]


class SnapshotReader:
    """The joining side: one round trip for the rows that it has not seen, none for the others between two looks at the pointer.

    entities_max: cards, and as many terminals, of each snapshot that counts that are kept in memory, some 0.3 KB each.
    """

    def __init__(
        self,
        client: redis.Redis,
        batch_hash: str = BATCH_HASH,
        clock: Callable[[], float] = time.monotonic,
        entities_max: int = ENTITIES_KEPT_MAX,
    ) -> None:
        self._redis: Any = client
        self._store = SnapshotStore(client, batch_hash)
        self._clock = clock
        self._entities_max = entities_max
        self._look_at = float("-inf")
        self._raw: bytes | None = None
        self._known: list[tuple[_Known, _Known]] = []
        self.counting: list[Published] = []

    def look_up(self, occurred_at_ms: Int64s, card_ids: Sequence[str], terminal_ids: Sequence[str]) -> Found:
        """Join each row with the newest snapshot whose midnight is not after it.

        Raises SnapshotAwayError when Redis does not answer (found out at the next look), or when a published snapshot is not whole.
        """
        try:
            for _ in range(_TRIES):
                parts = self._parts(occurred_at_ms, card_ids, terminal_ids)
                if self._read(parts):
                    return self._found(len(occurred_at_ms), parts)
        except (redis.RedisError, OSError) as error:
            raise SnapshotAwayError(f"Redis does not answer: {error}") from error
        raise SnapshotAwayError(f"{self._store.pointer} changed {_TRIES} times during one look")

    def _parts(self, occurred_at_ms: Int64s, card_ids: Sequence[str], terminal_ids: Sequence[str]) -> list[_Part]:
        """The rows of a batch by the snapshot that they are joined with, newest first; those before any are left out."""
        parts = []
        left = np.arange(len(occurred_at_ms))
        for i, each in enumerate(self.counting):
            is_its = occurred_at_ms[left] >= each.midnight_ms
            rows = left[is_its]
            if len(rows) == len(occurred_at_ms):
                return [_Part(i, rows, card_ids, terminal_ids)]
            if len(rows):
                places = rows.tolist()
                parts.append(_Part(i, rows, [card_ids[row] for row in places], [terminal_ids[row] for row in places]))
            left = left[~is_its]
        return parts

    def _read(self, parts: Sequence[_Part]) -> bool:
        """Read what is not in memory, and look at the pointer when that is due; False when it has moved, which is then followed."""
        asked = [
            (known, missing)
            for part in parts
            for known, ids in zip(self._known[part.snapshot], (part.card_ids, part.terminal_ids), strict=True)
            if (missing := known.missing(ids))
        ]
        if not asked and self._clock() < self._look_at:
            return True
        with self._redis.pipeline(transaction=True) as together:
            together.get(self._store.pointer)
            for known, missing in asked:
                together.hmget(known.key, [_ROWS_FIELD, *missing])
            raw, *answers = together.execute()
        self._look_at = self._clock() + LOOK_SECONDS
        if raw != self._raw:
            self._follow(raw)
            return False
        for (known, missing), (rows, *columns) in zip(asked, answers, strict=True):
            if rows is None:
                raise SnapshotAwayError(f"{known.key} is not in Redis, though it is published: publish it again")
            known.add(missing, columns)
        return True

    def _follow(self, raw: bytes | None) -> None:
        """Let the snapshots that the pointer names count, and forget what no longer does."""
        before = dict(zip(self.counting, self._known, strict=True))
        self.counting, self._raw = self._store.parsed(raw), raw
        self._known = [before.get(each) or self._unknown(each) for each in self.counting]

    def _unknown(self, each: Published) -> tuple[_Known, _Known]:
        cards, terminals = self._store.keys_of(each)
        return _Known(cards, CARD_DEFAULTS), _Known(terminals, TERMINAL_DEFAULTS)

    def _found(self, rows: int, parts: Sequence[_Part]) -> Found:
        if len(parts) == 1 and len(parts[0].rows) == rows:
            return Found(
                np.full(rows, self.counting[parts[0].snapshot].midnight_ms, np.int64), *self._columns(parts[0])
            )
        midnight = np.full(rows, NO_SNAPSHOT, np.int64)
        card, terminal = np.tile(CARD_DEFAULTS, (rows, 1)), np.tile(TERMINAL_DEFAULTS, (rows, 1))
        for part in parts:
            midnight[part.rows] = self.counting[part.snapshot].midnight_ms
            card[part.rows], terminal[part.rows] = self._columns(part)
        return Found(midnight, card, terminal)

    def _columns(self, part: _Part) -> tuple[Floats, Floats]:
        cards, terminals = self._known[part.snapshot]
        found = cards.columns(part.card_ids), terminals.columns(part.terminal_ids)
        cards.forget(self._entities_max)
        terminals.forget(self._entities_max)
        return found
