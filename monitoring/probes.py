"""Probes: what no service tells of itself: how old the oldest record is that a stage has not taken, how the state store is,
how old the models are.

Rule 1. A probe looks and changes nothing; a stage's place is where its own state says, not what it claims.
Rule 2. What does not answer is shown as not answering, and never ends the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import redis
import structlog
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from adapters.state_store import Stage, StateReader
from adapters.telemetry import gauge
from fraud import metrics, topics
from fraud.features import FEATURE_HASH
from monitoring.peek import peeking_consumer
from monitoring.reference import Registry
from monitoring.series import Series

STATE_STAGES: Final[Mapping[Stage, str]] = {
    "card": topics.TRANSACTIONS.name,
    "labels": topics.LABELS.name,
    "terminal": topics.TERMINAL_LOG.name,
}
ARCHIVER: Final = "archiver"  # its consumer group: committed when a file is on disk
SCORER: Final = "scorer"
_PEEK_S_MAX: Final = 2.0
_ANSWER_MS_MAX: Final = 5_000

Places = Mapping[TopicPartition, int]
log = structlog.get_logger("monitoring.probes")


class LagProbe:
    """Age of the oldest record that each stage has not taken. Its connections stay open until a look fails."""

    def __init__(
        self,
        bootstrap: str,
        state: StateReader,
        partitions: int,
        scorer_group: str,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._bootstrap = bootstrap
        self._state = state
        self._partitions = partitions
        self._groups = {SCORER: scorer_group, ARCHIVER: ARCHIVER}
        self._now_ms = now_ms
        self._series = Series(metrics.LAG_SECONDS)
        self._admin: KafkaAdminClient | None = None
        self._consumer: KafkaConsumer | None = None

    def look(self) -> None:
        """Look once. Raises KafkaError and RedisError."""
        try:
            self._look()
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connections; the next look makes new ones."""
        for client in (self._admin, self._consumer):
            if client is not None:
                client.close()
        self._admin = self._consumer = None

    def _look(self) -> None:
        if self._admin is None:
            self._admin = KafkaAdminClient(
                bootstrap_servers=self._bootstrap,
                request_timeout_ms=_ANSWER_MS_MAX,
                bootstrap_timeout_ms=_ANSWER_MS_MAX,
            )
        if self._consumer is None:
            self._consumer = peeking_consumer(self._bootstrap, "lag-probe")
        stages = self._places(self._admin)
        # All at once: kafka-python loses the offsets of topics that are not assigned when others are.
        self._consumer.assign({tp for places in stages.values() for tp in places})
        samples: dict[tuple[str, ...], float | None] = {}
        for stage, places in stages.items():
            for tp, age_s in self.ages(self._consumer, places).items():
                samples[stage, tp.topic, str(tp.partition)] = age_s
        self._series.show(samples)

    def ages(self, consumer: Any, places: Places) -> dict[TopicPartition, float | None]:
        """Seconds since the record at each place was appended; 0 where the log ends there, None when it did not answer.

        consumer: has at least these places assigned.
        """
        begins = consumer.beginning_offsets(list(places), timeout_ms=_ANSWER_MS_MAX)
        ends = consumer.end_offsets(list(places), timeout_ms=_ANSWER_MS_MAX)
        behind = {tp: max(at, begins[tp]) for tp, at in places.items() if max(at, begins[tp]) < ends[tp]}
        ages: dict[TopicPartition, float | None] = {tp: None if tp in behind else 0.0 for tp in places}
        if not behind:
            return ages
        consumer.pause(*consumer.assignment())
        for tp, at in behind.items():
            consumer.seek(tp, at)
        consumer.resume(*behind)
        deadline, left = time.monotonic() + _PEEK_S_MAX, set(behind)
        while left and time.monotonic() < deadline:
            for tp, records in consumer.poll(timeout_ms=200).items():
                if tp in left:
                    ages[tp] = max(0.0, (self._now_ms() - records[0].timestamp) / 1000)
                    left.discard(tp)
                    consumer.pause(tp)
        return ages

    def _places(self, admin: KafkaAdminClient) -> dict[str, dict[TopicPartition, int]]:
        """The next offset of every source of every stage."""
        places: dict[str, dict[TopicPartition, int]] = {
            stage: {TopicPartition(topic, p): self._state.read(stage, p).next or 0 for p in range(self._partitions)}
            for stage, topic in STATE_STAGES.items()
        }
        for stage, group in self._groups.items():
            places[stage] = _committed(admin, group)
        return {stage: of for stage, of in places.items() if of}


def _committed(admin: KafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    """The offsets that a group has committed; none before it was ever there."""
    try:
        found: Mapping[str, Any] = admin.list_group_offsets([group])
    except KafkaError as error:
        log.info("no offsets of a group", group=group, error=repr(error))
        return {}
    return {tp: int(entry.offset) for tp, entry in found.get(group, {}).items() if entry.offset >= 0}


class StateStoreProbe:
    """Whether the state store answers, how full it is, and whether it writes its file."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def look(self) -> None:
        """Look once."""
        try:
            memory: Any = self._client.info("memory")
            persistence: Any = self._client.info("persistence")
        except (redis.RedisError, OSError) as error:
            gauge(metrics.STATE_STORE_UP).set(0)
            log.warning("the state store does not answer", error=str(error))
            return
        gauge(metrics.STATE_STORE_UP).set(1)
        gauge(metrics.STATE_STORE_MEMORY_BYTES).set(memory["used_memory"])
        gauge(metrics.STATE_STORE_MEMORY_MAX_BYTES).set(
            memory.get("maxmemory") or memory.get("total_system_memory") or 0
        )
        gauge(metrics.STATE_STORE_PERSISTED).set(is_persisted(persistence))


def is_persisted(info: Mapping[str, Any]) -> bool:
    """Whether `INFO persistence` says that the append-only file is on and was written well."""
    wrote = all(info.get(name, "ok") == "ok" for name in ("aof_last_write_status", "aof_last_bgrewrite_status"))
    return bool(info.get("aof_enabled")) and wrote


class RegistryProbe:
    """When the versions with a role were trained."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._series = Series(metrics.MODEL_AS_OF_SECONDS)

    def look(self) -> None:
        """Look once."""
        roles = self._registry.roles()
        manifests = {(role, version): self._registry.manifest(version) for role, version in roles.items()}
        self._series.show({key: None if m is None else m.as_of_ms / 1000 for key, m in manifests.items()})


def state_reader(url: str) -> StateReader:
    """The reading side of the state that this code's features keep."""
    return StateReader(url, FEATURE_HASH)


def look_at_all(probes: Iterable[LagProbe | StateStoreProbe | RegistryProbe]) -> None:
    """Let each look once; one that cannot is said, and the others look all the same."""
    for probe in probes:
        try:
            probe.look()
        except (KafkaError, redis.RedisError, OSError) as error:
            log.warning("probe failed", probe=type(probe).__name__, error=repr(error))
