"""The challenger in the evaluator: on the transactions that it has scored, beside whoever decided on them, against a slow count.

Rule 1. The challenger is better on purpose, sits from the second week on, and is followed by another: both must show.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from adapters.delivered import keep_delivered, read_delivered
from fraud.features import FEATURE_HASH
from fraud.labels import Label
from fraud.model import Promise
from fraud.packed import SCORES, Column, pack, unpack
from fraud.windows import DAY_MS
from monitoring.evaluation import Evaluation, Terms, as_json, evaluate, qualities
from monitoring.evaluation_store import TABLES, VERSION, EvaluationStore
from monitoring.journal import Journal
from monitoring.paths_report import as_text
from tests.scoring.scored_log import BEGIN_MS, DECLINE, Row, columns_of, labels, rows, truths

TERMS = Terms(days=7, horizon_ms=7 * DAY_MS, alerts_per_day_max=10)
MADE = rows(3000)
FIRST, SECOND = "20180415T000000-cccccc", "20180420T000000-dddddd"


def challenger_of(row: Row) -> str | None:
    """Nobody in the first 17 days; then one, and from day 20 on another."""
    day = (row.at_ms - BEGIN_MS) // DAY_MS
    return None if day < 17 else FIRST if day < 20 else SECOND


def challenger_score(row: Row) -> float:
    return float(np.float32(row.score / 2 + (0.5 if row.is_fraud else 0.0) * (row.offset % 3 > 0)))


def record(row: Row) -> bytes:
    who = challenger_of(row)
    columns: dict[str, Column] = {
        **columns_of([row]),
        "challenger_score": np.array([np.nan if who is None else challenger_score(row)], np.float32),
    }
    return pack(
        SCORES, columns, {"feature_hash": FEATURE_HASH, "model_version": row.version, "challenger_version": who}
    )


@cache
def evaluated(folder: Path) -> Evaluation:
    store = EvaluationStore(Journal(folder / "e.sqlite", TABLES, VERSION))
    for row in MADE:
        store.add_scores(0, unpack(record(row), (SCORES,)))
    store.add_labels(labels(MADE))
    store.add_truth(truths(MADE))
    found = evaluate(store._db, TERMS)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluated(tmp_path_factory.mktemp("challenger"))


def counted(found: Evaluation, mine: list[Row], score: dict[int, float]) -> tuple[float, float]:
    """AUC and average precision by scikit-learn."""
    told: dict[str, Label] = {}
    known: dict[str, int] = {}
    for label in labels(MADE):
        told[label.transaction_id] = label
    for label in told.values():
        if label.is_fraud and found.from_ms - TERMS.lookback_ms <= label.occurred_at_ms < found.from_ms:
            known[label.card_id] = min(known.get(label.card_id, 2**60), label.known_at_ms)
    declined, explored = [r for r in mine if r.decision == DECLINE], [r for r in mine if r.explored]
    share = (len(declined) + len(explored)) / max(1, len(explored))
    seen = [r for r in mine if r.decision != DECLINE and not known.get(r.card, 2**60) < r.at_ms // DAY_MS * DAY_MS]
    truth = [r.transaction_id in told and told[r.transaction_id].is_fraud for r in seen]
    scores, weight = [score[r.offset] for r in seen], [share if r.explored else 1.0 for r in seen]
    return (
        float(roc_auc_score(truth, scores, sample_weight=weight)),
        float(average_precision_score(truth, scores, sample_weight=weight)),
    )


def test_each_challenger_is_measured_beside_whoever_decided_on_the_same_transactions(found: Evaluation) -> None:
    assert [each.version for each in found.shadowed] == [FIRST, SECOND]
    inside = [r for r in MADE if found.from_ms <= r.at_ms < found.to_ms]
    for each in found.shadowed:
        mine = [r for r in inside if challenger_of(r) == each.version]
        assert each.transactions == len(mine) < len(inside)
        seen = [r for r in mine if r.decision != DECLINE]
        assert each.fraud + each.genuine == len(seen) < len(mine)
        for quality, score in (
            (each.quality, {r.offset: challenger_score(r) for r in mine}),
            (each.champion, {r.offset: r.score for r in mine}),
        ):
            assert (quality["auc"], quality["ap"]) == pytest.approx(counted(found, mine, score))
        better, worse = each.quality["ap"], each.champion["ap"]
        assert better is not None and worse is not None
        assert better > worse


def test_a_challenger_decides_nothing_so_it_stands_in_no_paths_deliveries(found: Evaluation, tmp_path: Path) -> None:
    assert not {FIRST, SECOND} & {each.version for each in found.delivered}
    store = EvaluationStore(Journal(tmp_path / "e.sqlite", TABLES, VERSION))
    for row in MADE:
        alone = unpack(record(row), (SCORES,))
        store.add_scores(
            0, unpack(pack(SCORES, {**alone.columns, "challenger_score": np.full(1, np.nan)}, alone.meta), (SCORES,))
        )
    store.add_labels(labels(MADE))
    store.add_truth(truths(MADE))
    without = evaluate(store._db, TERMS)
    assert without is not None
    assert without.shadowed == ()
    assert without.delivered == found.delivered


def test_it_is_kept_for_the_registry_and_told_beside_the_promise(found: Evaluation, tmp_path: Path) -> None:
    keep_delivered(tmp_path / "delivered.json", qualities(found))
    kept = {(each.path, each.version): each for each in read_delivered(tmp_path / "delivered.json")}
    for each in found.shadowed:
        stored = kept["challenger", each.version]
        assert (stored.ap, stored.champion_ap) == (each.quality["ap"], each.champion["ap"])
    assert all(each.champion_ap is None for (path, _), each in kept.items() if path == "streaming")
    promise = Promise(0.91, 0.62, 0.33, 0, 1, 2, 3)
    text = as_text(found, {SECOND: promise})
    last = found.shadowed[-1]
    assert f"in shadow, {SECOND}: {last.fraud:,} fraud" in text
    assert f"average precision             {last.quality['ap']:>10.3f}     0.620{last.champion['ap']:>10.3f}" in text
    assert as_json(found, {SECOND: promise})["shadowed"][-1]["promised"]["ap"] == 0.62
