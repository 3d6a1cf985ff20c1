"""The evaluator over logs in memory: whatever order and whatever crash, the numbers are those of a slow count.

Rule 1. A crash forgets all since the last commit; the next evaluator reads on from the journal.
Rule 2. A journal that commits its positions apart from its tables must be caught: the negative control.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from sqlite3 import IntegrityError
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud.model import Promise
from fraud.packed import SCORES, unpack
from fraud.windows import DAY_MS
from monitoring.evaluation import Evaluation, Terms, evaluate, promised
from monitoring.evaluation_store import TABLES, VERSION, EvaluationStore
from monitoring.evaluator import Evaluator
from monitoring.journal import Journal, JournalRefusedError, Source
from monitoring.paths_report import as_text
from tests.scoring.scored_log import APPROVE, BEGIN_MS, DAYS, DECLINE, Row, labels, packed, rows, score_records, truths

TERMS = Terms(days=7, horizon_ms=7 * DAY_MS, alerts_per_day_max=10)
MADE = rows(3000)


@dataclass(frozen=True)
class Record:
    """What a consumer gives."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes


def logs() -> dict[Source, list[Record]]:
    """Everything that was written, by source."""
    values: dict[Source, list[tuple[bytes | None, bytes]]] = {
        Source("scores", 0): [(None, raw) for raw in score_records(MADE)],
        Source("labels", 0): [(each.terminal_id.encode(), each.to_json()) for each in labels(MADE)],
        Source("truth", 0): [(None, each.to_json()) for each in truths(MADE)],
    }
    return {
        source: [Record(source.topic, i, key, value) for i, (key, value) in enumerate(records)]
        for source, records in values.items()
    }


LOGS = logs()


class LogFollower:
    """Gives a random stretch of a random source from where the journal stands."""

    def __init__(self, journal: Journal, random: np.random.Generator) -> None:
        self._journal = journal
        self._random = random

    def poll(self) -> list[tuple[Source, list[Record]]]:
        left = [source for source, log in LOGS.items() if (self._journal.position(source) or 0) < len(log)]
        if not left:
            return []
        source = left[int(self._random.integers(len(left)))]
        at = self._journal.position(source) or 0
        records = LOGS[source][at : at + int(self._random.integers(1, 60))]
        self._journal.read_up_to(source, at + len(records))
        return [(source, records)]

    def show_lag(self) -> None:
        """Nothing to show."""

    def start(self) -> None:
        """Nothing to find."""


def run_with_crashes(path: Path, seed: int, journal_class: type[Journal] = Journal, crashes: int = 12) -> Evaluation:
    """Read all of the logs, with so many crashes on the way."""
    random = np.random.default_rng(seed)
    for life in range(crashes + 1):
        now = [0.0]
        journal = journal_class(path, TABLES, VERSION)
        follower: Any = LogFollower(journal, random)
        evaluator = Evaluator(follower, journal, TERMS, lambda _: None, 1e9, lambda now=now: now[0])  # type: ignore[misc]  # mypy cannot infer the default
        steps = 400 if life == crashes else int(random.integers(1, 25))
        for _ in range(steps):
            now[0] += float(random.choice([0.1, 0.6]))
            evaluator.step()
        if life == crashes:
            journal.commit()
        journal.close()
    journal = Journal(path, TABLES, VERSION)
    found = evaluate(journal.connection, TERMS)
    journal.close()
    assert found is not None
    return found


def test_the_evaluation_is_that_of_a_slow_count(tmp_path: Path) -> None:
    found = run_with_crashes(tmp_path / "e.sqlite", 1, crashes=0)
    assert found.to_ms == (max(r.at_ms for r in MADE) - 7 * DAY_MS) // DAY_MS * DAY_MS == BEGIN_MS + 22 * DAY_MS
    assert DAYS == 30
    told: dict[str, bool] = {}
    for label in labels(MADE):
        told[label.transaction_id] = label.is_fraud
    assert {each.version for each in found.delivered} == {r.version for r in inside(found)}
    for each in found.delivered:
        mine = [r for r in inside(found) if r.version == each.version]
        seen = [r for r in mine if r.decision != DECLINE]
        assert each.censored == len(mine) - len(seen) > 0
        frauds = [r for r in seen if told.get(r.transaction_id, False)]
        assert (each.fraud, each.genuine) == (len(frauds), len(seen) - len(frauds))
        check_quality(each.quality, mine, told, known_cards(found))
        spread = {"card_testing": [r for r in mine if r.is_fraud and r.offset % 2]}
        assert each.scenario_recall["card_testing"] == pytest.approx(
            np.mean([r.decision != APPROVE for r in spread["card_testing"]])
        )


