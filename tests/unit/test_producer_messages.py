"""Messages made from columns equal those made one by one."""

from __future__ import annotations

from adapters.kafka import partition_for
from fraud.labels import Label, parse_label
from fraud.transaction import Transaction, parse_transaction
from producer.chunks import chunks
from producer.messages import label_values, label_writes, transaction_values, transaction_writes
from tests.unit.producer_rows import rows

(CHUNK,) = list(chunks([rows([1, 2, 2.5, 3], [10, 2, 3, 3], first=998)]))


def test_transactions_from_columns_equal_transactions_one_by_one():
    expected = [
        Transaction(
            r["transaction_id"],
            r["card_id"],
            r["terminal_id"],
            r["amount_minor"],
            "EUR",
            r["occurred_at_ms"],
            r["clock_ms"],
        ).to_json()
        for r in CHUNK.transactions.iter_rows(named=True)
    ]
    assert transaction_values(CHUNK.transactions) == expected


def test_labels_from_columns_equal_labels_one_by_one():
    expected = [
        Label(
            r["transaction_id"],
            r["card_id"],
            r["terminal_id"],
            r["occurred_at_ms"],
            r["is_fraud"],
            r["known_at_ms"],
            "benchmark",
            r["due_ms"],
        ).to_json()
        for r in CHUNK.labels.iter_rows(named=True)
    ]
    assert len(expected) == 3
    assert label_values(CHUNK.labels) == expected


def test_readers_accept_every_message_with_its_key():
    for _, records in transaction_writes(CHUNK.transactions, 1):
        for key, value, _ in records:
            parse_transaction(value, key)
    for _, records in label_writes(CHUNK.labels, 1):
        for key, value, _ in records:
            parse_label(value, key)


def test_every_message_goes_to_the_partition_of_its_key_in_order():
    whole = dict(transaction_writes(CHUNK.transactions, 1))[0]
    parts = dict(transaction_writes(CHUNK.transactions, 3))
    for partition, records in parts.items():
        assert records == [r for r in whole if partition_for(r[0].decode(), 3) == partition]
    assert sum(map(len, parts.values())) == len(whole)
