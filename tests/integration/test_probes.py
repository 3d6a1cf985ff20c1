"""The probes on a real broker and a real Redis: ages are those of the records, and what is away is shown as away.

Rule 1. A test's places are its own: it counts from where the log ends at its start.
"""

from __future__ import annotations

import itertools
import time
from contextlib import closing
from pathlib import Path

import pytest
import redis
from kafka import KafkaConsumer, TopicPartition
from prometheus_client import REGISTRY

from adapters.backends.server import Server
from fraud import metrics
from monitoring.probes import LagProbe, StateStoreProbe, state_reader
from tests.conftest import own_server
from tests.integration.log_writer import write


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_the_age_is_that_of_the_oldest_record_not_taken_and_0_at_the_end(kafka_bootstrap: str, redis_url: str) -> None:
    alerts, labels = TopicPartition("alerts", 0), TopicPartition("labels", 0)
    began_ms = now_ms()
    for topic in (alerts.topic, labels.topic):
        write(kafka_bootstrap, topic, 0, [(b"k", b"one", []), (b"k", b"two", [])])
    ended_ms = now_ms()
    with closing(KafkaConsumer(bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest")) as consumer:
        places = [alerts, labels, TopicPartition("scores", 0)]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        later_ms = ended_ms + 60_000
        probe = LagProbe(kafka_bootstrap, state_reader(redis_url), 1, "scorer", lambda: later_ms)
        ages = probe.ages(consumer, {**ends, alerts: ends[alerts] - 2})
        again = probe.ages(consumer, {labels: ends[labels] - 1, alerts: ends[alerts] - 1})
    assert (ages[labels], ages[TopicPartition("scores", 0)]) == (0.0, 0.0)
    assert ages[alerts] is not None
    assert 60 <= ages[alerts] <= 60 + (ended_ms - began_ms) / 1000
    assert all(age is not None and age >= 60 for age in again.values())


def test_looks_show_the_stages_of_the_state_and_the_groups_over_the_same_connections(
    kafka_bootstrap: str, redis_url: str
) -> None:
    later_ms = [now_ms()]
    probe = LagProbe(kafka_bootstrap, state_reader(redis_url), 1, "scorer", lambda: later_ms[0])
    write(kafka_bootstrap, "transactions", 0, [(b"k", b"not taken", [])])
    labels = {"stage": "card", "topic": "transactions", "partition": "0"}
    ages_s = []
    with closing(probe):
        for _ in range(3):
            later_ms[0] += 60_000
            probe.look()
            ages_s.append(REGISTRY.get_sample_value(metrics.LAG_SECONDS.name, labels) or 0.0)
    assert all(later - earlier == pytest.approx(60) for earlier, later in itertools.pairwise(ages_s))


def value(metric: metrics.Metric) -> float | None:
    return REGISTRY.get_sample_value(metric.name)


def looked(server: Server) -> None:
    client = redis.Redis.from_url(server.address, socket_timeout=2, socket_connect_timeout=2)
    StateStoreProbe(client).look()


def test_the_store_is_shown_full_written_unwritten_and_away(tmp_path: Path) -> None:
    with own_server("redis", tmp_path / "redis") as server:
        looked(server)
        assert (value(metrics.STATE_STORE_UP), value(metrics.STATE_STORE_PERSISTED)) == (1, 1)
        used, most = value(metrics.STATE_STORE_MEMORY_BYTES), value(metrics.STATE_STORE_MEMORY_MAX_BYTES)
        assert used is not None
        assert most is not None
        assert 0 < used < most
        client = redis.Redis.from_url(server.address)
        client.config_set("maxmemory", "77777777")
        client.config_set("appendonly", "no")
        looked(server)
        assert value(metrics.STATE_STORE_MEMORY_MAX_BYTES) == 77_777_777
        assert value(metrics.STATE_STORE_PERSISTED) == 0
        server.kill()
        looked(server)
        assert value(metrics.STATE_STORE_UP) == 0
