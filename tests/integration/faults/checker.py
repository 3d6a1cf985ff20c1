"""The checker: is everything that the stack wrote what a run without faults would have written?

Rule 1. The truth is folded here anew from the public logs: cards in the order of `transactions`, terminals in the order of the
        first copies in `terminal-log`. No code of the services takes part, only the fold and the decoders of fraud/.
Rule 2. Vectors are compared bit for bit, counters exactly, stored state by what can be read from it.
Rule 3. A difference is one line; there may be many: `summary` says how many of each kind and shows a few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from adapters.kafka import partition_for
from adapters.state_store import Stage, StateReader
from fraud import fold, packed, rules, topics
from fraud.alert import parse_alert
from fraud.columns import CardColumns, TerminalColumns, known_hash
from fraud.dead_letters import BadMessageError
from fraud.decision import APPROVE, DECISIONS, decide, explored
from fraud.features import FEATURE_HASH, NAMES
from fraud.fold import CardFold, TerminalFold
from fraud.labels import Label, parse_label
from fraud.transaction import Transaction, id_hash, parse_transaction
from fraud.windows import DAY_MS, HOUR_MS
from tests.integration.faults.logs import LogRecord, Origin, Row, first_copies, read_logs, rows_of
from tests.integration.faults.stack import EXPLORATION_SHARE

READ_TOPICS: Final = [topic.name for topic in topics.ALL if topic is not topics.CONTROL]
READ_AGAIN_MS: Final = (0, HOUR_MS, DAY_MS, 8 * DAY_MS)
NOBODY_BESIDE: Final = {"challenger_score": None, "batch_score": None, "batch_decision": 0}
_IDENTITY: Final = (
    "transaction_id", "card_id", "terminal_id", "amount_minor", "occurred_at_ms", "ingested_at_ms",
)  # fmt: skip
Letters = dict[Origin, tuple[str, bytes | None]]


@dataclass(slots=True)
class Expected:
    """What a stage must have done in one partition."""

    counters: Counter[str] = field(default_factory=Counter)
    newest: dict[str, int] = field(default_factory=dict)
    letters: Letters = field(default_factory=dict)
    rows: dict[Origin, Row] = field(default_factory=dict)
    fold: Any = None


Differences = list[str]


def differences(bootstrap: str, redis_url: str, *, scored: bool = False) -> Differences:
    """Everything that is not as a run without faults would have left it; empty when all is well."""
    logs = read_logs(bootstrap, READ_TOPICS)
    state = StateReader(redis_url, FEATURE_HASH)
    try:
        found = _check_features(logs, state)
    finally:
        state.close()
    return found + (check_scores(logs) if scored else [])


def summary(found: Sequence[str], show: int = 8) -> str:
    """A few of the differences, and how many there are."""
    return "\n  ".join([f"{len(found)} differences", *found[:show]])


def _check_features(logs: Mapping[str, list[list[LogRecord]]], state: StateReader) -> Differences:
    partitions = len(logs["transactions"])
    cards = [expected_cards(records) for records in logs["transactions"]]
    labels = [expected_labels(records) for records in logs["labels"]]
    found: Differences = []
    terminal_letters: Letters = {}
    in_log: set[Origin] = set()
    for p in range(partitions):
        rows = rows_of(logs["terminal-log"][p], (packed.CARD_VECTORS, packed.LABELS))
        first, wrong = first_copies(rows, f"terminal-log/{p}")
        found += wrong + _compare_rows(first, _sent_to(p, cards + labels, partitions), f"terminal-log/{p}")
        in_log |= first.keys()
        terminal = expected_terminals(first)
        terminal_letters |= terminal.letters
        served, wrong = first_copies(rows_of(logs["features"][p], (packed.VECTORS,)), f"features/{p}")
        found += wrong + _compare_rows(served, terminal.rows, f"features/{p}")
        if list(served) != list(terminal.rows):
            found.append(f"features/{p}: the rows are not in the order of terminal-log")
        for stage, end, expected in (
            ("card", len(logs["transactions"][p]), cards[p]),
            ("labels", len(logs["labels"][p]), labels[p]),
            ("terminal", len(logs["terminal-log"][p]), terminal),
        ):
            found += _check_state(state, stage, p, end, expected)  # type: ignore[arg-type]  # the names are stages
        found += _check_marks(state, p, first)
    every = {origin for one in cards + labels for origin in one.rows}
    if in_log != every:
        found.append(f"terminal-log: {len(every - in_log)} rows are missing, {len(in_log - every)} are nobody's")
    for topic, letters in (
        ("transactions.dlq", _together(cards)),
        ("labels.dlq", _together(labels)),
        ("terminal-log.dlq", terminal_letters),
    ):
        found += _check_letters(logs[topic][0], letters, topic)
    return found


def expected_cards(records: Sequence[LogRecord]) -> Expected:
    """The card stage's work on one partition of `transactions`."""
    expected = Expected(fold=CardFold(keep_changes=False))
    good: list[tuple[LogRecord, Transaction]] = []
    for record in records:
        try:
            good.append((record, parse_transaction(record.value, record.key)))
        except BadMessageError as error:
            expected.letters[record.topic, record.partition, record.offset] = (str(error.reason), record.value)
    told = CardColumns.of([t for _, t in good])
    hashes = told.transaction_hash.tolist()
    result = expected.fold.apply([t.card_id for _, t in good], told)
    striking = fold.is_striking(result.vectors, told.amount_minor)
    for i, (record, one) in enumerate(good):
        origin = (record.topic, record.partition, record.offset)
        if result.outcome[i] == fold.TOO_LATE:
            expected.letters[origin] = ("TOO_LATE", record.value)
        elif result.outcome[i] == fold.ACCEPTED:
            known = {name: getattr(one, name) for name in _IDENTITY[:-1]}
            expected.rows[origin] = {
                "origin_partition": record.partition,
                "origin_offset": record.offset,
                **known,
                "ingested_at_ms": record.timestamp,
                "transaction_hash": hashes[i],
                "vector": result.vectors[i].tobytes(),
                "is_striking": int(striking[i]),
            }
            expected.newest[one.card_id] = max(one.occurred_at_ms, expected.newest.get(one.card_id, 0))
    expected.counters.update(
        accepted=len(expected.rows),
        duplicates=int((result.outcome == fold.DUPLICATE).sum()),
        dead_letters=len(expected.letters),
        late=int(result.late.sum()),
    )
    return expected


