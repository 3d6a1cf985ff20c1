"""The state store on a real Redis or Valkey: a batch takes effect whole and once, and reads are of one moment.

Rule 1. What is promised holds on both servers that people run: see the fixture redis_url.
Rule 2. Every test has a feature hash of its own, so that tests on one server never meet.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from adapters.backends import Server
from adapters.ports import free_ports
from adapters.state_store import Effect, StageState, StateMovedError, StateReader, StateStore, StateStoreAwayError

EVENT = b"e" * 24


def effect(first: int | None, next_: int, *, accepted: int = 1, entities: dict[str, bytes] | None = None) -> Effect:
    changes = [(name, "append", blob) for name, blob in (entities or {"c1": EVENT}).items()]
    marks = {("transactions", 0): next_ - 1}
    return Effect(first, next_, 1000 * next_, marks, {"accepted": accepted, "late": 0}, changes)  # type: ignore[arg-type]  # "append" is one of the literals


def with_store(url: str, feature_hash: str, do: Callable[[StateStore], Awaitable[Any]], away_s: float = 10) -> Any:
    async def run() -> Any:
        store = StateStore(url, feature_hash, away_s)
        await store.start()
        try:
            return await do(store)
        finally:
            await store.stop()

    return asyncio.run(run())


@pytest.fixture(params=["ladder", "image"])
def redis_url(request: pytest.FixtureRequest, redis_url: str) -> str:
    """Each test runs on the server of the ladder and on the image that docker-compose.yml names."""
    url: str = redis_url if request.param == "ladder" else request.getfixturevalue("redis_image_url")
    return url


@pytest.fixture
def feature_hash() -> str:
    return uuid.uuid4().hex[:12]


def test_a_stage_without_state_is_at_no_watermark(redis_url: str, feature_hash: str) -> None:
    state = with_store(redis_url, feature_hash, lambda store: store.read("card", 0))
    assert state == StageState(None, 0, {}, {})


def test_an_effect_changes_watermark_marks_counters_and_entities_together(redis_url: str, feature_hash: str) -> None:
    async def two_batches(store: StateStore) -> tuple[StageState, list[bytes]]:
        await store.apply("terminal", 3, effect(None, 10, accepted=4, entities={"m1": b"a", "m2": b"b"}))
        await store.apply("terminal", 3, effect(10, 25, accepted=5, entities={"m1": b"c"}))
        return await store.read("terminal", 3), await store.load("terminal", 3, ["m2", "nobody", "m1"], 25)

    state, logs = with_store(redis_url, feature_hash, two_batches)
    assert state == StageState(25, 25_000, {("transactions", 0): 24}, {"accepted": 9})
    assert logs == [b"b", b"", b"ac"]


def test_set_puts_a_log_in_place_of_the_old_one(redis_url: str, feature_hash: str) -> None:
    async def compacted(store: StateStore) -> list[bytes]:
        await store.apply("card", 0, effect(None, 1, entities={"c1": b"long log"}))
        await store.apply("card", 0, Effect(1, 2, 0, {}, {}, [("c1", "set", b"short")]))
        return await store.load("card", 0, ["c1"], 2)

    assert with_store(redis_url, feature_hash, compacted) == [b"short"]


@pytest.mark.parametrize("first", [None, 0, 9, 11])
def test_a_batch_that_does_not_begin_at_the_watermark_changes_nothing(
    redis_url: str, feature_hash: str, first: int | None
) -> None:
    async def elsewhere(store: StateStore) -> tuple[StageState, StageState]:
        await store.apply("card", 0, effect(None, 10))
        before = await store.read("card", 0)
        with pytest.raises(StateMovedError, match="the stored watermark is 10"):
            await store.apply("card", 0, effect(first, 20))
        return before, await store.read("card", 0)

    before, after = with_store(redis_url, feature_hash, elsewhere)
    assert before == after


def test_a_batch_on_a_state_that_is_gone_changes_nothing(redis_url: str, feature_hash: str) -> None:
    async def onto_nothing(store: StateStore) -> StageState:
        with pytest.raises(StateMovedError, match="the stored watermark is absent"):
            await store.apply("card", 0, effect(10, 20))
        return await store.read("card", 0)

    assert with_store(redis_url, feature_hash, onto_nothing) == StageState()


def test_a_lost_answer_is_asked_again_and_counts_once(redis_url: str, feature_hash: str) -> None:
    async def answer_lost(store: StateStore) -> StageState:
        client = store._redis
        call, lost = client.fcall, 0

        async def calling(*args: Any) -> Any:
            nonlocal lost
            answer = await call(*args)
            lost += 1
            if lost == 1:
                raise RedisConnectionError("the answer was lost")
            return answer

        client.fcall = calling  # type: ignore[assignment]  # a wire that breaks
        await store.apply("card", 0, effect(None, 10))
        assert lost == 2
        return await store.read("card", 0)

    assert with_store(redis_url, feature_hash, answer_lost).counters == {"accepted": 1}


def test_entities_are_read_as_of_one_watermark_or_not_at_all(redis_url: str, feature_hash: str) -> None:
    async def from_another_moment(store: StateStore) -> None:
        with pytest.raises(StateMovedError, match="this worker is at 5, the stored watermark is absent"):
            await store.load("card", 0, ["c1"], 5)
        assert await store.load("card", 0, ["c1"], None) == [b""]
        await store.apply("card", 0, effect(None, 10))
        for at in (None, 9, 11):
            with pytest.raises(StateMovedError, match=f"this worker is at {at}, the stored watermark is 10"):
                await store.load("card", 0, ["c1"], at)
        assert await store.load("card", 0, ["c1"], 10) == [EVENT]

    with_store(redis_url, feature_hash, from_another_moment)


def test_state_of_another_feature_definition_stage_or_partition_is_never_read(
    redis_url: str, feature_hash: str
) -> None:
    with_store(redis_url, feature_hash, lambda store: store.apply("card", 0, effect(None, 10)))
    reader = StateReader(redis_url, feature_hash)
    other = StateReader(redis_url, feature_hash[::-1])
    try:
        assert reader.entities("card", 0) == {"c1": EVENT}
        assert reader.counters("card", [0, 1]) == {"accepted": 1}
        assert other.read("card", 0) == reader.read("card", 1) == reader.read("terminal", 0) == StageState()
        assert other.entities("card", 0) == reader.entities("card", 1) == {}
    finally:
        reader.close()
        other.close()


def test_keys_of_a_partition_carry_its_hash_tag_so_that_a_cluster_can_hold_them(feature_hash: str) -> None:
    keys = StateStore("redis://127.0.0.1:1/0", feature_hash).keys("card", 7)
    for name in (keys.state, keys.entity("c1")):
        assert name.startswith(f"fs:{{7}}:card:{feature_hash}:")


def test_a_function_that_is_gone_is_loaded_again(redis_url: str, feature_hash: str) -> None:
    async def after_a_flush(store: StateStore) -> StageState:
        await store._redis.function_delete("fraudstream")
        await store.apply("card", 0, effect(None, 10))
        return await store.read("card", 0)

    assert with_store(redis_url, feature_hash, after_a_flush).next == 10


def test_a_store_that_stays_away_ends_the_attempts(feature_hash: str) -> None:
    url = f"redis://127.0.0.1:{free_ports(1)[0]}/0"

    async def nobody_answers() -> None:
        store = StateStore(url, feature_hash, away_seconds_max=0.3)
        with pytest.raises(StateStoreAwayError, match="no answer for 0 s"):
            await store.read("card", 0)
        await store.stop()

    asyncio.run(nobody_answers())


@pytest.mark.parametrize("batches", [40, 400])
def test_after_a_kill_everything_stands_at_one_and_the_same_batch(
    fresh_redis: Server, feature_hash: str, batches: int
) -> None:
    #  batch     1  2  3 ... k ... n
    #  kill                        ^      what comes back is a prefix: watermark, counters and logs of the same k
    async def apply_all(store: StateStore) -> None:
        for i in range(batches):
            entities = {f"c{i % 7}": EVENT, "every": EVENT}
            await store.apply("card", 0, effect(i or None, i + 1, entities=entities))

    with_store(fresh_redis.address, feature_hash, apply_all)
    fresh_redis.kill()
    fresh_redis.start()
    reader = StateReader(fresh_redis.address, feature_hash)
    state, entities = reader.read("card", 0), reader.entities("card", 0)
    reader.close()
    done = state.next or 0
    assert done <= batches
    assert state.counters.get("accepted", 0) == done
    assert len(entities.get("every", b"")) == done * len(EVENT)
    assert sum(map(len, entities.values())) == 2 * done * len(EVENT)
    with redis.Redis.from_url(fresh_redis.address) as client:
        assert client.function_list(library="fraudstream")
