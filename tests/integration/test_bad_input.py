"""Every bad input of the specification, through the real feature worker: its stated outcome, and nothing lost around it.

Rule 1. Each input stands between two good transactions of its own card, and both must come out.
Rule 2. After that the checker compares everything, so that an outcome without its counter or dead letter is found too.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from adapters.kafka import partition_for
from fraud import packed
from fraud.labels import Label
from fraud.transaction import Transaction
from fraud.windows import DAY_MS
from tests.integration.faults.checker import READ_TOPICS, differences, summary
from tests.integration.faults.logs import read_logs, rows_of
from tests.integration.faults.seeded_log import BEGIN_MS, Sent
from tests.integration.faults.stack import Stack

T = BEGIN_MS + 100 * DAY_MS
ACCEPTED, IGNORED = "accepted", "ignored as duplicate"
ENDED_SECONDS_MAX = 60.0


def good(name: str, number: int, **fields: Any) -> Transaction:
    transaction = Transaction(f"{name}-{number}", f"card-{name}", f"terminal-{name}", 500, "EUR", T, T)
    return Transaction(**{f: getattr(transaction, f) for f in transaction.__struct_fields__} | fields)


def changed(name: str, **fields: Any) -> bytes:
    """The middle transaction of a case as JSON, with fields changed; a field set to None is left out."""
    body = json.loads(good(name, 1).to_json()) | fields
    return json.dumps({field: value for field, value in body.items() if value is not None}).encode()


def middle(name: str) -> bytes:
    return good(name, 1).to_json()


KEY = "card"  # the record's key is the card's id
# name: (record value, key, outcome)
CASES: dict[str, tuple[bytes | None, bytes | str | None, str]] = {
    "not-json": (b"hello", KEY, "NOT_JSON"),
    "truncated": (middle("truncated")[:-20], KEY, "NOT_JSON"),
    "no-value": (None, KEY, "NOT_JSON"),
    "empty": (b"", KEY, "NOT_JSON"),
    "array": (b"[" + middle("array") + b"]", KEY, "NOT_JSON"),
    "not-utf8": (middle("not-utf8").replace(b"EUR", b"\xff\xfe\xfd"), KEY, "NOT_JSON"),
    "nested": (b'{"a":' * 5000 + b"1" + b"}" * 5000, KEY, "TOO_LARGE"),
    "nested-small": (b'{"a":' * 2000 + b"1" + b"}" * 2000, KEY, "NOT_JSON"),
    "17-kib": (changed("17-kib", note="x" * 17_000), KEY, "TOO_LARGE"),
    "1000-kib": (changed("1000-kib", note="x" * 1_000_000), KEY, "TOO_LARGE"),
    "repeated-key": (
        middle("repeated-key").replace(b'"amount_minor":500', b'"amount_minor":500,"amount_minor":1'),
        KEY,
        "DUPLICATE_KEY",
    ),
    "schema-2": (changed("schema-2", schema_version=3), KEY, "SCHEMA_UNKNOWN"),
    "no-amount": (changed("no-amount", amount_minor=None), KEY, "FIELD_MISSING"),
    "text-amount": (changed("text-amount", amount_minor="500"), KEY, "FIELD_TYPE"),
    "float-amount": (changed("float-amount", amount_minor=5.01), KEY, "FIELD_TYPE"),
    "number-id": (changed("number-id", transaction_id=7), KEY, "FIELD_TYPE"),
    "amount-0": (changed("amount-0", amount_minor=0), KEY, ACCEPTED),
    "amount-largest": (changed("amount-largest", amount_minor=10**12), KEY, ACCEPTED),
    "amount-beyond": (changed("amount-beyond", amount_minor=10**12 + 1), KEY, "AMOUNT_OUT_OF_RANGE"),
    "amount-negative": (changed("amount-negative", amount_minor=-1), KEY, "AMOUNT_OUT_OF_RANGE"),
    "currency": (changed("currency", currency="XTS"), KEY, "CURRENCY_UNKNOWN"),
    "time-1970": (changed("time-1970", occurred_at_ms=0), KEY, "TIME_OUT_OF_RANGE"),
    "time-in-seconds": (changed("time-in-seconds", occurred_at_ms=T // 1000), KEY, "TIME_OUT_OF_RANGE"),
    "time-in-a-year": (changed("time-in-a-year", occurred_at_ms=T + 365 * DAY_MS), KEY, "TIME_FROM_FUTURE"),
    "time-too-late": (changed("time-too-late", occurred_at_ms=T - 31 * DAY_MS), KEY, "TOO_LATE"),
    "id-empty": (changed("id-empty", transaction_id=""), KEY, "ID_INVALID"),
    "id-300": (changed("id-300", transaction_id="x" * 300), KEY, "ID_INVALID"),
    "id-punctuation": (changed("id-punctuation", terminal_id="m:{1}*"), KEY, "ID_INVALID"),
    "id-newline": (changed("id-newline", terminal_id="m1\nm2"), KEY, "ID_INVALID"),
    "key-null": (middle("key-null"), None, "KEY_MISMATCH"),
    "key-other": (middle("key-other"), b"card-of-another", "KEY_MISMATCH"),
    "unknown-field": (changed("unknown-field", device="d1"), KEY, ACCEPTED),
    "repeated": (good("repeated", 0).to_json(), KEY, IGNORED),
    "repeated-otherwise": (good("repeated-otherwise", 0, amount_minor=9).to_json(), KEY, IGNORED),
}


def _label(name: str, **fields: Any) -> Label:
    of = good(name, 0)
    known = T + 7 * DAY_MS
    label = Label(of.transaction_id, of.card_id, of.terminal_id, T, True, known, "benchmark", known)
    return Label(**{f: getattr(label, f) for f in label.__struct_fields__} | fields)


def _label_cases() -> dict[str, tuple[bytes | None, bytes, str]]:
    def case(name: str, outcome: str, **fields: Any) -> tuple[bytes, bytes, str]:
        label = _label(name, **fields)
        return label.to_json(), label.terminal_id.encode(), outcome

    key = b"terminal-label"
    return {
        "label": case("label", ACCEPTED),
        "label-of-nobody": case("label", "LABEL_UNKNOWN_TRANSACTION", transaction_id="nobody"),
        "label-of-another-time": case("label", "LABEL_UNKNOWN_TRANSACTION", occurred_at_ms=T - 1),
        "label-known-before": case("label", "TIME_OUT_OF_RANGE", known_at_ms=T - 1),
        "label-id": case("label", "ID_INVALID", card_id=""),
        "label-not-json": (b"{", key, "NOT_JSON"),
        "label-without-fields": (b"{}", key, "FIELD_MISSING"),
        "label-without-value": (None, key, "NOT_JSON"),
        "label-key": (_label("label").to_json(), b"terminal-of-another", "KEY_MISMATCH"),
    }


def _records(partitions: int) -> tuple[list[Sent], dict[tuple[str, int, int], str]]:
    """The records to send, and the expected outcome by the place that each of the cases will have in the log."""
    sent: list[Sent] = []
    outcomes: dict[tuple[str, int, int], str] = {}
    ends: dict[tuple[str, int], int] = {}

    def send(topic: str, key: bytes | None, value: bytes | None, outcome: str) -> None:
        place = (topic, partition_for((key or b"").decode(), partitions))
        outcomes[*place, ends.get(place, 0)] = outcome
        ends[place] = ends.get(place, 0) + 1
        sent.append(Sent(T, topic, key, value))

    for name, (value, key, outcome) in CASES.items():
        card = f"card-{name}".encode()
        send("transactions", card, good(name, 0).to_json(), ACCEPTED)
        send("transactions", card if key == KEY else key, value, outcome)  # type: ignore[arg-type]  # KEY is the only text
        send("transactions", card, good(name, 2).to_json(), ACCEPTED)
    send("transactions", b"card-label", good("label", 0).to_json(), ACCEPTED)
    for value, key, outcome in _label_cases().values():
        send("labels", key, value, outcome)
    return sent, outcomes


def test_every_bad_input_has_its_stated_outcome_and_loses_nothing_around_it(stack: Stack) -> None:
    sent, expected = _records(stack.partitions)
    stack.feed(sent)
    stack.worker().start()
    stack.drain()
    found = differences(stack.bootstrap, stack.redis_url)
    assert not found, summary(found)
    logs = read_logs(stack.bootstrap, READ_TOPICS)
    outcomes = dict.fromkeys(expected, IGNORED)
    for records in logs["terminal-log"]:
        outcomes |= {origin: ACCEPTED for origin, _ in rows_of(records, (packed.CARD_VECTORS, packed.LABELS))}
    for topic in ("transactions.dlq", "labels.dlq", "terminal-log.dlq"):
        for record in logs[topic][0]:
            told = {name: value.decode() for name, value in record.headers.items()}
            outcomes[told["topic"], int(told["partition"]), int(told["offset"])] = told["reason"]
            assert told["detail"]
    assert outcomes == expected
    served = sum(len(rows_of(records, (packed.VECTORS,))) for records in logs["features"])
    assert served == sum(outcome == ACCEPTED and where[0] == "transactions" for where, outcome in expected.items())


def test_a_message_of_10_mb_is_refused_by_the_broker_and_loses_nothing_around_it(stack: Stack) -> None:
    async def send_three() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap, max_request_size=20_000_000)
        await producer.start()
        try:
            for number, note in ((0, ""), (1, "x" * 10_000_000), (2, "")):
                value = json.dumps(json.loads(good("large", number).to_json()) | {"note": note}).encode()
                sending = producer.send_and_wait("transactions", value, b"card-large", partition=0)
                if note:
                    with pytest.raises(MessageSizeTooLargeError):
                        await sending
                else:
                    await sending
        finally:
            await producer.stop()

    asyncio.run(send_three())
    stack.worker().start()
    stack.drain()
    found = differences(stack.bootstrap, stack.redis_url)
    assert not found, summary(found)
    served = sum(len(rows_of(r, (packed.VECTORS,))) for r in read_logs(stack.bootstrap, ["features"])["features"])
    assert served == 2


def test_a_flood_of_dead_letters_stops_the_worker_with_a_message_and_eats_nothing(stack: Stack) -> None:
    #  transactions   | 150 good | 400 bad |
    #  dead letters   none of the bad, until a person lets them pass
    key = b"card-flood"
    good_ones = [Sent(T, "transactions", key, good("flood", number).to_json()) for number in range(150)]
    bad_ones = [Sent(T, "transactions", key, b"bad") for _ in range(400)]
    stack.feed(good_ones)
    worker = stack.worker(FRAUD_DEAD_LETTER_RECORDS_MIN="200")
    worker.start()
    stack.drain()
    stack.feed(bad_ones)
    assert worker.wait(ENDED_SECONDS_MAX) == 2
    assert "FRAUD_DEAD_LETTER_SHARE_MAX" in worker.tail()
    before = read_logs(stack.bootstrap, ["transactions.dlq"])["transactions.dlq"][0]
    assert len(before) < 200
    behind = stack.behind()
    assert len(behind) == 1
    assert behind[0].startswith("card/")
    worker.start(FRAUD_DEAD_LETTER_SHARE_MAX="1")
    stack.drain()
    found = differences(stack.bootstrap, stack.redis_url)
    assert not found, summary(found)
    after = read_logs(stack.bootstrap, ["transactions.dlq"])["transactions.dlq"][0]
    assert len({record.headers["offset"] for record in after}) == len(bad_ones)