def expected_labels(records: Sequence[LogRecord]) -> Expected:
    """The label forwarder's work on one partition of `labels`."""
    expected = Expected()
    for record in records:
        origin = (record.topic, record.partition, record.offset)
        try:
            expected.rows[origin] = _label_row(parse_label(record.value, record.key), record)
        except BadMessageError as error:
            expected.letters[origin] = (str(error.reason), record.value)
    expected.counters.update(forwarded=len(expected.rows), dead_letters=len(expected.letters))
    return expected


def _label_row(label: Label, record: LogRecord) -> Row:
    return {
        "origin_partition": record.partition,
        "origin_offset": record.offset,
        "transaction_id": label.transaction_id,
        "transaction_hash": id_hash(label.transaction_id),
        "terminal_id": label.terminal_id,
        "occurred_at_ms": label.occurred_at_ms,
        "known_at_ms": label.known_at_ms,
        "is_fraud": int(label.is_fraud),
    }


def expected_terminals(log: Mapping[Origin, Row]) -> Expected:
    """The terminal stage's work on the first copies of one partition of `terminal-log`."""
    expected = Expected(fold=TerminalFold(keep_changes=False))
    rows, is_label = list(log.values()), [origin[0] == "labels" for origin in log]
    told = TerminalColumns(
        np.array([fold.LABEL if label else fold.TRANSACTION for label in is_label], np.uint8),
        np.array([row["transaction_hash"] for row in rows], np.uint64),
        np.array([row["occurred_at_ms"] for row in rows], np.int64),
        np.array([row.get("amount_minor", 0) for row in rows], np.int64),
        np.array([known_hash(row.get("card_id")) for row in rows], np.uint64),
        np.array([row.get("is_fraud", 0) for row in rows], np.uint8),
        np.array([row.get("is_striking", 0) for row in rows], np.uint8),
    )
    result = expected.fold.apply([row["terminal_id"] for row in rows], told)
    outcome = result.outcome.tolist()
    for i, (origin, row) in enumerate(log.items()):
        if outcome[i] == fold.TOO_LATE:
            expected.letters[origin] = ("TOO_LATE", None)
        elif outcome[i] == fold.LABEL_UNKNOWN:
            expected.letters[origin] = ("LABEL_UNKNOWN_TRANSACTION", None)
        elif outcome[i] == fold.ACCEPTED:
            vector = row["vector"] + result.vectors[i].tobytes()
            kept = {name: value for name, value in row.items() if name not in ("transaction_hash", "is_striking")}
            expected.rows[origin] = kept | {"vector": vector}
            terminal = row["terminal_id"]
            expected.newest[terminal] = max(row["occurred_at_ms"], expected.newest.get(terminal, 0))
    expected.counters.update(
        accepted=len(expected.rows),
        labels_applied=outcome.count(fold.LABEL_APPLIED),
        labels_expired=outcome.count(fold.LABEL_EXPIRED),
        labels_unknown=outcome.count(fold.LABEL_UNKNOWN),
        dead_letters=len(expected.letters),
        late=int(result.late.sum()),
    )
    return expected


