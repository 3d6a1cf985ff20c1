"""Both paths in the evaluator: on the same transactions, at one alert budget, against a slow count.

Rule 1. The batch path's scores are worse on purpose, and here and there it has none: both must show.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fraud.features import FEATURE_HASH
from fraud.packed import SCORES, Column, pack, unpack
from fraud.windows import DAY_MS
from monitoring.evaluation import Contrast, Terms, as_json, evaluate
from monitoring.evaluation_store import BATCH, STREAMING, TABLES, VERSION, EvaluationStore
from monitoring.journal import Journal
from monitoring.paths_report import as_text
from tests.scoring.scored_log import DECLINE, Row, columns_of, labels, rows, truths

TERMS = Terms(days=7, horizon_ms=7 * DAY_MS, alerts_per_day_max=6)
MADE = rows(2500)
BATCH_VERSION = "20180402T000000-cccccc"


def batch_score(row: Row) -> float:
    """Half of what the streaming path says, and noise; none for each 50th transaction."""
    return float(np.float32(np.nan if row.offset % 50 == 0 else (row.score / 2 + row.offset * 7919 % 100 / 200)))


def record(row: Row, snapshot: bool) -> bytes:
    midnight = np.datetime64(row.at_ms // DAY_MS, "D")
    columns: dict[str, Column] = {
        **columns_of([row]),
        "batch_score": np.array([batch_score(row)], np.float32),
        "batch_decision": np.array([1 if batch_score(row) > 0.6 else 0]),
    }
    meta = {
        "feature_hash": FEATURE_HASH,
        "model_version": row.version,
        "batch_version": BATCH_VERSION if snapshot else "batch-rules",
        "snapshot_date": str(midnight) if snapshot else None,
    }
    return pack(SCORES, columns, meta)


def contrast(tmp_path: Path, without_snapshot: int = 7) -> tuple[Contrast, list[Row]]:
    """The evaluation's contrast, and the rows of its period that both paths have scored."""
    journal = Journal(tmp_path / "e.sqlite", TABLES, VERSION)
    store = EvaluationStore(journal)
    for row in MADE:
        store.add_scores(0, unpack(record(row, snapshot=bool(row.offset % without_snapshot)), (SCORES,)))
    store.add_labels(labels(MADE))
    store.add_truth(truths(MADE))
    found = evaluate(journal.connection, TERMS)
    assert found is not None
    assert found.contrast is not None
    assert {each.version for each in found.delivered if each.path == BATCH} == {BATCH_VERSION, "batch-rules"}
    text = as_text(found, {})
    assert f"the same {found.contrast.transactions:,} transactions" in text
    assert "recall of card_testing" in text
    assert as_json(found, {})["contrast"]["by_path"].keys() == {STREAMING, BATCH}
    both = [r for r in MADE if found.from_ms <= r.at_ms < found.to_ms and not np.isnan(batch_score(r))]
    return found.contrast, both


def looked_at(both: list[Row], score: dict[int, float]) -> set[int]:
    """The offsets of each day's highest scores, everything counting once."""
    chosen: set[int] = set()
    for day in {r.at_ms // DAY_MS for r in both}:
        today = sorted((r for r in both if r.at_ms // DAY_MS == day), key=lambda r: -score[r.offset])
        chosen |= {r.offset for r in today[: TERMS.alerts_per_day_max]}
    return chosen


def test_paths_are_compared_on_the_transactions_that_both_have_scored(tmp_path: Path) -> None:
    found, both = contrast(tmp_path)
    assert found.transactions == len(both) < len([r for r in MADE if both[0].at_ms <= r.at_ms <= both[-1].at_ms])
    scores = {STREAMING: {r.offset: r.score for r in both}, BATCH: {r.offset: batch_score(r) for r in both}}
    for path, score in scores.items():
        chosen = looked_at(both, score)
        for name, odd in (("card_testing", 1), ("leaked_card", 0)):
            mine = [r for r in both if r.is_fraud and r.offset % 2 == odd]
            assert found.by_path[path].scenario_recall[name] == pytest.approx(
                np.mean([r.offset in chosen for r in mine])
            )
    better, worse = (found.by_path[path].quality["ap"] for path in (STREAMING, BATCH))
    assert better is not None
    assert worse is not None
    assert better > worse


def test_what_was_declined_counts_for_neither_path(tmp_path: Path) -> None:
    found, both = contrast(tmp_path)
    declined = [r for r in both if r.decision == DECLINE]
    assert declined
    # Neither precision can have a row in it that was declined: of those nobody knows what they were.
    told: dict[str, bool] = {}
    for label in labels(MADE):
        told[label.transaction_id] = label.is_fraud
    explored = [r for r in both if r.explored]
    weight = {r.offset: 0.0 if r.decision == DECLINE else 1.0 for r in both}
    weight |= {r.offset: (len(declined) + len(explored)) / len(explored) for r in explored}
    fraud = sum(weight[r.offset] for r in both if told.get(r.transaction_id, False))
    caught = 0.0
    for day in {r.at_ms // DAY_MS for r in both}:
        left = float(TERMS.alerts_per_day_max)
        for r in sorted((r for r in both if r.at_ms // DAY_MS == day), key=lambda r: -batch_score(r)):
            taken = min(left, weight[r.offset])
            left -= taken
            caught += taken * told.get(r.transaction_id, False)
    assert found.by_path[BATCH].quality["recall"] == pytest.approx(caught / fraud)


def test_a_snapshots_age_is_from_its_midnight_to_the_transaction(tmp_path: Path) -> None:
    found, both = contrast(tmp_path)
    ages = [r.at_ms % DAY_MS / 1000 for r in both if r.offset % 7]
    assert found.by_path[BATCH].feature_age_s == pytest.approx(np.mean(ages))
    assert found.by_path[BATCH].joined_share == pytest.approx(len(ages) / len(both))
    assert found.by_path[STREAMING].feature_age_s is None


def test_a_log_of_one_path_has_no_contrast(tmp_path: Path) -> None:
    from tests.scoring.scored_log import packed

    journal = Journal(tmp_path / "e.sqlite", TABLES, VERSION)
    store = EvaluationStore(journal)
    for row in MADE:
        store.add_scores(0, unpack(packed([row]), (SCORES,)))
    found = evaluate(journal.connection, TERMS)
    assert found is not None
    assert found.contrast is None
    assert {each.path for each in found.delivered} == {STREAMING}
