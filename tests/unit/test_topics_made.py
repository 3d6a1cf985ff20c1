"""Making topics: on a broker that does not list yet what it has."""

from __future__ import annotations

from typing import Any

import pytest
from kafka.errors import TopicAlreadyExistsError

from adapters import kafka_admin
from adapters.kafka_admin import TopicMismatchError, ensure_topics
from fraud import topics


class Broker:
    """A broker that has `counts`, and lists nothing at the first `blind` looks."""

    def __init__(self, counts: dict[str, int], blind: int) -> None:
        self.counts = counts
        self._blind = blind

    def __call__(self, **_: Any) -> Broker:
        return self

    def list_topics(self) -> list[str]:
        self._blind -= 1
        return [] if self._blind >= 0 else list(self.counts)

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"name": name, "partitions": [None] * self.counts[name]} for name in names]

    def create_topics(self, wanted: list[Any], **_: Any) -> None:
        if any(topic.name in self.counts for topic in wanted):
            raise TopicAlreadyExistsError("there it is")
        self.counts |= {topic.name: topic.num_partitions for topic in wanted}

    def close(self) -> None:
        return


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_admin, "LOOK_AGAIN_S", 0.0)


def broker_with(monkeypatch: pytest.MonkeyPatch, partitions: int, blind: int) -> Broker:
    counts = {t.name: (partitions if t.partitioned else 1) for t in topics.ALL} if partitions else {}
    broker = Broker(counts, blind)
    monkeypatch.setattr(kafka_admin, "KafkaAdminClient", broker)
    return broker


def test_every_missing_topic_is_made_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = broker_with(monkeypatch, 0, 0)
    assert ensure_topics("here", 2) == [t.name for t in topics.ALL]
    assert broker.counts[topics.TRANSACTIONS.name] == 2
    assert ensure_topics("here", 2) == []


@pytest.mark.parametrize("blind", [0, 1, 3])
def test_other_partition_counts_are_refused_also_by_a_broker_that_lists_them_late(
    monkeypatch: pytest.MonkeyPatch, blind: int
) -> None:
    broker_with(monkeypatch, 2, blind)
    with pytest.raises(TopicMismatchError, match="FRAUD_PARTITIONS=2"):
        ensure_topics("here", 3)


def test_topics_that_are_listed_late_with_the_right_counts_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    broker_with(monkeypatch, 2, 2)
    assert ensure_topics("here", 2) == []


def test_a_broker_that_never_lists_them_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    broker_with(monkeypatch, 2, 1_000_000)
    with pytest.raises(TopicAlreadyExistsError):
        ensure_topics("here", 2, timeout_s=0.2)
