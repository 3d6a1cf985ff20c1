"""The API as a process, on a real broker, Redis and feature worker: its vectors are those that are served, bit for bit.

Rule 1. A transaction is asked about first and sent then; what was served of it is read from the log. No two of one round
        share a card or a terminal, so that each is asked as it arrives.
Rule 2. Redis is stopped and killed as a fault would do it; only the test's own server is touched.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.backends import Server
from adapters.ports import LOOPBACK, free_ports
from adapters.state_store import Effect, StateStore
from fraud.columns import CardColumns
from fraud.dead_letters import BadMessageError
from fraud.features import FEATURE_HASH, NAMES
from fraud.fold import CardFold
from fraud.packed import VECTORS
from fraud.transaction import Transaction, parse_transaction
from fraud.windows import DAY_MS, HOUR_MS
from tests.api.asked import AT_MS, transaction, vector_of
from tests.integration.faults.logs import read_logs, rows_of
from tests.integration.faults.processes import Service, wait_until
from tests.integration.faults.seeded_log import Sent, Shape, seeded_log
from tests.integration.faults.stack import Stack

WAIT_S = 90.0
ROUNDS, ROWS_OF_ROUND = 4, 25
Answer = tuple[int, dict[str, Any]]


class Api:
    """A started API."""

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self._port = port

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=WAIT_S)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def score(self, one: Transaction) -> Answer:
        return self.ask("POST", "/score?features=true", one.to_json())

    def scored(self, transactions: Sequence[Transaction]) -> list[Answer]:
        """Several at once."""
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(self.score, transactions))


@contextmanager
def running_api(redis_url: str, folder: Path, partitions: int, **more: str) -> Iterator[Api]:
    port = free_ports(1)[0]
    environment = {
        "FRAUD_REDIS_URL": redis_url,
        "FRAUD_STATE_DIR": str(folder),
        "FRAUD_PARTITIONS": str(partitions),
        "FRAUD_API_PORT": str(port),
        "FRAUD_API_RATE_PER_S": "0",
        **more,
    }
    service = Service("api", ["-m", "scorer", "api"], environment, folder)
    service.start()
    try:
        wait_until("the API answers", service.is_healthy, WAIT_S, service.tail)
        api = Api(service, port)
        wait_until("the API listens", lambda: _listens(api), WAIT_S, service.tail)
        yield api
    finally:
        service.discard()


def _listens(api: Api) -> bool:
    try:
        return api.ask("GET", "/healthz")[0] == 200
    except OSError:
        return False


def rounds_of(sent: Sequence[Sent]) -> list[list[Sent]]:
    """The sent in rounds of ROWS_OF_ROUND transactions; who shares a card or terminal with one of its round is left out.

    Labels are of other terminals than their round's transactions: nothing orders the two topics within a round.
    """
    rounds: list[list[Sent]] = []
    seen: list[set[str]] = []
    rows = ROWS_OF_ROUND
    for one in sent:
        if rows == ROWS_OF_ROUND:
            rounds.append([])
            seen.append(set())
            rows = 0
        if one.topic == "transactions":
            names = _names(one)
            if names & seen[-1]:
                continue
            seen[-1] |= names
            rows += 1
        rounds[-1].append(one)
    return [
        [one for one in part if one.topic == "transactions" or f"terminal {(one.key or b'').decode()}" not in names]
        for part, names in zip(rounds, seen, strict=True)
    ]


def _names(one: Sent) -> set[str]:
    try:
        told = json.loads(one.value or b"")
    except ValueError:
        return {f"card {(one.key or b'').decode()}"}
    return {f"card {told['card_id']}", f"terminal {told['terminal_id']}"}


def asked_of(part: Sequence[Sent]) -> list[Transaction]:
    """The good transactions of a round, as they are asked about."""
    found = []
    for one in part:
        if one.topic == "transactions":
            try:
                found.append(parse_transaction(one.value, one.key))
            except BadMessageError:
                continue
    return found


def newcomers(number: int, at_ms: int) -> list[Sent]:
    """A new card at a new terminal, an online payment of a new card, one tied and one late, of entities that no round has else;
    and one that is too late, and one that is sent again."""
    placed = EXAMPLE_PLACE | {"merchant_id": f"s{number}", "device_id": f"d{number}"}
    made = [
        transaction(80_000 + 10 * number, f"new{number}", f"newm{number}", at_ms),
        transaction(80_001 + 10 * number, "steady", f"newm{number}b", at_ms - at_ms % HOUR_MS, **placed),
        transaction(80_002 + 10 * number, "tied", "steadym", AT_MS, 700 + number),
        transaction(80_003 + 10 * number, "late", f"newm{number}c", AT_MS + 9 * DAY_MS - number * HOUR_MS, **placed),
    ]
    if number:  # by now the card has a newer one, and the other has this id
        made.append(transaction(80_004 + 10 * number, "steady", f"newm{number}d", AT_MS - 40 * DAY_MS))
        made.append(transaction(80_000 + 10 * (number - 1), f"new{number - 1}", f"newm{number}e", at_ms))
    return [Sent(at_ms, "transactions", one.card_id.encode(), one.to_json()) for one in made]


EXAMPLE_PLACE = {
    "schema_version": 2,
    "mcc": "5411",
    "country": "FR",
    "channel": "online",
    "latitude_cdeg": 4886,
    "longitude_cdeg": 235,
}


def test_the_answer_just_before_arrival_is_the_vector_that_is_served_bit_for_bit(stack: Stack) -> None:
    log = seeded_log(11, Shape(transactions=2000, cards=150, terminals=120, days=22))
    split = int(len(log) * 0.45)
    rounds = rounds_of(log[split:])[:ROUNDS]
    rounds = [[*part, *newcomers(number, part[-1].at_ms)] for number, part in enumerate(rounds)]
    stack.worker().start()
    stack.feed(log[:split])
    stack.drain(WAIT_S)
    with running_api(stack.redis_url, stack.run_folder, stack.partitions, FRAUD_API_DEADLINE_MS="30000") as api:
        everything = [one for part in rounds for one in asked_of(part)]
        too_early = dict(zip([one.transaction_id for one in everything], api.scored(everything), strict=True))
        just_before: dict[str, Answer] = {}
        for part in rounds:
            asked = asked_of(part)
            just_before |= dict(zip([one.transaction_id for one in asked], api.scored(asked), strict=True))
            stack.feed(part)
            stack.drain(WAIT_S)
        again = api.scored(everything)
    served = served_vectors(stack)

    vectors = {name: vector_of(told) for name, (status, told) in just_before.items() if status == 200}
    assert len(vectors) > ROUNDS * ROWS_OF_ROUND * 0.8
    assert {name for name in vectors if vectors[name] != served.get(name)} == set()
    assert not any(told["degraded"] for status, told in just_before.values() if status == 200)
    refused = {name: told["reason"] for name, (status, told) in just_before.items() if status != 200}
    assert set(refused.values()) == {"DUPLICATE", "TOO_LATE"}
    assert not {name for name, reason in refused.items() if reason == "TOO_LATE"} & served.keys()
    assert all(told["reason"] == "DUPLICATE" for status, told in again if status == 409)
    assert sum(status == 409 for status, _ in again) >= len(vectors)

    early = {name: vector_of(told) for name, (status, told) in too_early.items() if status == 200}
    assert sum(early[name] != served.get(name) for name in early) > len(early) // 10, "the comparison finds nothing"
    of_frauds = [np.frombuffer(bits, np.float32)[NAMES.index("terminal_fraud_count_28d")] for bits in vectors.values()]
    assert max(of_frauds) > 0, "no label was applied to what was asked"


def served_vectors(stack: Stack) -> dict[str, bytes]:
    """What stands in `features`, by transaction; a transaction's first copy of those with its id that were accepted last."""
    found: dict[str, bytes] = {}
    for records in read_logs(stack.bootstrap, ["features"])["features"]:
        for _, row in rows_of(records, (VECTORS,)):
            found[row["transaction_id"]] = row["vector"]
    return found


