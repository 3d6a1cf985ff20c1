"""Snapshots on a real Redis: published whole or not at all, joined with the right midnight, and what happens when one is missing.

Rule 1. Each test has keys of its own (another feature hash): what others left does not matter.
Rule 2. Every value of a snapshot is its mark, so that a mixture of two would show.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
import redis

from adapters.backends import Server
from adapters.snapshot_store import (
    LOOK_SECONDS,
    NO_SNAPSHOT,
    Entities,
    Found,
    Published,
    SnapshotAwayError,
    SnapshotReader,
    SnapshotRefusedError,
    SnapshotStore,
    connect,
)
from fraud.batch_features import CARD_COLUMNS, CARD_DEFAULTS, TERMINAL_COLUMNS
from fraud.windows import DAY_MS

NIGHT_MS = 17_700 * DAY_MS
CARDS = [f"c{i}" for i in range(300)]
TERMINALS = [f"m{i}" for i in range(200)]
SENDS_MAX = 40


@pytest.fixture
def keys(redis_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"test-{request.node.name}"[:60]
    yield name
    with connect(redis_url, 5) as client:
        for key in client.scan_iter(f"fs:{{batch}}:{name.replace('[', '?').replace(']', '?')}:*"):
            client.delete(key)


def entities(mark: float, ids: list[str], width: int) -> Entities:
    return Entities(ids, np.full((len(ids), width), mark, np.float32))


def publish(store: SnapshotStore, midnight_ms: int, mark: float) -> Published:
    cards, terminals = entities(mark, CARDS, len(CARD_COLUMNS)), entities(mark, TERMINALS, len(TERMINAL_COLUMNS))
    return store.publish(midnight_ms, cards, terminals)


def look(reader: SnapshotReader, *times_ms: int, card: str = "c7") -> Found:
    return reader.look_up(np.array(times_ms), [card] * len(times_ms), ["m5"] * len(times_ms))


def marks_of(found: Found) -> set[float]:
    return set(np.unique(found.card).tolist()) | set(np.unique(found.terminal).tolist())


def all_keys(url: str, name: str) -> set[bytes]:
    with connect(url, 5) as client:
        return set(client.scan_iter(f"fs:{{batch}}:{name.replace('[', '?').replace(']', '?')}:*"))


class Killed(Exception):
    """The publisher is no more."""


def dying_client(url: str, sends: int) -> redis.Redis:
    """A client that dies in the middle of its send number `sends`, counted from 0: half of it reaches Redis."""
    left = [sends]

    class Dying(redis.Connection):
        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            if left[0] == 0:
                whole = b"".join([command] if isinstance(command, bytes) else command)
                super().send_packed_command([whole[: len(whole) // 2]], check_health=False)  # type: ignore[no-untyped-call]  # redis-py
                self.disconnect()  # type: ignore[no-untyped-call]  # redis-py
                raise Killed
            left[0] -= 1
            super().send_packed_command(command, check_health=False)  # type: ignore[no-untyped-call]  # redis-py

    client = connect(url, 5)
    client.connection_pool.connection_class = Dying
    return client


def test_a_publisher_killed_at_any_step_leaves_the_old_snapshot_whole(redis_url: str, keys: str) -> None:
    good = SnapshotStore(connect(redis_url, 5), keys)
    publish(good, NIGHT_MS, 1.0)
    reader = SnapshotReader(connect(redis_url, 5), keys, count().__next__)  # looks at the pointer each time
    before = all_keys(redis_url, keys)
    died = 0
    for sends in range(SENDS_MAX):
        try:
            publish(SnapshotStore(dying_client(redis_url, sends), keys), NIGHT_MS + DAY_MS, 2.0)
        except Killed:
            died += 1
            found = look(reader, NIGHT_MS + DAY_MS + 5)
            assert (found.midnight_ms.tolist(), marks_of(found)) == ([NIGHT_MS], {1.0}), sends
            with connect(redis_url, 5) as client:
                left = all_keys(redis_url, keys) - before
                assert all(client.ttl(key) > 0 for key in left), f"{sends}: what was half written goes by itself"
                for key in left:
                    client.delete(key)
        else:
            break
    else:
        pytest.fail(f"publishing takes more than {SENDS_MAX} sends")
    assert died > 8, "the client must have died at each of many steps"
    found = look(reader, NIGHT_MS + DAY_MS + 5)
    assert (found.midnight_ms.tolist(), marks_of(found)) == ([NIGHT_MS + DAY_MS], {2.0})
    assert not [key for key in all_keys(redis_url, keys) if connect(redis_url, 5).ttl(key) != -1], "what counts stays"


def test_a_reader_beside_a_publisher_never_sees_a_mixture(redis_url: str, keys: str) -> None:
    publish(SnapshotStore(connect(redis_url, 5), keys), NIGHT_MS, 0.0)
    stop = threading.Event()
    faults: list[str] = []
    seen: set[int] = set()

    def read(clock: Callable[[], float]) -> None:
        reader = SnapshotReader(connect(redis_url, 5), keys, clock)
        while not stop.is_set():
            found = reader.look_up(np.full(len(CARDS), NIGHT_MS + 999 * DAY_MS), CARDS, [TERMINALS[0]] * len(CARDS))
            night = int(found.midnight_ms[0] - NIGHT_MS) // DAY_MS
            seen.add(night)
            if marks_of(found) != {float(night)} or len(set(found.midnight_ms.tolist())) != 1:
                faults.append(f"{night}: {marks_of(found)}")

    readers = [threading.Thread(target=read, args=(clock,)) for clock in (count().__next__, time.monotonic)]
    for each in readers:
        each.start()
    store = SnapshotStore(connect(redis_url, 5), keys)
    for night in range(1, 25):
        publish(store, NIGHT_MS + night * DAY_MS, float(night))
    stop.set()
    for each in readers:
        each.join(60)
    assert not faults
    assert len(seen) > 1, "the reader must have seen it change"


def test_each_row_is_joined_with_the_newest_midnight_that_is_not_after_it(redis_url: str, keys: str) -> None:
    #      night            night + 1
    #  x     |x      (late) x   |x
    store = SnapshotStore(connect(redis_url, 5), keys)
    publish(store, NIGHT_MS, 1.0)
    publish(store, NIGHT_MS + DAY_MS, 2.0)
    found = look(
        SnapshotReader(connect(redis_url, 5), keys), NIGHT_MS - 1, NIGHT_MS, NIGHT_MS + DAY_MS - 1, NIGHT_MS + DAY_MS
    )
    assert found.midnight_ms.tolist() == [NO_SNAPSHOT, NIGHT_MS, NIGHT_MS, NIGHT_MS + DAY_MS]
    assert found.card[1:, 0].tolist() == [1.0, 1.0, 2.0]
    np.testing.assert_array_equal(found.card[0], CARD_DEFAULTS)


def test_the_newest_two_count_and_the_rest_is_dropped(redis_url: str, keys: str) -> None:
    store = SnapshotStore(connect(redis_url, 5), keys)
    for night in range(3):
        publish(store, NIGHT_MS + night * DAY_MS, float(night))
    assert [each.midnight_ms for each in store.published()] == [NIGHT_MS + 2 * DAY_MS, NIGHT_MS + DAY_MS]
    assert len(all_keys(redis_url, keys)) == 1 + 2 * 2
    with pytest.raises(SnapshotRefusedError, match="would never be joined"):
        publish(store, NIGHT_MS - DAY_MS, 9.0)
    publish(store, NIGHT_MS + 2 * DAY_MS, 7.0)
    assert marks_of(look(SnapshotReader(connect(redis_url, 5), keys), NIGHT_MS + 3 * DAY_MS)) == {7.0}


def test_an_entity_without_a_row_has_no_history(redis_url: str, keys: str) -> None:
    publish(SnapshotStore(connect(redis_url, 5), keys), NIGHT_MS, 1.0)
    found = look(SnapshotReader(connect(redis_url, 5), keys), NIGHT_MS + 5, card="unknown")
    np.testing.assert_array_equal(found.card[0], CARD_DEFAULTS)
    assert found.midnight_ms.tolist() == [NIGHT_MS]


def test_a_published_snapshot_that_is_lost_is_no_empty_one(redis_url: str, keys: str) -> None:
    store = SnapshotStore(connect(redis_url, 5), keys)
    lost = publish(store, NIGHT_MS, 1.0)
    with connect(redis_url, 5) as client:
        client.delete(store.keys_of(lost)[0])
    with pytest.raises(SnapshotAwayError, match="publish it again"):
        look(SnapshotReader(connect(redis_url, 5), keys), NIGHT_MS + 5)


def test_a_snapshot_of_other_features_is_never_joined(redis_url: str, keys: str) -> None:
    publish(SnapshotStore(connect(redis_url, 5), keys), NIGHT_MS, 1.0)
    found = look(SnapshotReader(connect(redis_url, 5), f"{keys}-other"), NIGHT_MS + 5)
    assert found.midnight_ms.tolist() == [NO_SNAPSHOT]


class Reading:
    """A reader with a clock of the test's, and how many round trips it took."""

    def __init__(self, url: str, keys: str, entities_max: int = 1000) -> None:
        self.now_s = 0.0
        self.trips = 0
        client = connect(url, 1)
        self.reader = SnapshotReader(client, keys, lambda: self.now_s, entities_max)
        pipeline = client.pipeline

        def counted(transaction: bool = True) -> Any:
            self.trips += 1
            return pipeline(transaction)

        client.pipeline = counted  # type: ignore[method-assign]  # counts

    def look(self, *cards: str, at_ms: int = NIGHT_MS + 5) -> Found:
        return self.reader.look_up(np.full(len(cards), at_ms), cards, ["m5"] * len(cards))


