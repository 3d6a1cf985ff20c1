"""Nightly snapshots in Redis: published whole with their date, looked up by the scorer.

Rule 1. A snapshot stands under keys of its own, its midnight and a token in their names; one pointer says which count. The pointer is
        switched last and in one transaction, so a reader sees a snapshot whole or not at all.
Rule 2. Until then its keys expire by themselves: whoever is killed while publishing leaves nothing that stays.
Rule 3. The newest two count: a transaction that was late finds the snapshot of its own midnight. The rest is dropped by the switch.
Rule 4. A snapshot is never joined with what is older than it.

    fs:{batch}:<hash>:current                       [{"midnight_ms": ..., "token": ..., "cards": 3610, "terminals": 8051}, ...]
    fs:{batch}:<hash>:<midnight_ms>-<token>:cards   hash: card id -> float32 of CARD_COLUMNS, and ":rows" -> their number
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fraud.batch_features import BATCH_HASH, CARD_COLUMNS, CARD_DEFAULTS, TERMINAL_COLUMNS, TERMINAL_DEFAULTS
from fraud.model import Floats

KEPT: Final = 2
STAGING_SECONDS: Final = 600
_CHUNK: Final = 2_000
_TRIES: Final = 5
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


class SnapshotReader:
    """The joining side: one round trip for a batch of rows, as long as the pointer stays."""

    def __init__(self, client: redis.Redis, batch_hash: str = BATCH_HASH) -> None:
        self._redis: Any = client
        self._store = SnapshotStore(client, batch_hash)
        self._raw: bytes | None = None
        self.counting: list[Published] = []

    def look_up(self, occurred_at_ms: Int64s, card_ids: Sequence[str], terminal_ids: Sequence[str]) -> Found:
        """Join each row with the newest snapshot whose midnight is not after it.

        Raises SnapshotAwayError when Redis does not answer, or when a published snapshot is not whole.
        """
        try:
            for _ in range(_TRIES):
                chosen = self._chosen(occurred_at_ms)
                answers = self._ask(chosen, card_ids, terminal_ids)
                if answers is not None:
                    return self._found(chosen, answers, card_ids, terminal_ids)
        except (redis.RedisError, OSError) as error:
            raise SnapshotAwayError(f"Redis does not answer: {error}") from error
        raise SnapshotAwayError(f"{self._store.pointer} changed {_TRIES} times during one look")

    def _chosen(self, occurred_at_ms: Int64s) -> Int64s:
        """Position in `counting` of each row's snapshot, -1 for none."""
        chosen = np.full(len(occurred_at_ms), -1, np.int64)
        for i, each in reversed(list(enumerate(self.counting))):
            chosen[occurred_at_ms >= each.midnight_ms] = i
        return chosen

    def _ask(self, chosen: Int64s, card_ids: Sequence[str], terminal_ids: Sequence[str]) -> dict[str, Any] | None:
        """What the chosen snapshots say of the ids, by key and id; None when the pointer has moved, which is then followed."""
        asked: list[tuple[str, list[str]]] = []
        with self._redis.pipeline(transaction=True) as together:
            together.get(self._store.pointer)
            for i in np.unique(chosen[chosen >= 0]).tolist():
                rows = np.flatnonzero(chosen == i).tolist()
                for key, ids in zip(self._store.keys_of(self.counting[i]), (card_ids, terminal_ids), strict=True):
                    fields = [_ROWS_FIELD, *{ids[row] for row in rows}]
                    asked.append((key, fields))
                    together.hmget(key, fields)
            raw, *answers = together.execute()
        if raw != self._raw:
            self.counting, self._raw = self._store.parsed(raw), raw
            return None
        found = {
            key: dict(zip(fields, values, strict=True)) for (key, fields), values in zip(asked, answers, strict=True)
        }
        for key, values in found.items():
            if values[_ROWS_FIELD] is None:
                raise SnapshotAwayError(f"{key} is not in Redis, though it is published: publish it again")
        return found

    def _found(
        self, chosen: Int64s, answers: dict[str, Any], card_ids: Sequence[str], terminal_ids: Sequence[str]
    ) -> Found:
        rows = len(chosen)
        midnight = np.full(rows, NO_SNAPSHOT, np.int64)
        card = np.tile(CARD_DEFAULTS, (rows, 1))
        terminal = np.tile(TERMINAL_DEFAULTS, (rows, 1))
        for row, i in enumerate(chosen.tolist()):
            if i < 0:
                continue
            midnight[row] = self.counting[i].midnight_ms
            of_cards, of_terminals = self._store.keys_of(self.counting[i])
            for vectors, columns, raw in (
                (card, CARD_COLUMNS, answers[of_cards][card_ids[row]]),
                (terminal, TERMINAL_COLUMNS, answers[of_terminals][terminal_ids[row]]),
            ):
                if raw is not None:
                    vectors[row] = _vector(raw, len(columns))
        return Found(midnight, card, terminal)


def _vector(raw: bytes, width: int) -> Floats:
    if len(raw) != 4 * width:
        raise SnapshotAwayError(
            f"an entity of the snapshot has {len(raw)} bytes, {4 * width} are expected: publish again"
        )
    return np.frombuffer(raw, "<f4")