def _sent_to(partition: int, stages: Sequence[Expected], partitions: int) -> dict[Origin, Row]:
    return {
        origin: row
        for one in stages
        for origin, row in one.rows.items()
        if partition_for(row["terminal_id"], partitions) == partition
    }


def _compare_rows(found: Mapping[Origin, Row], expected: Mapping[Origin, Row], where: str) -> Differences:
    wrong = [f"{where}: no row of {origin}" for origin in expected if origin not in found]
    wrong += [f"{where}: a row of {origin} that should not be" for origin in found if origin not in expected]
    for origin, row in found.items():
        if origin in expected and row != expected[origin]:
            wrong.append(f"{where}: {origin} differs in {', '.join(_unequal(row, expected[origin]))}")
    return wrong


def _unequal(row: Row, expected: Row) -> list[str]:
    names = [name for name in expected.keys() | row.keys() if row.get(name) != expected.get(name)]
    if "vector" not in names or len(row["vector"]) != len(expected["vector"]):
        return sorted(names)
    pairs = zip(NAMES, np.frombuffer(row["vector"], "<u4"), np.frombuffer(expected["vector"], "<u4"), strict=False)
    return sorted(set(names) - {"vector"}) + [name for name, got, want in pairs if got != want]


def _check_state(state: StateReader, stage: Stage, partition: int, end: int, expected: Expected) -> Differences:
    where = f"state of {stage}/{partition}"
    stored = state.read(stage, partition)
    wrong: Differences = []
    if (stored.next or 0) != end:
        wrong.append(f"{where}: the watermark is {stored.next}, the log ends at {end}")
    for name, count in expected.counters.items():
        if stored.counters.get(name, 0) != count:
            wrong.append(f"{where}: counter {name} is {stored.counters.get(name, 0)} instead of {count}")
    if expected.fold is None:
        return wrong
    entities = state.entities(stage, partition)
    if entities.keys() != expected.newest.keys():
        wrong.append(f"{where}: {len(entities)} entities instead of {len(expected.newest)}")
    stored_fold = type(expected.fold)(keep_changes=False)
    stored_fold.load_many(list(entities.items()))
    for entity in entities.keys() & expected.newest.keys():
        if _readings(stored_fold, entity, expected) != _readings(expected.fold, entity, expected):
            wrong.append(f"{where}: {entity} reads otherwise than it should")
    return wrong


def _readings(of: Any, entity: str, expected: Expected) -> list[bytes]:
    at_ms = [expected.newest[entity] + later for later in READ_AGAIN_MS]
    if isinstance(of, CardFold):
        return [of.read(entity, CardColumns.bare([1], [t], [1234], [5])).tobytes() for t in at_ms]
    return [of.read(entity, t).tobytes() for t in at_ms]