def test_what_was_read_is_not_asked_for_again_and_what_the_snapshot_has_not_neither(redis_url: str, keys: str) -> None:
    publish(SnapshotStore(connect(redis_url, 5), keys), NIGHT_MS, 1.0)
    one = Reading(redis_url, keys)
    one.look("c1", "c2", "unknown")
    before = one.trips
    found = one.look("unknown", "c2", "c1", "c2")
    assert one.trips == before
    assert found.card[:, 0].tolist() == [CARD_DEFAULTS[0], 1.0, 1.0, 1.0]
    assert one.look("c1", "c3").card[:, 0].tolist() == [1.0, 1.0]
    assert one.trips == before + 1, "c3 was not there"


def test_between_two_looks_the_old_snapshot_is_joined_whole_and_then_the_new_one(redis_url: str, keys: str) -> None:
    store = SnapshotStore(connect(redis_url, 5), keys)
    publish(store, NIGHT_MS, 1.0)
    one, other = Reading(redis_url, keys), Reading(redis_url, keys)
    for each in (one, other):
        assert marks_of(each.look("c1")) == {1.0}
    publish(store, NIGHT_MS, 2.0)  # takes the old one's place, and drops its keys
    one.now_s += LOOK_SECONDS / 2
    assert marks_of(one.look("c1")) == {1.0}
    assert marks_of(other.look("c1", "c2")) == {2.0}, (
        "who reads anything finds that the pointer has moved, and mixes nothing"
    )
    one.now_s += LOOK_SECONDS
    assert marks_of(one.look("c1")) == {2.0}
    publish(store, NIGHT_MS + DAY_MS, 3.0)
    one.now_s += LOOK_SECONDS
    before = one.trips
    assert marks_of(one.look("c1")) == {2.0}
    assert one.trips == before + 1, "what still counts is still known"


