"""Kafka before anything streams: whether a broker is there, and its topics, made as the settings say.

Rule 1. A topic is never changed: another partition count than asked for is refused, with the remedy.
"""

from __future__ import annotations

import time
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaConnectionError, TopicAlreadyExistsError

from adapters.ports import answers
from fraud import topics

LOOK_AGAIN_S: Final = 0.2


class TopicMismatchError(RuntimeError):
    """The broker's topics are not those that the settings ask for; the message names the remedy."""


def refuse_silence(bootstrap: str) -> None:
    """Raise KafkaConnectionError at once when nothing listens at any of the addresses: a client would try for half a minute."""
    if not any(_listens(server) for server in bootstrap.split(",")):
        raise KafkaConnectionError(bootstrap)


def _listens(server: str) -> bool:
    host, _, port = server.strip().rpartition(":")
    return (
        answers(host, int(port)) if port.isdecimal() else True
    )  # the client says better what is wrong with an address


def ensure_topics(bootstrap: str, partitions: int, timeout_s: float = 30) -> list[str]:
    """Make every missing topic of fraud.topics; return the names of those made.

    Raises TopicMismatchError when a topic exists with another partition count, which cannot change without
    moving cards between partitions.
    """
    deadline_s = time.monotonic() + timeout_s
    wanted = {t.name: (partitions if t.partitioned else 1) for t in topics.ALL}
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(timeout_s * 1000))
    try:
        while True:
            existing = set(admin.list_topics())
            _refuse_other_counts(admin, {name: count for name, count in wanted.items() if name in existing})
            missing = {name: count for name, count in wanted.items() if name not in existing}
            try:
                _create(admin, missing, timeout_s)
                return list(missing)
            except TopicAlreadyExistsError:
                # Another init step has made them, or a broker that has just started did not list them yet: look again,
                # for their counts are still to be compared.
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(LOOK_AGAIN_S)
    finally:
        admin.close()


def _create(admin: KafkaAdminClient, counts: dict[str, int], timeout_s: float) -> None:
    configs = {t.name: t.config() for t in topics.ALL}
    made = [
        NewTopic(name, num_partitions=count, replication_factor=1, topic_configs=configs[name])
        for name, count in counts.items()
    ]
    if made:
        admin.create_topics(made, timeout_ms=int(timeout_s * 1000))


def _refuse_other_counts(admin: KafkaAdminClient, wanted: dict[str, int]) -> None:
    if not wanted:
        return
    for described in admin.describe_topics(sorted(wanted)):
        name = described.get("name") or described.get("topic")
        count = len(described["partitions"])
        if count != wanted[name]:
            raise TopicMismatchError(
                f"topic {name} has {count} partitions, the settings say {wanted[name]}: "
                f"set FRAUD_PARTITIONS={count}, or start with empty topics"
            )