def stored_cards(redis_url: str, cards: int) -> None:
    """Store a history of 20 transactions for each card, as a worker does."""

    async def store() -> None:
        fold = CardFold()
        for card in range(cards):
            rows = [
                transaction(100 * card + i, f"c{card}", at_ms=AT_MS + i * 60_000, amount=100 + card) for i in range(20)
            ]
            fold.apply([f"c{card}"] * 20, CardColumns.of(rows))
        state = StateStore(redis_url, FEATURE_HASH)
        await state.start()
        await state.apply("card", 0, Effect(None, 20 * cards, AT_MS + 20 * 60_000, {}, {}, fold.take_changes()))
        await state.stop()

    asyncio.run(store())


def test_a_store_that_hangs_or_is_gone_makes_answers_degraded_and_none_is_mixed_up_afterwards(
    fresh_redis: Server, tmp_path: Path
) -> None:
    child = getattr(fresh_redis, "child", None)
    if child is None:
        pytest.skip("the Redis of this run is no local process that could be stopped")
    cards = 24
    stored_cards(fresh_redis.address, cards)
    asks = [transaction(90_000 + card, f"c{card}", at_ms=AT_MS + 21 * 60_000) for card in range(cards)]
    settings = {
        "FRAUD_API_DEADLINE_MS": "1500",
        "FRAUD_API_STATE_RETRY_MS": "100",
        "FRAUD_API_ENTITIES_CACHED_MAX": "4",
    }
    with running_api(fresh_redis.address, tmp_path, 1, **settings) as api:

        def whole() -> list[bytes] | None:
            told = [answer for _, answer in api.scored(asks)]
            return None if any(one["degraded"] for one in told) else [vector_of(one) for one in told]

        def are_degraded() -> bool:
            told = [answer for _, answer in api.scored(asks[:6])]
            return all(one["degraded"] and one["degraded_reason"] == "STATE_STORE_AWAY" for one in told)

        wait_until("whole answers", lambda: whole() is not None, WAIT_S, api.service.tail)
        before = whole()
        assert before is not None and len(set(before)) == cards
        os.kill(child.identity.pid, signal.SIGSTOP)
        try:
            assert are_degraded(), "while Redis hangs"
            status, told = api.ask("GET", "/features/c1")
            assert (status, told["reason"]) == (503, "STATE_STORE_AWAY")
            told = api.score(asks[0])[1]
            assert (told["model_version"], told["degraded"]) == ("rules", True)
        finally:
            os.kill(child.identity.pid, signal.SIGCONT)
        wait_until("whole answers after the hang", lambda: whole() is not None, WAIT_S, api.service.tail)
        for _ in range(3):
            assert whole() in (before, None), "an answer belongs to another question"
        fresh_redis.kill()
        assert are_degraded(), "while Redis is gone"
        fresh_redis.start()
        wait_until("whole answers after the return", lambda: whole() is not None, WAIT_S, api.service.tail)
        assert whole() in (before, None)
        assert api.service.stop() == 0


def test_a_port_that_is_taken_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        service = Service(
            "api", ["-m", "scorer", "api"], {"FRAUD_API_PORT": port, "FRAUD_STATE_DIR": str(tmp_path)}, tmp_path
        )
        service.start()
        try:
            assert service.wait(WAIT_S) == 2
        finally:
            service.discard()
        assert f"FRAUD_API_PORT={port}" in service.tail()
        assert "set another port" in service.tail()