def test_a_reader_that_ignores_the_pointer_would_be_caught(
    redis_url: str, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.snapshot_store.LOOK_SECONDS", float("inf"))
    with pytest.raises(AssertionError):
        test_between_two_looks_the_old_snapshot_is_joined_whole_and_then_the_new_one(redis_url, keys)


def test_what_is_kept_is_bounded_and_the_least_recently_used_goes_first(redis_url: str, keys: str) -> None:
    publish(SnapshotStore(connect(redis_url, 5), keys), NIGHT_MS, 1.0)
    one = Reading(redis_url, keys, entities_max=3)
    assert marks_of(one.look(*CARDS)) == {1.0}, "a batch of more than are kept"
    for card in ("c1", "c2", "c3", "c1", "c4"):
        one.look(card)
    before = one.trips
    one.look("c1", "c3", "c4")
    assert one.trips == before
    one.look("c2")
    assert one.trips == before + 1


def test_redis_away_is_said_as_such_at_the_next_look(fresh_redis: Server, keys: str) -> None:
    publish(SnapshotStore(connect(fresh_redis.address, 5), keys), NIGHT_MS, 1.0)
    one = Reading(fresh_redis.address, keys)
    one.look("c1")
    fresh_redis.stop()
    one.now_s += LOOK_SECONDS / 2
    assert marks_of(one.look("c1")) == {1.0}, "nothing needs Redis"
    with pytest.raises(SnapshotAwayError, match="does not answer"):
        one.look("c2")
    one.now_s += LOOK_SECONDS
    for _ in range(2):
        with pytest.raises(SnapshotAwayError, match="does not answer"):
            one.look("c1")
