"""The batch path in the scorer: which snapshot a row gets, what happens without one, and what stands in `scores`.

Rule 1. Snapshots are given by hand, the clock too; the model is a small real one.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import xgboost as xgb
from prometheus_client import REGISTRY

from adapters.model_store import Aliases, ModelStore
from adapters.snapshot_store import NO_SNAPSHOT, Found, Int64s, SnapshotAwayError
from fraud import batch_rules
from fraud.batch_features import (
    BATCH_HASH,
    BATCH_KIND,
    BATCH_NAMES,
    CARD_COLUMNS,
    TERMINAL_COLUMNS,
    joined,
    without_snapshot,
)
from fraud.decision import decide
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import Floats, ModelRefusedError, canaries_of
from fraud.packed import SCORES, VECTORS, Batch, Column, OriginMarks, pack, unpack
from fraud.windows import DAY_MS, HOUR_MS
from scorer.batch_path import ASK_AGAIN_SECONDS, OUTCOMES, BatchPath
from scorer.judge import judge
from scorer.lane import Lane
from scorer.model import Model, load
from scorer.slot import BATCH_CHAMPION, CHAMPION, ModelSlot
from tests.scoring.published_models import manifest_of, publish

NIGHT_MS = 17_700 * DAY_MS


class GivenSlot:
    """A slot with this model."""

    def __init__(self, model: Model | None) -> None:
        self.model = model

    def refresh(self) -> bool:
        return False

    def settle(self, timeout_s: float) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to end."""


