"""How much of each fraud scenario was caught: the truth beside the alerts and labels of the log.

Rule 1. This is evaluation: it reads the truth, which nothing on the way to a decision may.
Rule 2. A transaction is caught when it has an alert; a card, when one of its transactions has.
Rule 3. Topics are read whole, from their oldest record to where they ended at the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from kafka import KafkaConsumer, TopicPartition

from fraud import topics
from fraud.alert import Alert, parse_alert
from fraud.dead_letters import BadMessageError
from fraud.topics import Topic
from fraud.truth import Truth, parse_truth

READ_SECONDS_MAX: Final = 120.0
_T = TypeVar("_T")


class LogUnreadError(RuntimeError):
    """The log could not be read to its end in time; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of the frauds of one scenario, or of one run that a person started (run_id).

    alerted, declined: transactions with an alert, and those of them that were declined. cards_alerted: of `cards`.
    seconds_to_alert: median over the alerted cards, event time from a card's first fraud to its first alerted one; None without.
    labelled: transactions whose label says fraud.
    """

    scenario: str
    run_id: str | None
    transactions: int
    alerted: int
    declined: int
    cards: int
    cards_alerted: int
    seconds_to_alert: float | None
    labelled: int


def caught(truths: Sequence[Truth], alerts: Sequence[Alert], labelled_fraud: set[str]) -> list[Caught]:
    """One line per scenario of the background, then one per run, in order of their first fraud."""
    by_id = {alert.transaction_id: alert for alert in alerts}
    groups: dict[tuple[str | None, str], dict[str, Truth]] = {}
    for truth in sorted(truths, key=lambda each: (each.run_id is not None, each.occurred_at_ms)):
        groups.setdefault((truth.run_id, truth.scenario), {})[truth.transaction_id] = truth
    return [
        _one(scenario, run_id, list(of.values()), by_id, labelled_fraud) for (run_id, scenario), of in groups.items()
    ]


def _one(
    scenario: str, run_id: str | None, truths: Sequence[Truth], alerts: dict[str, Alert], labelled_fraud: set[str]
) -> Caught:
    first: dict[str, int] = {}
    first_alerted: dict[str, int] = {}
    for truth in truths:
        first.setdefault(truth.card_id, truth.occurred_at_ms)
        if truth.transaction_id in alerts:
            first_alerted.setdefault(truth.card_id, truth.occurred_at_ms)
    waits = sorted(at_ms - first[card] for card, at_ms in first_alerted.items())
    alerted = [alerts[truth.transaction_id] for truth in truths if truth.transaction_id in alerts]
    return Caught(
        scenario=scenario,
        run_id=run_id,
        transactions=len(truths),
        alerted=len(alerted),
        declined=sum(alert.decision == "decline" for alert in alerted),
        cards=len(first),
        cards_alerted=len(first_alerted),
        seconds_to_alert=waits[len(waits) // 2] / 1000 if waits else None,
        labelled=sum(truth.transaction_id in labelled_fraud for truth in truths),
    )


def measure_caught(consumer: KafkaConsumer) -> list[Caught]:
    """What was caught of everything that the log still has. `consumer`: connected, without a group.

    Raises LogUnreadError and kafka's KafkaError.
    """
    truths = list(_parsed(consumer, topics.TRUTH, parse_truth))
    alerts = list(_parsed(consumer, topics.ALERTS, parse_alert))
    labels: Iterator[dict[str, Any]] = _parsed(consumer, topics.LABELS, _label)
    told = {label["transaction_id"]: label["is_fraud"] for label in labels}
    return caught(truths, alerts, {transaction_id for transaction_id, is_fraud in told.items() if is_fraud})


def _label(raw: bytes | None) -> dict[str, Any]:
    label: dict[str, Any] = msgspec.json.decode(raw or b"{}")
    return {"transaction_id": label.get("transaction_id"), "is_fraud": label.get("is_fraud") is True}


def _parsed(consumer: KafkaConsumer, topic: Topic, parse: Callable[[bytes | None], _T]) -> Iterator[_T]:
    places = [TopicPartition(topic.name, number) for number in sorted(consumer.partitions_for_topic(topic.name) or ())]
    ends = {place: end for place, end in consumer.end_offsets(places).items() if end > 0}
    consumer.assign(list(ends))
    for place in ends:
        consumer.seek_to_beginning(place)
    deadline_s = time.monotonic() + READ_SECONDS_MAX
    while any(consumer.position(place) < end for place, end in ends.items()):
        if time.monotonic() > deadline_s:
            raise LogUnreadError(f"{topic.name} could not be read within {READ_SECONDS_MAX:.0f} s: try again later")
        for records in consumer.poll(timeout_ms=200, max_records=5000).values():
            for record in records:
                try:
                    yield parse(record.value)
                except (BadMessageError, msgspec.DecodeError):
                    continue
