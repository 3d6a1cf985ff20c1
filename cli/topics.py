"""`fraudstream topics tail NAME` and `fraudstream dlq list`.

Rule 1. One line per transaction or label, whatever form the topic has; what cannot be read is shown as bytes, not hidden.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from math import isnan
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from adapters.settings import StackSettings
from cli.alert_table import amount, event_time
from cli.failure import CommandError
from cli.reader import begin, connected
from fraud import packed, topics
from fraud.dead_letters import BadMessageError
from fraud.decision import DECISIONS
from fraud.features import NAMES

_POLL_MS: Final = 250
_SHOWN_BYTES_MAX: Final = 300
_PACKED: Final = {topic.name for topic in topics.INTERNAL}


def tail(name: str, from_start: bool, limit: int | None, as_json: bool) -> int:
    """Print a topic until `limit` lines, or Ctrl-C; return the exit code."""
    known = [topic.name for topic in topics.ALL]
    if name not in known:
        raise CommandError(f"there is no topic {name}: it can be {', '.join(known)}", 2)
    printed = 0
    with connected(StackSettings.read().kafka_bootstrap) as consumer:
        begin(consumer, **{"from_start" if from_start else "from_end": [name]})
        try:
            for row in _rows(consumer, name):
                print(json.dumps(row) if as_json else _line(row), flush=True)
                printed += 1
                if limit is not None and printed >= limit:
                    return 0
        except KeyboardInterrupt:
            return 0
    return 0


def _rows(consumer: KafkaConsumer, name: str) -> Iterator[dict[str, Any]]:
    while True:
        for records in consumer.poll(timeout_ms=_POLL_MS).values():
            for record in records:
                yield from rows_of(name, record)


def rows_of(name: str, record: Any) -> Iterator[dict[str, Any]]:
    """The rows of one record, each with its place in the log."""
    place = {"partition": record.partition, "offset": record.offset}
    if name in _PACKED:
        try:
            batch = packed.unpack(record.value, tuple(packed.COLUMNS))
        except BadMessageError as error:
            yield {**place, "unreadable": error.detail, "bytes": _shown(record.value)}
            return
        for row in _packed_rows(batch):
            yield {**place, "kind": batch.kind, **row}
        return
    key = None if record.key is None else record.key.decode(errors="replace")
    headers = {header: value.decode(errors="replace") for header, value in record.headers or ()}
    try:
        value = json.loads(record.value)
    except (TypeError, ValueError):
        value = {"bytes": _shown(record.value)}
    yield {**place, "key": key, **({"headers": headers} if headers else {}), "value": value}


def _packed_rows(batch: packed.Batch) -> Iterator[dict[str, Any]]:
    columns = {name: column if isinstance(column, list) else column.tolist() for name, column in batch.columns.items()}
    vectors = columns.pop("vector", None)
    for at in range(batch.rows):
        row = {name: column[at] for name, column in columns.items()}
        if vectors is not None:
            known = zip(NAMES, vectors[at], strict=False)  # a card vector has the first of the names
            row["vector"] = {name: None if isnan(value) else value for name, value in known}
        if "decision" in row:
            row["decision"] = DECISIONS[int(row["decision"])]
            row["model_version"] = batch.meta.get("model_version")
        yield row


def _shown(raw: bytes | None) -> str:
    return (raw or b"")[:_SHOWN_BYTES_MAX].decode(errors="replace")


def _line(row: dict[str, Any]) -> str:
    head = f"{row['partition']}@{row['offset']}"
    if "kind" not in row:
        headers = " ".join(f"{name}={value}" for name, value in row.get("headers", {}).items())
        return " ".join(filter(None, (head, headers, json.dumps(row.get("value", row)))))
    words = [head, row["kind"], event_time(row["occurred_at_ms"]), row["transaction_id"]]
    if "amount_minor" in row:
        words += [f"card {row['card_id']}", f"terminal {row['terminal_id']}", amount(row["amount_minor"], "EUR")]
    if "is_fraud" in row:
        words += [f"terminal {row['terminal_id']}", "fraud" if row["is_fraud"] else "genuine"]
    if "decision" in row:
        words += [
            f"score {row['score']:.4f}",
            row["decision"] + " (explored)" * row["explored"],
            f"model {row['model_version']}",
        ]
    if "vector" in row:
        words += [f"{name}={value:g}" for name, value in row["vector"].items() if value]
    return " ".join(words)


def list_dead_letters(limit: int, as_json: bool) -> int:
    """Count the dead letters and show the newest of each topic; return the exit code."""
    counted: dict[str, Counter[str]] = {}
    newest: list[dict[str, Any]] = []
    with connected(StackSettings.read().kafka_bootstrap) as consumer:
        for name in (topic.name for topic in topics.ALL if topic.name.endswith(".dlq")):
            counts: Counter[str] = Counter()
            kept: deque[dict[str, Any]] = deque(maxlen=limit)
            for record in _whole(consumer, name):
                row = next(rows_of(name, record))
                counts[row.get("headers", {}).get("reason", "no reason")] += 1
                kept.append({"topic": name, **row})
            if counts:
                counted[name] = counts
                newest += kept
    if as_json:
        print(json.dumps({"counts": counted, "newest": newest}, indent=1))
        return 0
    for row in newest:
        print(f"{row['topic']} {_line(row)}")
    for name, counts in counted.items():
        print(
            f"{name}: {counts.total():,} ({', '.join(f'{reason} {count:,}' for reason, count in counts.most_common())})"
        )
    if not counted:
        print("no dead letters")
    return 0


def _whole(consumer: KafkaConsumer, name: str) -> Iterator[Any]:
    """Every record of a topic, up to its end of now."""
    begin(consumer, from_start=[name])
    ends: dict[TopicPartition, int] = consumer.end_offsets(list(consumer.assignment()))
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for records in consumer.poll(timeout_ms=_POLL_MS).values():
            yield from records