def inside(found: Evaluation) -> list[Row]:
    return [r for r in MADE if found.from_ms <= r.at_ms < found.to_ms]


def known_cards(found: Evaluation) -> dict[str, int]:
    """When each card's earlier fraud became known: frauds of the lookback before the evaluated days."""
    newest = {label.transaction_id: label for label in labels(MADE)}
    known: dict[str, int] = {}
    for label in newest.values():
        if label.is_fraud and found.from_ms - TERMS.lookback_ms <= label.occurred_at_ms < found.from_ms:
            known[label.card_id] = min(known.get(label.card_id, 2**60), label.known_at_ms)
    return known


def check_quality(quality: Any, mine: list[Row], told: dict[str, bool], known: dict[str, int]) -> None:
    declined, explored = [r for r in mine if r.decision == DECLINE], [r for r in mine if r.explored]
    share = (len(declined) + len(explored)) / len(explored)
    judged = [r for r in mine if r.decision != DECLINE and not known.get(r.card, 2**60) < r.at_ms // DAY_MS * DAY_MS]
    assert len(judged) < len([r for r in mine if r.decision != DECLINE])
    truth = [told.get(r.transaction_id, False) for r in judged]
    score, weight = [r.score for r in judged], [share if r.explored else 1.0 for r in judged]
    assert quality["auc"] == pytest.approx(roc_auc_score(truth, score, sample_weight=weight))
    assert quality["ap"] == pytest.approx(average_precision_score(truth, score, sample_weight=weight))


@pytest.mark.parametrize("seed", range(4))
def test_crashes_and_the_order_of_reading_change_nothing(seed: int, tmp_path: Path) -> None:
    assert run_with_crashes(tmp_path / "e.sqlite", seed) == run_with_crashes(tmp_path / "clean.sqlite", 99, crashes=0)


class ForgetfulJournal(Journal):
    """Positions count at once, tables with the commit: what is read and not committed is lost by a crash."""

    positions: dict[Path, dict[Source, int]] = {}  # noqa: RUF012  (it outlives its journal, as a file would)

    def position(self, source: Source) -> int | None:
        return self.positions.setdefault(self.path, {}).get(source)

    def read_up_to(self, source: Source, next_offset: int) -> None:
        self.positions.setdefault(self.path, {})[source] = next_offset


def test_positions_that_are_kept_apart_from_the_tables_are_caught(tmp_path: Path) -> None:
    clean = run_with_crashes(tmp_path / "clean.sqlite", 99, crashes=0)
    assert run_with_crashes(tmp_path / "e.sqlite", 1, ForgetfulJournal) != clean


def test_a_row_that_passes_the_marks_twice_is_an_error(tmp_path: Path) -> None:
    store = EvaluationStore(Journal(tmp_path / "e.sqlite", TABLES, VERSION))
    batch = unpack(packed(MADE[:3]), (SCORES,))
    store.add_scores(0, batch)
    with pytest.raises(IntegrityError, match="at or below offset 2: the origin marks ought to have dropped it"):
        store.add_scores(0, batch)
    with pytest.raises(IntegrityError):  # within one call too
        store.add_scores(1, batch, batch)


def test_benchmark_labels_hide_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "e.sqlite", TABLES, VERSION)
    store = EvaluationStore(journal)
    for row in MADE:
        store.add_scores(0, unpack(packed([row]), (SCORES,)))
    store.add_labels(replace_source(label) for label in labels(MADE))
    found = evaluate(journal.connection, TERMS)
    assert found is not None
    assert [each.censored for each in found.delivered] == [0] * len(found.delivered)


