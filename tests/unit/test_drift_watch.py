"""The drift watch over logs in memory: judgements do not depend on crashes, and half a window is never judged.

Rule 1. The reference is made here; days of the log after DRIFTS_FROM are served otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka.errors import KafkaConnectionError

from fraud.control import Retrain, parse_control_request
from fraud.drift import Alarm, Judgement, Reference
from fraud.features import FEATURE_HASH, NAMES
from fraud.packed import SCORES, VECTORS, Column, pack
from fraud.windows import DAY_MS
from monitoring.drift_report import BLIND_SPOT, as_text, as_values
from monitoring.drift_store import TABLES, VERSION, read_drift
from monitoring.drift_watch import DriftWatch, RetrainAsker
from monitoring.journal import Journal, Source

BEGIN_MS = 17_622 * DAY_MS
DAYS, PER_DAY, DRIFTS_FROM = 8, 1000, 4


@dataclass(frozen=True)
class Champion:
    """What decides."""

    version: str = "v1"
    learned_to_ms: int = BEGIN_MS + DAY_MS

    def reference(self) -> Reference:
        random = np.random.default_rng(0)
        columns = {name: random.normal(size=4000) for name in NAMES}
        return Reference.of(self.version, 0.9, {**columns, "score": random.random(4000).astype(np.float32)})


@dataclass(frozen=True)
class Record:
    """What a consumer gives."""

    offset: int
    value: bytes


def columns_of(first: int, rows: int) -> dict[str, Column]:
    return {
        "origin_partition": np.zeros(rows, np.int32),
        "origin_offset": np.arange(first, first + rows),
        "transaction_id": [f"t{first + i}" for i in range(rows)],
        "card_id": ["c1"] * rows,
        "terminal_id": ["m1"] * rows,
        "amount_minor": np.full(rows, 100),
        "occurred_at_ms": BEGIN_MS + (first + np.arange(rows)) * (DAY_MS // PER_DAY),
        "ingested_at_ms": np.zeros(rows),
    }


def log_of(kind: str, feature_hash: str = FEATURE_HASH) -> list[Record]:
    """Records of 100 rows; every seventh is written twice."""
    random = np.random.default_rng(5)
    values = []
    for first in range(0, DAYS * PER_DAY, 100):
        columns = columns_of(first, 100)
        if kind == VECTORS:
            vectors = random.normal(size=(100, len(NAMES))).astype(np.float32)
            vectors[:, 3] += 2.0 * (first >= DRIFTS_FROM * PER_DAY)
            columns["vector"] = vectors
        else:
            columns |= {name: np.zeros(100) for name in ("rules_score", "decision", "explored")}
            columns["score"] = random.random(100).astype(np.float32)
        raw = pack(kind, columns, {"feature_hash": feature_hash, "model_version": "v1"})
        values += [raw, raw] if first % 700 == 0 else [raw]
    return [Record(i, value) for i, value in enumerate(values)]


LOGS = {Source("features", 0): log_of(VECTORS), Source("scores", 0): log_of(SCORES)}


class LogFollower:
    """Gives a few records of each source in turn, from where the journal stands."""

    def __init__(self, journal: Journal, logs: dict[Source, list[Record]], turn: int) -> None:
        self._journal = journal
        self._logs = logs
        self._turn = turn

    def poll(self) -> list[tuple[Source, list[Record]]]:
        self._turn += 1
        source = sorted(self._logs)[self._turn % len(self._logs)]
        at = self._journal.position(source) or 0
        records = self._logs[source][at : at + 3]
        if records:
            self._journal.read_up_to(source, at + len(records))
        return [(source, records)] if records else []

    def show_lag(self) -> None:
        """Nothing to show."""

    def start(self) -> None:
        """Nothing to find."""


def run(
    path: Path, champions: list[Champion | None], crash_after: list[int], asker: RetrainAsker | None = None, **logs: Any
) -> Journal:
    """Lives that end in a crash after so many steps, with the champion of each life; the last one reads all."""
    for life, steps in enumerate([*crash_after, 200]):
        now = [0.0]
        journal = Journal(path, TABLES, VERSION)
        champion = champions[min(life, len(champions) - 1)]
        follower: Any = LogFollower(journal, logs.get("logs", LOGS), life)
        watch = DriftWatch(follower, journal, lambda c=champion: c, DAY_MS, 1e9, lambda now=now: now[0], asker)  # type: ignore[misc]  # mypy cannot infer the defaults
        watch.look()
        for _ in range(steps):
            now[0] += 0.4
            watch.step()
        if life == len(crash_after):
            watch.commit()
        else:
            journal.close()
    return journal


def judgements(path: Path, *arguments: Any, **logs: Any) -> list[Judgement]:
    import msgspec

    journal = run(path, *arguments, **logs)
    found = journal.connection.execute("SELECT content FROM judgement ORDER BY end_ms").fetchall()
    journal.close()
    return [msgspec.json.decode(content, type=Judgement) for (content,) in found]


def test_whole_windows_after_the_learned_days_are_judged_and_the_drifted_column_is_raised(tmp_path: Path) -> None:
    found = judgements(tmp_path / "d.sqlite", [Champion()], [])
    # The first day was learned from; the last has no row after its end yet.
    assert [(each.start_ms - BEGIN_MS) // DAY_MS for each in found] == list(range(1, DAYS - 1))
    assert {each.rows for each in found} == {PER_DAY}, "repeated records count once, and no row is missing"
    far = [each.columns[NAMES[3]].excess > 1 for each in found]
    assert far == [False] * 3 + [True] * 3
    newest, alarms = read_drift(tmp_path / "d.sqlite")
    assert newest == found[-1]
    assert [name for name, alarm in alarms.items() if alarm.raised] == [NAMES[3]]


@pytest.mark.parametrize("crash_after", [[7], [30, 3, 11], [1, 50, 25, 40]])
def test_crashes_change_no_judgement(crash_after: list[int], tmp_path: Path) -> None:
    clean = judgements(tmp_path / "clean.sqlite", [Champion()], [])
    assert judgements(tmp_path / "d.sqlite", [Champion()], crash_after) == clean


def test_without_a_champion_nothing_is_judged_and_a_later_one_begins_with_a_whole_window(tmp_path: Path) -> None:
    assert judgements(tmp_path / "none.sqlite", [None], []) == []
    found = judgements(tmp_path / "d.sqlite", [None, Champion()], [20])
    begun = [(each.start_ms - BEGIN_MS) // DAY_MS for each in found]
    assert begun
    assert begun[0] > 1
    assert {each.rows for each in found} == {PER_DAY}


def test_another_champion_begins_anew(tmp_path: Path) -> None:
    found = judgements(tmp_path / "d.sqlite", [Champion("v1"), Champion("v2")], [31])
    assert {each.version for each in found} == {"v2"}
    assert {each.rows for each in found} == {PER_DAY}


def test_vectors_of_other_features_are_not_counted(tmp_path: Path) -> None:
    logs = {Source("features", 0): log_of(VECTORS, "aaaaaaaaaaaa"), Source("scores", 0): LOGS["scores", 0]}
    found = judgements(tmp_path / "d.sqlite", [Champion()], [], logs=logs)
    assert {name for each in found for name in each.columns} == {"score"}


def test_the_report_says_what_is_raised_and_what_the_estimate_cannot_see(tmp_path: Path) -> None:
    judgements(tmp_path / "d.sqlite", [Champion()], [])
    newest, alarms = read_drift(tmp_path / "d.sqlite")
    assert newest is not None
    text, values = as_text(newest, alarms), json.loads(json.dumps(as_values(newest, alarms)))
    assert f"DRIFT: {NAMES[3]}" in text
    assert next(line for line in text.splitlines() if line.startswith(NAMES[3])).endswith("RAISED")
    assert "not judged: a calendar" in text
    assert BLIND_SPOT in text
    assert values["raised"] == [NAMES[3]]
    assert values["columns"][NAMES[3]]["distances"]["psi"] > 0.2
    assert as_text(newest, {NAMES[3]: Alarm()}).endswith("no drift")


def asked_of(path: Path, cool_down_days: float, crash_after: list[int], away: int = 0) -> list[Retrain]:
    """What drift asks for over the log; the first `away` sends fail."""
    asked: list[Retrain] = []
    failures = [away]

    def send(request: Retrain) -> None:
        failures[0] -= 1
        if failures[0] >= 0:
            raise KafkaConnectionError
        asked.append(request)

    run(path, [Champion()], crash_after, RetrainAsker(send, round(cool_down_days * DAY_MS), lambda: BEGIN_MS)).close()
    return asked


def test_raised_drift_asks_once_in_a_cool_down_and_names_the_column(tmp_path: Path) -> None:
    #   day       0      1      2      3      4*     5*     6*          * drifted; two windows raise
    #   asks                                         #      #           with a cool-down of a day
    (once,) = asked_of(tmp_path / "long.sqlite", 7, [])
    assert (once.trigger, once.as_of_ms) == ("drift", None)
    assert NAMES[3] in once.reason
    assert parse_control_request(once.to_json()) == once
    days = [int(r.request_id.rpartition("-")[2]) for r in asked_of(tmp_path / "short.sqlite", 1, [])]
    assert [b - a for a, b in pairwise(days)] == [DAY_MS] * (len(days) - 1)
    assert len(days) == 2


def test_crashes_do_not_make_drift_ask_for_anything_new(tmp_path: Path) -> None:
    clean = {r.request_id for r in asked_of(tmp_path / "clean.sqlite", 7, [])}
    assert {r.request_id for r in asked_of(tmp_path / "d.sqlite", 7, [30, 40, 11])} == clean


def test_a_request_that_could_not_be_sent_is_made_with_the_next_window(tmp_path: Path) -> None:
    (late,) = asked_of(tmp_path / "late.sqlite", 7, [], away=1)
    (at_once,) = asked_of(tmp_path / "at-once.sqlite", 7, [])
    late_ms, at_once_ms = (int(r.request_id.rpartition("-")[2]) for r in (late, at_once))
    assert late_ms == at_once_ms + DAY_MS
