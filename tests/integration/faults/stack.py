"""A broker, a Redis and the services under test, on this machine.

Rule 1. What the services run on can be killed, started again, emptied, and (Redis) put back to an earlier moment.
Rule 2. Drained means: every stage stands at the end of its log, and stays there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, get_args

import redis
from kafka import KafkaAdminClient

from adapters.backends import Server
from adapters.kafka_admin import ensure_topics
from adapters.lake import Lake
from adapters.state_store import Stage, StateReader
from fraud import topics
from fraud.features import FEATURE_HASH
from tests.integration.faults.feeder import feed
from tests.integration.faults.logs import end_offsets
from tests.integration.faults.processes import Service, wait_until
from tests.integration.faults.seeded_log import Sent

DRAIN_SECONDS_MAX: Final = 60.0
TOPICS_SECONDS_MAX: Final = 20.0
WORKER: Final = ["-m", "tests.integration.faults.faulty_worker"]
NEXT_RELEASE: Final = ["-m", "tests.integration.faults.next_release"]
EXPLORATION_SHARE: Final = 0.5
SOURCE: Final[dict[Stage, str]] = {"card": "transactions", "labels": "labels", "terminal": "terminal-log"}


class Stack:
    """Where the servers are, and the services started on them."""

    def __init__(self, broker: Server, store: Server, folder: Path, partitions: int) -> None:
        self.broker = broker
        self.store = store
        self.bootstrap = broker.address
        self.redis_url = store.address
        self.partitions = partitions
        self.folder = folder
        self.feature_hash = FEATURE_HASH
        self.services: list[Service] = []
        self._runs = 0

    def empty(self) -> None:
        """End the services; topics, groups, state and lake as on the first day."""
        self.end_services()
        self.feature_hash = FEATURE_HASH
        for server in (self.broker, self.store):
            if not server.alive():
                server.start()
        self._runs += 1
        self.run_folder.mkdir(parents=True)
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            ours = [topic.name for topic in topics.ALL]
            if existing := [name for name in admin.list_topics() if name in ours]:
                admin.delete_topics(existing)
            gone = lambda: not set(admin.list_topics()) & set(ours)  # noqa: E731
            wait_until("topics deleted", gone, TOPICS_SECONDS_MAX, lambda: str(admin.list_topics()))
            admin.delete_groups([group["group_id"] for group in admin.list_groups()])
        finally:
            admin.close()
        ensure_topics(self.bootstrap, self.partitions)
        names = list(SOURCE.values())
        made = lambda: len(end_offsets(self.bootstrap, names)) == len(names) * self.partitions  # noqa: E731
        wait_until("the broker knows the topics", made, TOPICS_SECONDS_MAX, lambda: "topics of before")

    def end_services(self) -> None:
        """Kill what runs."""
        for service in self.services:
            service.discard()
        self.services = []

    @property
    def run_folder(self) -> Path:
        """Where the services of this run keep their files."""
        return self.folder / f"run-{self._runs}"

    def worker(self, name: str = "0", **settings: str) -> Service:
        """A feature worker, not started; `settings`: more of its environment."""
        return self._service(f"worker-{name}", WORKER, {"FRAUD_WORKER_ID": name, **settings})

    def next_release(self, what: str, *arguments: str) -> Service:
        """The `worker`, `scorer` or `features` command of a release with other features, not started."""
        return self._service(f"next-{what}", [*NEXT_RELEASE, what, *arguments], {})

    def scorer(self) -> Service:
        """The scorer, not started; it lets half of the declined through, so that a log has some. Without the batch path."""
        settings = {"FRAUD_EXPLORATION_SHARE": str(EXPLORATION_SHARE), "FRAUD_BATCH_PATH": "false"}
        return self._service("scorer", ["-m", "scorer"], settings)

    def archiver(self) -> Service:
        """The archiver, not started; it writes a file every half second."""
        return self._service("archiver", ["-m", "trainer", "archive"], {"FRAUD_ARCHIVE_AGE_MAX_S": "0.5"})

    def feed(self, sent: Sequence[Sent]) -> None:
        """Write records as fast as it goes."""
        feed(self.bootstrap, self.partitions, sent)

    def drain(self, seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """Tend the services until the feature worker has taken everything."""
        self._tend_until("the feature worker takes everything", lambda: not self.behind(), seconds_max)

    def drain_readers(self, seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """Tend the services until scorer and archiver have taken everything, too."""
        self.drain_scorer(seconds_max)
        self.drain_archiver(seconds_max)

    def drain_archiver(self, seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """Tend the services until the archiver has taken everything."""
        self._tend_until("the archiver writes everything", self._is_archived, seconds_max)

    def drain_scorer(self, seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """Tend the services until the scorer has taken everything, too."""
        self._tend_until("the scorer commits the end of features", self._is_scored, seconds_max)

    def tend(self) -> None:
        """Start again what asks for it."""
        for service in self.services:
            service.tend()

    def behind(self) -> list[str]:
        """Stages that are not at the end of their log."""
        late: list[str] = []
        ends = end_offsets(self.bootstrap, list(SOURCE.values()))
        state = StateReader(self.redis_url, self.feature_hash)
        try:
            for stage in get_args(Stage):
                for p in range(self.partitions):
                    at, end = state.read(stage, p).next or 0, ends[SOURCE[stage], p]
                    if at != end:
                        late.append(f"{stage}/{p} at {at} of {end}")
        finally:
            state.close()
        return late

    def lake(self) -> Lake:
        """The lake of this run."""
        return Lake(self.run_folder / "lake")

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """Redis as it was on entry, on exit: what a crash that loses the newest writes does, at an exact moment."""
        with redis.Redis.from_url(self.redis_url) as client:
            kept = {key: client.dump(key) for key in client.scan_iter()}
            yield
            pipeline = client.pipeline(transaction=True)
            for key in client.scan_iter():
                pipeline.delete(key)
            for key, value in kept.items():
                pipeline.restore(key, 0, value)  # type: ignore[arg-type]  # redis-py types both clients at once
            pipeline.execute()

    def _tend_until(self, what: str, is_so: object, seconds_max: float) -> None:
        def tended() -> bool:
            self.tend()
            return bool(is_so())  # type: ignore[operator]

        wait_until(what, tended, seconds_max, self._where_it_stands)

    def _where_it_stands(self) -> str:
        tails = "\n".join(f"--- {service.name} {service.codes}\n{service.tail(6)}" for service in self.services)
        return f"{self.behind() or 'the feature worker is done'}\n{tails}"

    def _is_scored(self) -> bool:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            committed = admin.list_group_offsets("scorer")["scorer"]
        finally:
            admin.close()
        at = {(tp.topic, tp.partition): one.offset for tp, one in committed.items()}
        return all(at.get(where, 0) == end for where, end in end_offsets(self.bootstrap, ["features"]).items())

    def _is_archived(self) -> bool:
        archived = [topic.name for topic in topics.ALL if topic is not topics.CONTROL]
        lake = self.lake()
        ends = end_offsets(self.bootstrap, archived)
        return all((lake.next_offset(topic, p) or 0) == end for (topic, p), end in ends.items())

    def _service(self, name: str, command: list[str], more: dict[str, str]) -> Service:
        environment = {
            "FRAUD_KAFKA_BOOTSTRAP": self.bootstrap,
            "FRAUD_REDIS_URL": self.redis_url,
            "FRAUD_STATE_DIR": str(self.run_folder),
            "FRAUD_PARTITIONS": str(self.partitions),
            **more,
        }
        service = Service(name, command, environment, self.run_folder)
        self.services.append(service)
        return service