def _check_marks(state: StateReader, partition: int, log: Mapping[Origin, Row]) -> Differences:
    newest: dict[tuple[str, int], int] = {}
    for topic, origin_partition, offset in log:
        newest[topic, origin_partition] = max(offset, newest.get((topic, origin_partition), -1))
    stored = dict(state.read("terminal", partition).marks)
    return [] if stored == newest else [f"state of terminal/{partition}: marks {stored} instead of {newest}"]


def _together(stages: Sequence[Expected]) -> Letters:
    return {origin: letter for one in stages for origin, letter in one.letters.items()}


def _check_letters(records: Sequence[LogRecord], expected: Letters, topic: str) -> Differences:
    found: Letters = {}
    for record in records:
        told = {name: value.decode() for name, value in record.headers.items()}
        origin = (told["topic"], int(told["partition"]), int(told["offset"]))
        found.setdefault(origin, (told["reason"], record.value))
    wrong = [f"{topic}: no dead letter of {origin}" for origin in expected if origin not in found]
    wrong += [f"{topic}: a dead letter of {origin} that should not be" for origin in found if origin not in expected]
    for origin, (reason, raw) in found.items():
        want, original = expected.get(origin, (reason, raw))
        if reason != want:
            wrong.append(f"{topic}: {origin} has reason {reason} instead of {want}")
        if topic != "terminal-log.dlq" and raw != (original or b""):
            wrong.append(f"{topic}: {origin} has other bytes than were sent")
    return wrong


def check_scores(logs: Mapping[str, list[list[LogRecord]]]) -> Differences:
    """`scores` holds every row of `features` once, judged by the rules; `alerts` every one that is not approved."""
    found: Differences = []
    alerted: dict[Origin, Row] = {}
    for p, records in enumerate(logs["features"]):
        vectors = first_copies(rows_of(records, (packed.VECTORS,)), f"features/{p}")[0]
        scores, wrong = first_copies(rows_of(logs["scores"][p], (packed.SCORES,)), f"scores/{p}")
        expected = _judged(vectors)
        found += wrong + _compare_rows(scores, expected, f"scores/{p}")
        alerted |= {origin: row for origin, row in expected.items() if row["decision"]}
    return found + _check_alerts(logs["alerts"], alerted)


def _judged(rows: Mapping[Origin, Row]) -> dict[Origin, Row]:
    if not rows:
        return {}
    vectors = np.stack([np.frombuffer(row["vector"], "<f4") for row in rows.values()])
    score = rules.score(rules.fired(vectors))
    decision = decide(score, np.array([row["amount_minor"] for row in rows.values()]), rules.REVIEW_THRESHOLD)
    let_through = explored(decision, [row["transaction_id"] for row in rows.values()], EXPLORATION_SHARE)
    decision[let_through] = APPROVE
    judged: dict[Origin, Row] = {}
    for i, (origin, row) in enumerate(rows.items()):
        kept = {name: value for name, value in row.items() if name != "vector"}
        judged[origin] = kept | {
            "score": score[i].item(),
            "rules_score": score[i].item(),
            "decision": int(decision[i]),
            "explored": int(let_through[i]),
            **NOBODY_BESIDE,
        }
    return judged


def _check_alerts(partitions: Sequence[Sequence[LogRecord]], expected: Mapping[Origin, Row]) -> Differences:
    found: dict[Origin, Any] = {}
    wrong: Differences = []
    for number, records in enumerate(partitions):
        for record in records:
            alert = parse_alert(record.value)
            origin = ("transactions", alert.origin_partition, alert.origin_offset)
            if partition_for(alert.card_id, len(partitions)) != number:
                wrong.append(f"alerts/{number}: {origin} stands in another partition than its card's")
            found.setdefault(origin, alert)
    wrong += [f"alerts: no alert of {origin}" for origin in expected if origin not in found]
    for origin, alert in found.items():
        row = expected.get(origin)
        if row is None:
            wrong.append(f"alerts: an alert of {origin} that should not be")
        elif (alert.transaction_id, alert.score, alert.decision) != (
            row["transaction_id"], row["score"], DECISIONS[row["decision"]],
        ):  # fmt: skip
            wrong.append(f"alerts: {origin} says other than its score")
    return wrong
