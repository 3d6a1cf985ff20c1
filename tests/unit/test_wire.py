"""Bad messages by name: each has one stated outcome, whatever stands around it.

Rule 1. A message is accepted, or refused by BadMessageError with the reason in this table; nothing else ever comes out.
Rule 2. What the log decides (duplicates, too late, labels of unknown transactions) is in test_fold.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.dead_letters import MEANING, BadMessageError, Reason
from fraud.labels import Label, parse_label
from fraud.transaction import AMOUNT_MINOR_MAX, Transaction, id_hash, parse_transaction
from fraud.transactions import parse_transactions
from fraud.windows import DAY_MS
from fraud.wire import CLOCK_SKEW_MAX_MS, MESSAGE_BYTES_MAX, TIME_MAX_MS, TIME_MIN_MS

TEN = 1_523_008_800_000
TRANSACTION = Transaction("tx-1", "card-1", "term-1", 1250, "EUR", TEN, TEN)
PLACED = Transaction(
    "tx-2", "card-1", "term-1", 1250, "EUR", TEN, TEN, 2,
    merchant_id="m-1", mcc="5411", country="DE", channel="online", device_id="d-1", latitude_cdeg=5251, longitude_cdeg=1340,
)  # fmt: skip
LABEL = Label("tx-1", "card-1", "term-1", TEN, True, TEN + DAY_MS, "customer_report", TEN + DAY_MS)
REMOVED = object()


def changed(message: Transaction | Label, **fields: Any) -> bytes:
    """The message with other fields, more fields, or fields REMOVED."""
    flat = {**json.loads(message.to_json()), **fields}
    return json.dumps({name: value for name, value in flat.items() if value is not REMOVED}).encode()


def with_tail(tail: bytes) -> bytes:
    """The transaction with more text before its last brace."""
    return TRANSACTION.to_json()[:-1] + tail + b"}"


def reason_of(raw: bytes | None, key: bytes | None = b"card-1") -> Reason | None:
    try:
        parse_transaction(raw, key)
    except BadMessageError as error:
        return error.reason
    return None


ACCEPTED = {
    "as it is sent": TRANSACTION.to_json(),
    "spaces and another order": json.dumps(dict(sorted(json.loads(TRANSACTION.to_json()).items())), indent=2).encode(),
    "escapes": TRANSACTION.to_json().replace(b'"tx-1"', b'"\\u0074x-1"'),
    "a field that this release does not know": changed(TRANSACTION, device="d1"),
    "without schema_version, which means the first": changed(TRANSACTION, schema_version=REMOVED),
    "amount 0, a card verification": changed(TRANSACTION, amount_minor=0),
    "amount 10^12": changed(TRANSACTION, amount_minor=AMOUNT_MINOR_MAX),
    "the first time": changed(TRANSACTION, occurred_at_ms=TIME_MIN_MS, sent_at_ms=TIME_MIN_MS),
    "the last time": changed(TRANSACTION, occurred_at_ms=TIME_MAX_MS - 1, sent_at_ms=TIME_MAX_MS - 1),
    "five minutes ahead of the sender's clock": changed(TRANSACTION, occurred_at_ms=TEN + CLOCK_SKEW_MAX_MS),
    "sent years after it happened": changed(TRANSACTION, sent_at_ms=TEN + 1000 * DAY_MS),
    "an id of one character": changed(TRANSACTION, transaction_id="0"),
    "version 2": PLACED.to_json(),
    "version 2 without a device": changed(PLACED, device_id=None),
    "version 2 without coordinates": changed(PLACED, latitude_cdeg=None, longitude_cdeg=None),
    "version 2 at the edge of the map": changed(PLACED, latitude_cdeg=-90_00, longitude_cdeg=180_00),
    "version 1 with a field that came later": changed(TRANSACTION, country="DE"),
    "an id of 64 characters": changed(TRANSACTION, transaction_id="A" + "z._-" * 15 + "123"),
}

REFUSED: dict[str, tuple[bytes | None, Reason]] = {
    "no value": (None, Reason.NOT_JSON),
    "empty": (b"", Reason.NOT_JSON),
    "not JSON": (b"hello", Reason.NOT_JSON),
    "truncated": (TRANSACTION.to_json()[:-7], Reason.NOT_JSON),
    "truncated after a wrong type": (b'{"transaction_id":5,"card_id":"card', Reason.NOT_JSON),
    "two objects": (TRANSACTION.to_json() * 2, Reason.NOT_JSON),
    "an array": (b"[]", Reason.NOT_JSON),
    "null": (b"null", Reason.NOT_JSON),
    "a number": (b"1", Reason.NOT_JSON),
    "NaN as amount": (TRANSACTION.to_json().replace(b"1250", b"NaN"), Reason.NOT_JSON),
    "not UTF-8": (TRANSACTION.to_json().replace(b"tx-1", b"\xff\xfe"), Reason.NOT_JSON),
    "a byte order mark": (b"\xef\xbb\xbf" + TRANSACTION.to_json(), Reason.NOT_JSON),
    "half a surrogate pair": (changed(TRANSACTION, transaction_id="\ud800"), Reason.NOT_JSON),
    "nested too deep": (b"[" * 10_000, Reason.NOT_JSON),
    "an unknown field nested too deep": (with_tail(b',"x":' + b"[" * 7000 + b"]" * 7000), Reason.NOT_JSON),
    "an unknown number of 5,000 digits": (with_tail(b',"x":' + b"9" * 5000), Reason.NOT_JSON),
    "10 MB": (changed(TRANSACTION, note="x" * 10_000_000), Reason.TOO_LARGE),
    "one byte too long": (TRANSACTION.to_json().ljust(MESSAGE_BYTES_MAX + 1), Reason.TOO_LARGE),
    "a key twice": (with_tail(b',"amount_minor":5'), Reason.DUPLICATE_KEY),
    "a key twice, once with escapes": (with_tail(b',"amount\\u005fminor":5'), Reason.DUPLICATE_KEY),
    "a key twice, one of a wrong type": (with_tail(b',"amount_minor":"5"'), Reason.DUPLICATE_KEY),
    "an unknown key twice": (with_tail(b',"x":1,"x":2'), Reason.DUPLICATE_KEY),
    "a key twice further inside": (with_tail(b',"x":{"a":1,"a":2}'), Reason.DUPLICATE_KEY),
    "version 2 without its fields": (changed(TRANSACTION, schema_version=2), Reason.FIELD_MISSING),
    "version 2 without a merchant": (changed(PLACED, merchant_id=None), Reason.FIELD_MISSING),
    "version 2 with half a place": (changed(PLACED, latitude_cdeg=None), Reason.PLACE_INVALID),
    "version 2 beyond the pole": (changed(PLACED, latitude_cdeg=90_01), Reason.PLACE_INVALID),
    "version 2 around the world": (changed(PLACED, longitude_cdeg=-180_01), Reason.PLACE_INVALID),
    "coordinates as float": (changed(PLACED, latitude_cdeg=52.51), Reason.FIELD_TYPE),
    "a category of three digits": (changed(PLACED, mcc="541"), Reason.PLACE_INVALID),
    "a category as number": (changed(PLACED, mcc=5411), Reason.FIELD_TYPE),
    "a country in small letters": (changed(PLACED, country="de"), Reason.PLACE_INVALID),
    "an unknown channel": (changed(PLACED, channel="pigeon"), Reason.FIELD_TYPE),
    "a device with a colon": (changed(PLACED, device_id="d:1"), Reason.ID_INVALID),
    "a merchant with a space": (changed(PLACED, merchant_id="m 1"), Reason.ID_INVALID),
    "a key of version 2 twice": (PLACED.to_json()[:-1] + b',"country":"FR"}', Reason.DUPLICATE_KEY),
    "a later schema": (changed(TRANSACTION, schema_version=3), Reason.SCHEMA_UNKNOWN),
    "no card_id": (changed(TRANSACTION, card_id=REMOVED), Reason.FIELD_MISSING),
    "an empty object": (b"{}", Reason.FIELD_MISSING),
    "amount as text": (changed(TRANSACTION, amount_minor="1250"), Reason.FIELD_TYPE),
    "amount as float": (changed(TRANSACTION, amount_minor=12.5), Reason.FIELD_TYPE),
    "amount as whole float": (changed(TRANSACTION, amount_minor=1250.0), Reason.FIELD_TYPE),
    "amount as true": (changed(TRANSACTION, amount_minor=True), Reason.FIELD_TYPE),
    "amount null": (changed(TRANSACTION, amount_minor=None), Reason.FIELD_TYPE),
    "an id as number": (changed(TRANSACTION, card_id=5), Reason.FIELD_TYPE),
    "a time as text": (changed(TRANSACTION, occurred_at_ms="2018-04-06T10:00:00Z"), Reason.FIELD_TYPE),
    "amount negative": (changed(TRANSACTION, amount_minor=-1), Reason.AMOUNT_OUT_OF_RANGE),
    "amount beyond 10^12": (changed(TRANSACTION, amount_minor=AMOUNT_MINOR_MAX + 1), Reason.AMOUNT_OUT_OF_RANGE),
    "amount beyond 64 bits": (changed(TRANSACTION, amount_minor=10**30), Reason.AMOUNT_OUT_OF_RANGE),
    "another currency": (changed(TRANSACTION, currency="USD"), Reason.CURRENCY_UNKNOWN),
    "no such currency": (changed(TRANSACTION, currency="???"), Reason.CURRENCY_UNKNOWN),
    "currency in small letters": (changed(TRANSACTION, currency="eur"), Reason.CURRENCY_UNKNOWN),
    "time 1970": (changed(TRANSACTION, occurred_at_ms=0), Reason.TIME_OUT_OF_RANGE),
    "time negative": (changed(TRANSACTION, occurred_at_ms=-TEN), Reason.TIME_OUT_OF_RANGE),
    "time in seconds": (changed(TRANSACTION, occurred_at_ms=TEN // 1000), Reason.TIME_OUT_OF_RANGE),
    "time in microseconds": (changed(TRANSACTION, occurred_at_ms=TEN * 1000), Reason.TIME_OUT_OF_RANGE),
    "sent in seconds": (changed(TRANSACTION, sent_at_ms=TEN // 1000), Reason.TIME_OUT_OF_RANGE),
    "a year ahead": (changed(TRANSACTION, occurred_at_ms=TEN + 365 * DAY_MS), Reason.TIME_FROM_FUTURE),
    "one millisecond more than the skew": (
        changed(TRANSACTION, occurred_at_ms=TEN + CLOCK_SKEW_MAX_MS + 1),
        Reason.TIME_FROM_FUTURE,
    ),
}
WRONG_IDS = [
    "",
    "a" * 65,
    "a" * 300,
    "a:b",
    "{a}",
    "a*",
    "a\n",
    "\na",
    "a b",
    "a/b",
    "ä",
    "١",
    "-a",
    ".a",
    "a\x00",
    "a\u2028",
]


def test_the_encoder_counts_as_many_quotes_as_the_parser_expects() -> None:
    assert TRANSACTION.to_json().count(b'"') == 2 * 8 + 2 * 4
    assert PLACED.to_json().count(b'"') == 2 * 15 + 2 * 9
    assert changed(PLACED, device_id=None).count(b'"') == 2 * 15 + 2 * 8
    assert LABEL.to_json().count(b'"') == 2 * 9 + 2 * 4


@pytest.mark.parametrize("name", ACCEPTED)
def test_this_is_accepted(name: str) -> None:
    assert reason_of(ACCEPTED[name]) is None


@pytest.mark.parametrize("name", REFUSED)
def test_this_is_refused_with_its_reason(name: str) -> None:
    raw, reason = REFUSED[name]
    assert reason_of(raw) == reason


@pytest.mark.parametrize("field", ["transaction_id", "card_id", "terminal_id"])
@pytest.mark.parametrize("wrong", WRONG_IDS)
def test_an_id_that_could_break_a_key_is_refused(field: str, wrong: str) -> None:
    assert reason_of(changed(TRANSACTION, **{field: wrong})) == Reason.ID_INVALID


@pytest.mark.parametrize("key", [None, b"", b"card-2", b"card-1 ", b"CARD-1", b"\xff", b"x" * 1000])
def test_a_record_whose_key_is_not_its_card_is_refused(key: bytes | None) -> None:
    assert reason_of(TRANSACTION.to_json(), key) == Reason.KEY_MISMATCH


def outcome_alone(raw: bytes | None, key: bytes | None) -> Transaction | Reason:
    try:
        return parse_transaction(raw, key)
    except BadMessageError as error:
        return error.reason


def outcomes_together(records: list[tuple[bytes | None, bytes | None]]) -> list[Transaction | Reason]:
    together = parse_transactions([key for _, key in records], [raw for raw, _ in records])
    return [each.reason if isinstance(each, BadMessageError) else each for each in together]


def test_messages_that_are_read_together_have_the_outcomes_that_they_have_alone() -> None:
    records: list[tuple[bytes | None, bytes | None]] = [(raw, b"card-1") for raw in ACCEPTED.values()]
    records += [(raw, b"card-1") for raw, _ in REFUSED.values()]
    records += [(TRANSACTION.to_json(), key) for key in (None, b"", b"card-2", b"\xff", b"card-1\ncard-1")]
    for field in ("transaction_id", "card_id", "terminal_id", "merchant_id", "device_id"):
        records += [(changed(PLACED, **{field: wrong}), b"card-1") for wrong in WRONG_IDS]
    alone = [outcome_alone(*record) for record in records]
    assert {each for each in alone if isinstance(each, Reason)} > {Reason.ID_INVALID, Reason.KEY_MISMATCH}
    assert [outcomes_together([record])[0] for record in records] == alone  # no neighbour spoils its block
    assert outcomes_together(records) == alone
    for message in (TRANSACTION, PLACED):
        beside = (message.to_json(), b"card-1")
        for record, outcome in zip(records, alone, strict=True):  # it spoils the block of a good one
            assert outcomes_together([beside, record, beside]) == [message, outcome, message]


def test_a_transaction_survives_the_wire() -> None:
    assert parse_transaction(TRANSACTION.to_json(), b"card-1") == TRANSACTION
    assert parse_transaction(PLACED.to_json(), b"card-1") == PLACED


def test_a_message_of_version_1_has_no_later_field() -> None:
    assert parse_transaction(changed(TRANSACTION, country="DE", latitude_cdeg=1), b"card-1") == TRANSACTION


def test_a_label_survives_the_wire() -> None:
    assert parse_label(LABEL.to_json(), b"term-1") == LABEL


@pytest.mark.parametrize(
    ("raw", "key", "reason"),
    [
        (None, b"term-1", Reason.NOT_JSON),
        (LABEL.to_json()[:-3], b"term-1", Reason.NOT_JSON),
        (LABEL.to_json()[:-1] + b',"is_fraud":false}', b"term-1", Reason.DUPLICATE_KEY),
        (changed(LABEL, schema_version=7), b"term-1", Reason.SCHEMA_UNKNOWN),
        (changed(LABEL, known_at_ms=REMOVED), b"term-1", Reason.FIELD_MISSING),
        (changed(LABEL, is_fraud=1), b"term-1", Reason.FIELD_TYPE),
        (changed(LABEL, source="rumour"), b"term-1", Reason.FIELD_TYPE),
        (changed(LABEL, transaction_id=""), b"term-1", Reason.ID_INVALID),
        (changed(LABEL, card_id="a:b"), b"term-1", Reason.ID_INVALID),
        (changed(LABEL, terminal_id="a\n"), b"term-1", Reason.ID_INVALID),
        (changed(LABEL, occurred_at_ms=0), b"term-1", Reason.TIME_OUT_OF_RANGE),
        (changed(LABEL, known_at_ms=TEN // 1000), b"term-1", Reason.TIME_OUT_OF_RANGE),
        (changed(LABEL, sent_at_ms=0), b"term-1", Reason.TIME_OUT_OF_RANGE),
        (changed(LABEL, known_at_ms=TEN - 1), b"term-1", Reason.TIME_OUT_OF_RANGE),
        (LABEL.to_json(), None, Reason.KEY_MISMATCH),
        (LABEL.to_json(), b"card-1", Reason.KEY_MISMATCH),
    ],
)
def test_a_bad_label_is_refused_with_its_reason(raw: bytes | None, key: bytes | None, reason: Reason) -> None:
    with pytest.raises(BadMessageError) as refused:
        parse_label(raw, key)
    assert refused.value.reason == reason


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 60))
def test_no_bytes_make_the_parser_raise_anything_else(noise: bytes, at: int, cut: int) -> None:
    for message in (TRANSACTION, LABEL):
        raw = message.to_json()
        for candidate in (noise, raw[:at] + noise + raw[at + cut :]):
            for parse in (parse_transaction, parse_label):
                try:
                    parse(candidate, b"card-1")
                except BadMessageError as error:
                    assert error.reason in Reason


def test_every_reason_has_its_sentence() -> None:
    assert MEANING.keys() == set(Reason)


def test_the_hash_of_an_id_is_the_same_on_every_machine_and_day() -> None:
    assert id_hash("tx-1") == 7726700342316911226