def replace_source(label: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(label, source="benchmark")


def test_a_partition_that_lags_holds_the_clock_back(tmp_path: Path) -> None:
    store = EvaluationStore(Journal(tmp_path / "e.sqlite", TABLES, VERSION))
    assert store.now_ms() is None
    early, late = MADE[0], MADE[-1]
    store.add_scores(0, unpack(packed([late]), (SCORES,)))
    store.add_scores(1, unpack(packed([early]), (SCORES,)))
    assert store.now_ms() == early.at_ms


def test_a_journal_of_another_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    Journal(tmp_path / "e.sqlite", TABLES, VERSION).close()
    with pytest.raises(
        JournalRefusedError, match=rf"version {VERSION}, this code writes {VERSION + 1}: delete the file"
    ):
        Journal(tmp_path / "e.sqlite", TABLES, VERSION + 1)


def test_the_report_has_the_promise_beside_what_was_delivered(tmp_path: Path) -> None:
    found = run_with_crashes(tmp_path / "e.sqlite", 1, crashes=0)
    version = found.delivered[-1].version
    promise = Promise(0.91, 0.62, 0.33, 0, 1, 2, 3)
    text = as_text(found, {version: promise})
    assert f"average precision             {found.delivered[-1].quality['ap']:>10.3f}     0.620" in text
    assert "declined and never labelled" in text
    assert promised(promise) == {"auc": 0.91, "ap": 0.62, "card_precision": 0.33}
    assert replace(found, delivered=()).delivered == ()


def test_an_evaluation_that_costs_much_is_followed_by_a_rest(tmp_path: Path) -> None:
    now, used = [0.0], [0.0]
    journal = Journal(tmp_path / "e.sqlite", TABLES, VERSION)
    silent: Any = Silent()

    def cpu_s() -> float:
        used[0] += 1.0  # of each evaluation: it is asked before and after
        return used[0]

    evaluator = Evaluator(silent, journal, TERMS, lambda _: None, 1.0, lambda: now[0], cpu_s=cpu_s)
    evaluations = []
    for second in range(100):
        now[0] = float(second)
        row = replace(MADE[second], at_ms=BEGIN_MS + second * DAY_MS)  # a new day, each time a reason
        evaluator.take(Source("scores", 0), [Record("scores", second, None, packed([row]))])
        evaluator._has_news = True
        before = used[0]
        evaluator.step()
        evaluations += [second] if used[0] > before else []
    assert evaluations == [0, 50], "1 s of CPU every 50 s"


class Silent:
    """A follower that has nothing more to give."""

    def poll(self) -> list[tuple[Source, list[Record]]]:
        return []

    def show_lag(self) -> None:
        """Nothing to show."""


def test_only_what_changes_the_evaluated_days_is_a_reason_to_evaluate_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations: list[Evaluation | None] = []

    def counted(*arguments: Any) -> Evaluation | None:
        evaluations.append(evaluate(*arguments))
        return evaluations[-1]

    monkeypatch.setattr("monitoring.evaluator.evaluate", counted)
    now = [0.0]
    journal = Journal(tmp_path / "e.sqlite", TABLES, VERSION)
    silent: Any = Silent()
    evaluator = Evaluator(silent, journal, TERMS, lambda _: None, 1.0, lambda: now[0], cpu_s=lambda: 0.0)

    def again(topic: str, values: list[tuple[bytes | None, bytes]]) -> int:
        """How many evaluations there were once these records have come."""
        records = [Record(topic, i, key, value) for i, (key, value) in enumerate(values)]
        evaluator.take(Source(topic, 0), records)
        evaluator._has_news = True
        now[0] += 10.0
        evaluator.step()
        return len(evaluations)

    last_ms = MADE[-2].at_ms  # the newest row comes later
    of_the_days = next(label for label in labels(MADE) if label.occurred_at_ms > last_ms - 12 * DAY_MS)
    too_young = next(label for label in labels(MADE) if label.occurred_at_ms > last_ms - 5 * DAY_MS)
    assert again("scores", [(None, packed(MADE[i : i + 50])) for i in range(0, len(MADE) - 50, 50)]) == 1
    assert again("scores", [(None, packed(MADE[-50:-1]))]) == 1
    assert again("labels", [(too_young.terminal_id.encode(), too_young.to_json())]) == 1
    assert again("labels", [(of_the_days.terminal_id.encode(), of_the_days.to_json())]) == 2
    assert again("truth", [(None, truths(MADE)[0].to_json())]) == 3
    next_day = replace(MADE[-1], at_ms=last_ms + DAY_MS)
    assert again("scores", [(None, packed([next_day]))]) == 4
    assert again("labels", [(None, b"")]) == 4
    open_book = replace_source(too_young)
    assert again("labels", [(open_book.terminal_id.encode(), open_book.to_json())]) == 5
    assert evaluations[-1] == evaluate(journal.connection, TERMS) != evaluations[-2]


def test_what_is_older_than_any_evaluation_leaves_and_nothing_else_does(tmp_path: Path) -> None:
    store = EvaluationStore(Journal(tmp_path / "e.sqlite", TABLES, VERSION))
    for i in range(0, len(MADE), 70):
        part = [r for r in MADE[i : i + 70] if r.version == MADE[i].version]
        store.add_scores(0, unpack(packed(part), (SCORES,)))
    added = {r.at_ms for r in MADE} & set(stored_times(store))
    before_ms = MADE[1000].at_ms  # within a block
    store.forget(before_ms)
    assert stored_times(store) == sorted(at_ms for at_ms in added if at_ms >= before_ms)


def stored_times(store: EvaluationStore) -> list[int]:
    found = store.period(0, 2**60).rows.occurred_at_ms
    assert isinstance(found, np.ndarray)
    return [int(at_ms) for at_ms in found]