class GivenSnapshots:
    """Snapshots of some midnights, every value their number; None: away."""

    def __init__(self, *nights_ms: int) -> None:
        self.nights_ms: tuple[int, ...] | None = nights_ms
        self.asked = 0

    def look_up(self, occurred_at_ms: Int64s, card_ids: list[str], terminal_ids: list[str]) -> Found:
        self.asked += 1
        if self.nights_ms is None:
            raise SnapshotAwayError("Redis does not answer")
        rows = len(occurred_at_ms)
        midnight = np.full(rows, NO_SNAPSHOT, np.int64)
        for night_ms in sorted(self.nights_ms):
            midnight[occurred_at_ms >= night_ms] = night_ms
        value = ((midnight - NIGHT_MS) // DAY_MS + 1).astype(np.float32)[:, None]
        return Found(midnight, np.repeat(value, len(CARD_COLUMNS), 1), np.repeat(value, len(TERMINAL_COLUMNS), 1))


def batch_of(*times_ms: int, amount_minor: int = 1_000) -> Batch:
    rows = len(times_ms)
    vector = np.zeros((rows, len(NAMES)), np.float32)
    vector[:, 0] = amount_minor
    columns: dict[str, Column] = {
        "origin_partition": np.zeros(rows),
        "origin_offset": np.arange(rows),
        "transaction_id": [f"t{i}" for i in range(rows)],
        "card_id": [f"c{i}" for i in range(rows)],
        "terminal_id": ["m1"] * rows,
        "amount_minor": np.full(rows, amount_minor),
        "occurred_at_ms": np.array(times_ms),
        "ingested_at_ms": np.array(times_ms),
        "vector": vector,
    }
    return unpack(pack(VECTORS, columns, {"feature_hash": FEATURE_HASH}), (VECTORS,))


def booster() -> xgb.Booster:
    """Scores by what the card's snapshot says, its first column."""
    random = np.random.default_rng(3)
    rows = random.random((300, len(BATCH_NAMES))).astype(np.float32) * 4
    matrix = xgb.DMatrix(rows, label=rows[:, 3] > 1.5, feature_names=list(BATCH_NAMES))
    return xgb.train({"objective": "binary:logistic", "base_score": 0.5, "nthread": 1}, matrix, num_boost_round=4)


MODEL = Model("20180701T000000-abcdef", 0.25, booster())


def counted() -> dict[str, float]:
    name = "fraud_batch_path_rows_total"
    return {outcome: REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0.0 for outcome in OUTCOMES}


def path_with(snapshots: GivenSnapshots, model: Model | None = MODEL, now: list[float] | None = None) -> BatchPath:
    clock = now or [0.0]
    return BatchPath(snapshots, GivenSlot(model), 2.0, lambda: clock[0])


def test_a_row_is_scored_with_the_snapshot_of_the_midnight_before_it() -> None:
    batch = batch_of(NIGHT_MS + 1, NIGHT_MS + DAY_MS - 1, NIGHT_MS + DAY_MS)
    found = path_with(GivenSnapshots(NIGHT_MS, NIGHT_MS + DAY_MS)).judge(batch)
    assert found.snapshot_ms.tolist() == [NIGHT_MS, NIGHT_MS, NIGHT_MS + DAY_MS]
    for row, value in enumerate((1, 1, 2)):
        request = batch.array("vector")[[row], :3]
        card, terminal = (np.full((1, len(names)), value, np.float32) for names in (CARD_COLUMNS, TERMINAL_COLUMNS))
        assert found.score[row] == MODEL.score(joined(request, card, terminal))[0]
    assert found.decision.tolist() == decide(found.score, batch.array("amount_minor"), 0.25).tolist()
    assert found.version == [MODEL.version] * 3
    assert found.score[0] != found.score[2]


@pytest.mark.parametrize(
    ("snapshots", "at_ms", "outcome"),
    [
        (GivenSnapshots(), NIGHT_MS, "missing"),
        (GivenSnapshots(NIGHT_MS), NIGHT_MS - 1, "missing"),  # a snapshot from its future
        (GivenSnapshots(NIGHT_MS), NIGHT_MS + 2 * DAY_MS + 1, "stale"),
    ],
)
def test_without_a_usable_snapshot_the_rules_score_the_requests_own_fields(
    snapshots: GivenSnapshots, at_ms: int, outcome: str
) -> None:
    before = counted()
    batch = batch_of(at_ms, amount_minor=150_000)
    found = path_with(snapshots).judge(batch)
    vectors = without_snapshot(batch.array("vector")[:, :3])
    assert np.isnan(vectors[0, 3:]).all()
    assert found.score.tolist() == batch_rules.BOOK.score(batch_rules.BOOK.fired(vectors)).tolist() == [0.5]
    assert (found.version, found.snapshot_ms.tolist()) == ([batch_rules.VERSION], [NO_SNAPSHOT])
    assert {name: rows - before[name] for name, rows in counted().items() if rows != before[name]} == {outcome: 1}


def test_on_the_last_day_that_is_allowed_a_snapshot_is_used() -> None:
    found = path_with(GivenSnapshots(NIGHT_MS)).judge(batch_of(NIGHT_MS + 2 * DAY_MS))
    assert found.version == [MODEL.version]


def test_before_any_model_the_rules_of_this_path_judge_all_they_know() -> None:
    found = path_with(GivenSnapshots(NIGHT_MS), None).judge(batch_of(NIGHT_MS + 5))
    assert found.version == [batch_rules.VERSION]
    assert found.snapshot_ms.tolist() == [NIGHT_MS]


def test_redis_away_is_counted_and_not_asked_again_at_once() -> None:
    snapshots, now, before = GivenSnapshots(NIGHT_MS), [100.0], counted()
    path = path_with(snapshots, now=now)
    snapshots.nights_ms = None
    for _ in range(3):
        assert path.judge(batch_of(NIGHT_MS + 5)).version == [batch_rules.VERSION]
    assert snapshots.asked == 1
    assert counted()["away"] - before["away"] == 3
    snapshots.nights_ms = (NIGHT_MS,)
    now[0] += ASK_AGAIN_SECONDS
    assert path.judge(batch_of(NIGHT_MS + 5)).version == [MODEL.version]


def written(batch: Batch, path: BatchPath | None) -> list[Batch]:
    lane, verdicts = Lane(0, OriginMarks()), judge(batch, None, 0.0)
    beside = None if path is None else path.judge(batch)
    records = lane.scores(batch, verdicts, slice(0, batch.rows), 5, beside)
    return [unpack(record[1], (SCORES,)) for _, record in records]


def test_a_record_of_scores_is_of_one_snapshot_and_keeps_the_order() -> None:
    late = NIGHT_MS + DAY_MS - HOUR_MS
    times = [NIGHT_MS + DAY_MS + 1, NIGHT_MS + DAY_MS + 2, late, NIGHT_MS - 1, NIGHT_MS + DAY_MS + 3]
    path = path_with(GivenSnapshots(NIGHT_MS, NIGHT_MS + DAY_MS))
    records = written(batch_of(*times), path)
    dates = ["2018-06-19", "2018-06-18", None, "2018-06-19"]
    assert [record.meta["snapshot_date"] for record in records] == dates
    assert [record.meta["batch_version"] for record in records] == [
        batch_rules.VERSION if date is None else MODEL.version for date in dates
    ]
    assert [offset for record in records for offset in record.array("origin_offset").tolist()] == [0, 1, 2, 3, 4]
    assert not np.isnan(np.concatenate([record.array("batch_score") for record in records])).any()


def test_a_scorer_without_the_path_writes_no_score_of_it() -> None:
    (record,) = written(batch_of(NIGHT_MS, NIGHT_MS + 1), None)
    assert np.isnan(record.array("batch_score")).all()
    assert (record.meta["batch_version"], record.meta["snapshot_date"]) == (None, None)


def test_what_the_batch_path_says_changes_no_decision() -> None:
    batch = batch_of(NIGHT_MS + 5, amount_minor=150_000)
    (alone,), (beside,) = written(batch, None), written(batch, path_with(GivenSnapshots(NIGHT_MS)))
    for column in ("score", "decision", "explored"):
        assert alone.array(column).tolist() == beside.array(column).tolist()


# -- the model's role -------------------------------------------------------------------------------------------------------------


def publish_batch(root: Path) -> str:
    model = bytes(booster().save_raw("ubj"))
    vectors: Floats = np.random.default_rng(1).random((16, len(BATCH_NAMES))).astype(np.float32)
    scores = np.asarray(xgb.Booster(model_file=bytearray(model)).inplace_predict(vectors, validate_features=False))
    files = {"model.ubj": model}
    manifest = msgspec.structs.replace(
        manifest_of(files, 3),
        kind=BATCH_KIND,
        feature_hash=BATCH_HASH,
        feature_names=BATCH_NAMES,
        canaries=canaries_of(vectors, scores),
    )
    return ModelStore(root).publish(manifest, files)


def in_slot(root: Path, role: str) -> Model | None:
    now = [0.0]
    slot = ModelSlot(root, lambda _: None, lambda: now[0], role)
    slot.settle(60)
    return slot.model


def test_promoting_a_version_of_the_batch_path_leaves_the_champion(tmp_path: Path) -> None:
    store, champion, batch = ModelStore(tmp_path), publish(tmp_path), publish_batch(tmp_path)
    store.promote(champion)
    store.promote(batch)
    assert store.aliases() == Aliases(champion=champion, batch_champion=batch)
    for role, version in ((CHAMPION, champion), (BATCH_CHAMPION, batch)):
        model = in_slot(tmp_path, role)
        assert model is not None
        assert model.version == version


def test_a_role_takes_no_model_of_the_other_path(tmp_path: Path) -> None:
    store, champion, batch = ModelStore(tmp_path), publish(tmp_path), publish_batch(tmp_path)
    with pytest.raises(ModelRefusedError, match="the role takes xgboost"):
        load(store.read(batch), "xgboost")
    store.set_aliases(store.aliases(), Aliases(champion=batch))
    store.set_aliases(store.aliases(), Aliases(champion=batch, batch_champion=champion))
    assert in_slot(tmp_path, CHAMPION) is None
    assert in_slot(tmp_path, BATCH_CHAMPION) is None


def test_the_roles_of_the_two_paths_change_apart(tmp_path: Path) -> None:
    store, champion, batch = ModelStore(tmp_path), publish(tmp_path), publish_batch(tmp_path)
    seen_at_the_begin_of_a_run = store.aliases()
    store.promote(batch)
    store.promote(champion, seen_at_the_begin_of_a_run)
    assert store.aliases() == Aliases(champion=champion, batch_champion=batch)
