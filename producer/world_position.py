"""How far a world has been streamed, and what of it stands in the log beyond that.

Rule 1. A saved position is a moment of event time: everything planned at or before it is acknowledged, with where the
        topics ended then and what the label desk remembered. It is replaced whole.
Rule 2. After a kill the log since those ends says what was sent after the save; it is not sent again.
Rule 3. Without a position, or before another log, the whole topics are read: nothing is ever sent twice for want of a file.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import polars as pl
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from fraud import topics
from fraud.topics import Topic
from producer.label_desk import Memory, WaitingLabel
from producer.whole_file import write_whole

SENT_TOPICS: Final = (topics.TRANSACTIONS, topics.LABELS, topics.TRUTH)
HEARD_TOPICS: Final = (topics.ALERTS, topics.DISPOSITIONS)
READ_SECONDS_MAX: Final = 120.0
END_SECONDS_MAX: Final = 10.0
Offsets = dict[str, list[int]]  # topic -> next offset of each partition


class WorldPositionError(RuntimeError):
    """The position file cannot be used; the message names the remedy."""


class SavedPosition(msgspec.Struct):
    """clock_ms: everything planned at or before it is acknowledged; -1: nothing yet. settings: of the world then.
    live_from_ms: decisions on transactions from here on count, those on a history that was streamed at full speed do not.
    runs: scenario runs whose transactions are in the plan. ends: of the written topics, then. heard: what of the read topics
    is in the memory; all else is that memory.
    """

    clock_ms: int = -1
    settings: str = ""
    mode: Literal["fast", "live"] = "fast"
    live_from_ms: int = 0
    runs: list[str] = []
    ends: Offsets = {}
    heard: Offsets = {}
    waiting: list[WaitingLabel] = []
    frauds: dict[str, int] = {}
    declined: dict[str, int] = {}
    told: dict[str, tuple[int, bool]] = {}
    reviewed: dict[int, int] = {}

    def memory(self) -> Memory:
        """What the label desk remembered."""
        waiting = {(label.transaction_id, str(label.source)): label for label in self.waiting}
        return Memory(waiting, self.frauds, self.declined, self.told, self.reviewed)

    def remember(self, memory: Memory) -> None:
        """Take over what the label desk remembers."""
        self.waiting = list(memory.waiting.values())
        self.frauds, self.declined = memory.frauds, memory.declined
        self.told, self.reviewed = memory.told, memory.reviewed


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(SavedPosition)


class WorldPositionFile:
    """The position of one world, or of one producer's share of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> SavedPosition:
        """The saved position; the beginning when there is none. Raises WorldPositionError for a file that is not ours."""
        if not self._path.exists():
            return SavedPosition()
        try:
            return _decoder.decode(self._path.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise WorldPositionError(
                f"{self._path} is not a position file ({error}): remove it, and the log itself tells what was sent"
            ) from None

    def save(self, position: SavedPosition) -> None:
        """Replace the saved position."""
        encoded = _encode(position)
        write_whole(self._path, lambda beside: beside.write_bytes(encoded))


class AlreadySent:
    """What of the plan stands in the log beyond a saved position. Each is counted off once: a copy is sent as a copy.

    newest_ms: the producer's clock at the newest of the transactions, epoch milliseconds; -1 without any.
    """

    def __init__(self) -> None:
        self._transactions: Counter[str] = Counter()
        self._labels: Counter[tuple[str, str, bool]] = Counter()
        self._truths: Counter[str] = Counter()
        self.newest_ms = -1

    def __bool__(self) -> bool:
        return bool(self._transactions or self._labels or self._truths)

    def note(self, topic: str, value: bytes | None) -> None:
        """Count one record of a written topic; what is no message of ours counts nothing."""
        try:
            message: Any = msgspec.json.decode(value or b"")
            transaction_id = message["transaction_id"]
            if topic == topics.LABELS.name:
                self._labels[(transaction_id, message["source"], message["is_fraud"])] += 1
            elif topic == topics.TRUTH.name:
                self._truths[transaction_id] += 1
            else:
                self.newest_ms = max(self.newest_ms, int(message["sent_at_ms"]))
                self._transactions[transaction_id] += 1
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            return

    def takes_transaction(self, transaction_id: str) -> bool:
        """Whether this one is in the log already."""
        return _counted_off(self._transactions, transaction_id)

    def takes_truth(self, transaction_id: str) -> bool:
        """Whether this one's truth is in the log already."""
        return _counted_off(self._truths, transaction_id)

    def takes_label(self, label: WaitingLabel) -> bool:
        """Whether this label is in the log already."""
        return _counted_off(self._labels, (label.transaction_id, label.source, label.is_fraud))

    def unsent(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The transactions that are not in the log."""
        if not self._transactions:
            return rows
        return rows.filter(
            pl.Series([not self.takes_transaction(each) for each in rows["transaction_id"]], dtype=pl.Boolean)
        )

    def without_truth(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The frauds whose truth is not in the log."""
        frauds = rows.filter((pl.col("scenario") != "") & ~pl.col("is_copy"))
        return frauds.filter(
            pl.Series([not self.takes_truth(each) for each in frauds["transaction_id"]], dtype=pl.Boolean)
        )


def _counted_off(counter: Counter[Any], key: Any) -> bool:
    if counter[key] <= 0:
        del counter[key]
        return False
    counter[key] -= 1
    return True


def ends_of(consumer: KafkaConsumer, which: Iterable[Topic], partitions: int) -> Offsets:
    """The next offset of each partition of some topics."""
    places = {t.name: [TopicPartition(t.name, p) for p in range(partitions if t.partitioned else 1)] for t in which}
    ends = _end_offsets(consumer, [place for of_topic in places.values() for place in of_topic])
    return {name: [ends[place] for place in of_topic] for name, of_topic in places.items()}


def _end_offsets(consumer: KafkaConsumer, places: list[TopicPartition]) -> dict[TopicPartition, int]:
    """The next offsets. Where the broker leaves a partition out of its answer, the client fails with KeyError: ask again."""
    deadline_s = time.monotonic() + END_SECONDS_MAX
    while True:
        try:
            ends: dict[TopicPartition, int] = consumer.end_offsets(places)
            return ends
        except KeyError as left_out:
            if time.monotonic() > deadline_s:
                raise KafkaTimeoutError(f"the broker does not tell the end of {left_out}") from None


def already_sent(consumer: KafkaConsumer, saved: SavedPosition, partitions: int) -> tuple[SavedPosition, AlreadySent]:
    """The position to go on from, and what stands in the log beyond it.

    A log that ends before the position's own ends is another log: its world begins at the beginning.
    Raises WorldPositionError when the log cannot be read to its end in time.
    """
    ends = ends_of(consumer, SENT_TOPICS, partitions)
    if any(
        now < then for name, of_topic in saved.ends.items() for now, then in zip(ends[name], of_topic, strict=False)
    ):
        saved = SavedPosition()
    begins = saved.ends or {name: [0] * len(of_topic) for name, of_topic in ends.items()}
    sent = AlreadySent()
    for topic, value in read_between(consumer, begins, ends):
        sent.note(topic, value)
    return saved, sent


def read_between(
    consumer: KafkaConsumer, begins: Mapping[str, list[int]], ends: Mapping[str, list[int]]
) -> Iterable[tuple[str, bytes | None]]:
    """Topic and value of every record from some offsets to others. Raises WorldPositionError after READ_SECONDS_MAX."""
    wanted = {
        TopicPartition(name, p): (begin, end)
        for name, of_topic in ends.items()
        for p, (begin, end) in enumerate(zip(begins.get(name, [0] * len(of_topic)), of_topic, strict=True))
        if begin < end
    }
    if not wanted:
        return
    consumer.assign(list(wanted))
    for place, (begin, _) in wanted.items():
        consumer.seek(place, begin)
    deadline_s = time.monotonic() + READ_SECONDS_MAX
    while any(consumer.position(place) < end for place, (_, end) in wanted.items()):
        if time.monotonic() > deadline_s:
            raise WorldPositionError(
                f"the log could not be read to its end within {READ_SECONDS_MAX:.0f} s: try again when the broker is less busy"
            )
        for place, records in consumer.poll(timeout_ms=200, max_records=5000).items():
            for record in records:
                if record.offset < wanted[place][1]:
                    yield place.topic, record.value
