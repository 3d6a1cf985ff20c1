"""The API's answers: refusals with the stream's reasons, limits, degraded answers, and no fault whatever is sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud.alert import feature_reasons
from fraud.dead_letters import BadMessageError, Reason
from fraud.features import NAMES
from fraud.rules import RULES, codes
from fraud.transaction import parse_transaction
from fraud.windows import DAY_MS
from scorer.api import app as app_module
from scorer.api.answers import EXAMPLES
from scorer.api.stored_state import StateAwayError, StoredState, Wanted
from scorer.api.token_buckets import CLIENTS_MAX, TokenBuckets
from scorer.model import Model
from tests.api.asked import AT_MS, Asked, Memory, transaction, vector_of
from tests.scoring.published_models import publish

GOOD = json.loads(transaction(1).to_json())
PLACED = json.loads(EXAMPLES["version 2"].to_json())


def without(name: str, of: dict[str, Any] = GOOD) -> bytes:
    return json.dumps({key: value for key, value in of.items() if key != name}).encode()


def altered(of: dict[str, Any] = GOOD, **changes: Any) -> bytes:
    return json.dumps({**of, **changes}).encode()


BAD: dict[str, tuple[bytes, Reason]] = {
    "nothing": (b"", Reason.NOT_JSON),
    "text": (b"hello", Reason.NOT_JSON),
    "a list": (b"[]", Reason.NOT_JSON),
    "truncated": (json.dumps(GOOD).encode()[:-5], Reason.NOT_JSON),
    "not UTF-8": (altered().replace(b"t1", b"\xff\xfe"), Reason.NOT_JSON),
    "a million brackets": (b"[" * 10_000, Reason.NOT_JSON),
    "a key twice": (altered()[:-1] + b', "amount_minor": 1}', Reason.DUPLICATE_KEY),
    "no amount": (without("amount_minor"), Reason.FIELD_MISSING),
    "an amount of 1.0": (altered(amount_minor=1.0), Reason.FIELD_TYPE),
    "an amount as text": (altered(amount_minor="1"), Reason.FIELD_TYPE),
    "an amount beyond 64 bits": (altered(amount_minor=10**30), Reason.AMOUNT_OUT_OF_RANGE),
    "an amount below 0": (altered(amount_minor=-1), Reason.AMOUNT_OUT_OF_RANGE),
    "an amount too large": (altered(amount_minor=10**12 + 1), Reason.AMOUNT_OUT_OF_RANGE),
    "another currency": (altered(currency="USD"), Reason.CURRENCY_UNKNOWN),
    "an empty id": (altered(transaction_id=""), Reason.ID_INVALID),
    "an id with a slash": (altered(card_id="c/1"), Reason.ID_INVALID),
    "an id of 65 characters": (altered(terminal_id="m" * 65), Reason.ID_INVALID),
    "seconds": (altered(occurred_at_ms=AT_MS // 1000), Reason.TIME_OUT_OF_RANGE),
    "the future": (altered(occurred_at_ms=AT_MS + 300_001), Reason.TIME_FROM_FUTURE),
    "version 3": (altered(schema_version=3), Reason.SCHEMA_UNKNOWN),
    "version 2 without a merchant": (without("merchant_id", PLACED), Reason.FIELD_MISSING),
    "half a place": (without("latitude_cdeg", PLACED), Reason.PLACE_INVALID),
    "a country in small letters": (altered(PLACED, country="fr"), Reason.PLACE_INVALID),
}


@pytest.fixture(scope="module")
def api() -> Asked:
    """A card with a little history; nothing here changes it."""
    memory = Memory()
    for number in range(12):
        memory.arrive(transaction(number, at_ms=AT_MS + number * 60_000))
    return Asked(memory)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_the_reason_that_the_stream_gives(api: Asked, name: str) -> None:
    body, reason = BAD[name]
    answer = api.score(body)
    assert (answer.status_code, answer.json()["reason"]) == (422, reason)
    assert answer.json()["detail"]
    with pytest.raises(BadMessageError) as caught:
        parse_transaction(body, b"c1")
    assert caught.value.reason == reason


def test_an_unknown_field_and_the_largest_body_pass_and_one_byte_more_does_not(api: Asked) -> None:
    body = altered(transaction_id="large", note="")
    largest = altered(transaction_id="large", note="x" * (16 * 1024 - len(body)))
    assert api.score(largest).status_code == 200
    for content in (largest + b" ", _in_chunks(largest + b" ")):
        answer = api("POST", "/score", content)
        assert (answer.status_code, answer.json()["reason"]) == (413, "TOO_LARGE")


async def _in_chunks(body: bytes) -> Any:
    for at in range(0, len(body), 1000):
        yield body[at : at + 1000]


def test_the_answer_has_the_vector_that_is_served_and_says_what_it_includes(api: Asked) -> None:
    memory = Memory()
    before = [transaction(number, at_ms=AT_MS + number * 60_000) for number in range(9)]
    for one in before:
        memory.arrive(one)
    asked, late = Asked(memory), transaction(50, at_ms=AT_MS + 30_000)
    told = asked.score(late).json()
    assert told["includes"]["card"] == {
        "partition": 0, "next_offset": 9, "event_time_ms": before[-1].occurred_at_ms, "newest_at_ms": before[-1].occurred_at_ms,
    }  # fmt: skip
    served = memory.arrive(late)
    assert served is not None
    assert vector_of(told) == served.tobytes()
    assert (told["degraded"], told["history"], list(told["features"])) == (False, "stored", list(NAMES))
    assert vector_of(asked.score(transaction(51, at_ms=AT_MS + 30_000)).json()) != served.tobytes()
    assert api.score(transaction(60), features=False).json()["features"] is None


def test_rules_decide_before_any_model_and_give_their_reasons(api: Asked) -> None:
    told = api.score(transaction(99, at_ms=AT_MS + 12 * 60_000)).json()
    assert told["model_version"] == "rules"
    assert told["decision"] == "review"
    assert "RULE_CARD_VELOCITY_1H" in told["reason_codes"]


def test_the_model_in_the_slot_decides_with_its_score_and_its_reasons(tmp_path: Any) -> None:
    from adapters.model_store import ModelStore
    from scorer.model import load

    model = load(ModelStore(tmp_path).read(publish(tmp_path, 4)))
    asked, one = Asked(), transaction(1)
    asked.slot.model = Model(model.version, 0.0, model.booster)
    told = asked.score(one).json()
    vector = np.frombuffer(vector_of(told), np.float32)[np.newaxis]
    assert told["score"] == float(model.score(vector)[0]) != told["rules_score"]
    assert told["model_version"] == model.version
    shown = () if told["decision"] == "approve" else feature_reasons(model.contributions(vector)[0])
    assert tuple(told["reason_codes"]) == shown


def test_an_id_that_the_card_has_is_a_duplicate_and_one_too_late_is_refused(api: Asked) -> None:
    again = api.score(transaction(3, at_ms=AT_MS + 600_000))
    assert (again.status_code, again.json()["reason"]) == (409, "DUPLICATE")
    late = api.score(transaction(100, at_ms=AT_MS - 31 * DAY_MS))
    assert (late.status_code, late.json()["reason"]) == (422, "TOO_LATE")


def test_without_the_store_the_rules_answer_over_what_is_in_memory_and_say_so() -> None:
    memory = Memory()
    for number in range(12):
        memory.arrive(transaction(number, at_ms=AT_MS + number * 60_000))
    asked, now = Asked(memory), transaction(99, at_ms=AT_MS + 12 * 60_000)
    memory.away_because = "the state store is away"
    blind = asked.score(now).json()
    assert (blind["degraded"], blind["degraded_reason"], blind["history"]) == (True, "STATE_STORE_AWAY", "none")
    assert (blind["decision"], blind["includes"], blind["features"]) == ("approve", None, None)
    assert asked("GET", "/healthz").json()["state_store"] == "the state store is away"
    memory.away_because = None
    assert asked.score(now).json()["degraded"] is False
    memory.away_because = "the state store is away"
    known = asked.score(now).json()
    assert (known["degraded"], known["history"], known["model_version"]) == (True, "memory", "rules")
    assert known["reason_codes"] == [f"RULE_{RULES[3].code}"] == list(codes(np.arange(len(RULES)) == 3))
    features = asked("GET", "/features/c1")
    assert (features.status_code, features.json()["reason"]) == (503, "STATE_STORE_AWAY")
    assert features.headers["retry-after"] == "1"


def test_a_history_that_is_not_folded_in_time_is_degraded_with_that_reason(
    monkeypatch: pytest.MonkeyPatch, api: Asked
) -> None:
    asked = Asked(api.memory)
    monkeypatch.setattr("scorer.api.histories.EVENTS_PER_PIECE", 2)
    asked.service.vectors.__init__(1, 10)  # type: ignore[misc]  # with the smaller pieces
    monkeypatch.setattr(app_module, "_is_after", lambda late_at: lambda: True)
    told = asked.score(transaction(99, at_ms=AT_MS + 12 * 60_000)).json()
    assert (told["degraded_reason"], told["history"]) == ("DEADLINE", "memory")


def test_features_of_a_card_are_those_of_a_transaction_at_that_time(api: Asked) -> None:
    newest = AT_MS + 11 * 60_000
    now = api("GET", "/features/c1").json()
    assert now["at_ms"] == newest
    assert now["features"]["card_count_1h"] == 12
    assert api("GET", f"/features/c1?at_ms={AT_MS + 1}").json()["features"]["card_count_1h"] == 1
    by_score = api.score(transaction(70, at_ms=newest)).json()["features"]
    assert {name: by_score[name] for name in now["features"]} == now["features"]
    assert set(now["features"]) | set(now["needs_transaction"]) == {n for n in NAMES if n.startswith("card_")}


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/features/nobody", 404, "CARD_UNKNOWN"),
        ("/features/c%20", 422, "ID_INVALID"),
        ("/features/c1?at_ms=now", 422, "QUERY_INVALID"),
        ("/features/c1?at_ms=1522540800", 422, "TIME_OUT_OF_RANGE"),
        (f"/features/c1?at_ms={AT_MS - 31 * DAY_MS}", 422, "TOO_LATE"),
        ("/features", 404, "HTTP"),
        ("/score", 405, "HTTP"),
    ],
)
def test_a_question_that_has_no_answer_gets_its_reason(api: Asked, path: str, status: int, reason: str) -> None:
    answer = api("GET", path)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


def test_a_client_over_its_rate_is_told_when_to_come_again_and_health_stays_free(api: Asked) -> None:
    asked = Asked(api.memory, rate_per_s=0.5, burst=2)
    assert [asked.score(transaction(n)).status_code for n in (60, 61, 62)] == [200, 200, 429]
    told = asked.score(transaction(62))
    assert (told.json()["reason"], told.headers["retry-after"]) == ("RATE_LIMITED", "2")
    assert asked("GET", "/healthz").status_code == 200
    asked.now_s = 2.0
    assert asked.score(transaction(62)).status_code == 200


def test_buckets_are_one_per_client_and_bounded() -> None:
    now = 0.0
    buckets = TokenBuckets(1.0, 1, lambda: now)
    assert [buckets.wait_s(client) for client in ("a", "a", "b")] == [0, 1, 0]
    for client in range(CLIENTS_MAX):
        buckets.wait_s(str(client))
    assert buckets.wait_s("a") == 0  # forgotten, so it begins anew
    assert len(buckets._buckets) == CLIENTS_MAX


def test_the_examples_of_openapi_are_answered(api: Asked) -> None:
    described = api("GET", "/openapi.json").json()
    body = described["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) == 2
    for example in body["examples"].values():
        assert api.score(json.dumps(example["value"]).encode()).status_code == 200
    assert set(described["paths"]) == {"/score", "/features/{card}", "/healthz"}


def test_a_store_that_hangs_is_given_up_at_the_deadline_and_left_alone_for_a_while() -> None:
    async def hang() -> None:
        opened, now = 0, 0.0

        async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            await reader.read(1)
            await asyncio.Event().wait()

        server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        state = StoredState(f"redis://127.0.0.1:{port}/0", "hash", retry_s=5.0, clock=lambda: now)
        wanted = [Wanted("card", 0, "c1")]
        with pytest.raises(StateAwayError, match="within 50 ms"):
            await state.fetch(wanted, 0.05)
        with pytest.raises(StateAwayError):
            await state.fetch(wanted, 0.05)
        assert opened == 1
        now = 5.0
        with pytest.raises(StateAwayError):
            await state.fetch(wanted, 0.05)
        assert opened == 2
        await state.close()
        server.close()

    asyncio.run(hang())


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
_FIELDS = st.sampled_from(sorted(PLACED))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(_FIELDS, _VALUES, max_size=4),
    base=st.sampled_from([GOOD, PLACED]),
    raw=st.binary(max_size=60),
    cut=st.booleans(),
)
def test_whatever_is_sent_is_answered_or_refused_and_is_no_fault(
    api: Asked, changes: dict[str, Any], base: dict[str, Any], raw: bytes, cut: bool
) -> None:
    body = json.dumps({**base, **changes}).encode()
    for content in (body[: len(body) // 2] if cut else body, raw):
        answer = api.score(content)
        assert answer.status_code in (200, 409, 422), answer.text
        assert "score" in answer.json() or answer.json()["reason"] in [*Reason, "DUPLICATE"]


def test_a_fault_of_the_service_would_be_seen_by_the_test_above(api: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "decode_transaction", lambda raw: msgspec.json.decode(raw))
    assert api.score(b"[]").status_code == 500
