"""Every topic of the stack: name, key, settings, who writes and who reads. No topic is named anywhere else.

Rule 1. Topics are made by one init step with these settings; brokers run with auto-create off.
Rule 2. Record timestamps are the broker's (LogAppendTime): event times of 2018 would make retention delete the log at once.
Rule 3. Every data topic has the same number of partitions, so that a card or terminal keeps its partition number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MIB: Final = 1024 * 1024
DAYS_7_MS: Final = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `partitioned` ones have the stack's partition count, the others one partition.

    archived: it goes into the lake. Whoever trains reads the lake, so nothing stands there that tells frauds before labels do.
    """

    name: str
    key: str
    value: str
    written_by: str
    read_by: str
    partitioned: bool = True
    dead_letters: bool = False
    archived: bool = True
    retention_ms: int = DAYS_7_MS
    max_message_bytes: int = MIB
    settings: dict[str, str] = field(default_factory=dict)

    def config(self) -> dict[str, str]:
        """The topic's settings, as the broker takes them at creation."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime",
            "segment.bytes": str(256 * MIB),
            **self.settings,
        }


TRANSACTIONS: Final = Topic(
    "transactions", "card_id", "JSON: Transaction", "producer, anyone", "card stage, archiver", dead_letters=True
)
LABELS: Final = Topic(
    "labels", "terminal_id", "JSON: Label", "label service", "label forwarder, archiver, evaluator", dead_letters=True
)
TERMINAL_LOG: Final = Topic(
    "terminal-log",
    "none: partition of the terminal",
    "packed: card vectors, or labels",
    "card stage, label forwarder",
    "terminal stage, archiver",
    dead_letters=True,
)
FEATURES: Final = Topic(
    "features",
    "none: partition of the terminal",
    "packed: vectors",
    "terminal stage",
    "scorer, archiver, drift watch",
    dead_letters=True,
)
SCORES: Final = Topic(
    "scores",
    "none: partition of the terminal",
    "packed: scores",
    "scorer",
    "archiver, evaluator, drift watch, console",
    dead_letters=True,
)
ALERTS: Final = Topic("alerts", "card_id", "JSON: Alert", "scorer", "archiver, console, people", dead_letters=True)
DISPOSITIONS: Final = Topic(
    "dispositions",
    "transaction_id",
    "JSON: Disposition",
    "command line, console",
    "label service, archiver, console",
    partitioned=False,
)
TRUTH: Final = Topic(
    "truth",
    "none",
    "JSON: Truth",
    "producer",
    "evaluation only: no service on the way to a decision",
    partitioned=False,
    archived=False,
)
CONTROL: Final = Topic(
    "control",
    "none",
    "JSON: ControlRequest",
    "command line, console, producer, drift watch",
    "trainer, producer, console, feature worker, watch",
    partitioned=False,
    archived=False,  # it says which frauds were ordered, and when
    retention_ms=-1,  # the simulated clock, the scenario runs and the switches are a fold over all of it
)

PUBLIC: Final = (TRANSACTIONS, LABELS, ALERTS, DISPOSITIONS, TRUTH, CONTROL)
INTERNAL: Final = (TERMINAL_LOG, FEATURES, SCORES)


def dead_letter_topic(topic: Topic) -> Topic:
    """Where what a reader of `topic` refuses goes: the original bytes, and headers that say why and from where."""
    return Topic(
        f"{topic.name}.dlq",
        topic.key,
        "the original bytes; headers reason, detail, topic, partition, offset",
        f"readers of {topic.name}",
        "people, archiver",
        partitioned=False,
        retention_ms=4 * DAYS_7_MS,
        max_message_bytes=2 * MIB,
    )


DATA: Final = (*PUBLIC, *INTERNAL)
ALL: Final = (*DATA, *(dead_letter_topic(topic) for topic in DATA if topic.dead_letters))
ARCHIVED: Final = tuple(topic for topic in ALL if topic.archived)
