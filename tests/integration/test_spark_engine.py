"""The Spark engine beside the local one, on one lake: equal vectors bit for bit, models equally good, and nothing left running.

Rule 1. The command trains in one session in local mode, a second one serves the rest. The lake has two partitions, and tied,
        late, repeated and bad transactions.
Rule 2. The comparison is shown to see a wrong order: two rows of one partition that change places give other vectors.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
from typer.testing import CliRunner

from adapters.lake import Lake
from adapters.model_store import ModelStore
from fraud import topics
from fraud.features import NAMES
from fraud.model import Manifest
from tests.conftest import missing
from tests.integration.logged_lake import AS_OF_MS, logged_lake, rearranged
from tests.unit.labelled_lake import PLAN, silent
from trainer.__main__ import app
from trainer.dataset import Rows
from trainer.engine import EngineFailedError, EngineMissingError
from trainer.fit import FIT, from_bytes, score
from trainer.spark.engine import SparkEngine
from trainer.spark.session import check, spark_session, told_plainly
from trainer.spark.vectors import labelled_rows, work_for
from trainer.train import LOCAL, train

PLAN_OF_LOGS = replace(
    PLAN, as_of_ms=AS_OF_MS, rows_min=500, replay=True, params=replace(FIT, rounds=60, max_bin=256, nthread=1)
)
END_S_MAX = 90.0
pytestmark = pytest.mark.timeout(
    900
)  # two starts of a JVM and a training: half a minute, on a busy machine ten times that


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return logged_lake(tmp_path_factory.mktemp("logs") / "lake")


@pytest.fixture(scope="module")
def trained(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelStore, Manifest]:
    """What `fraudstream train --engine spark` published."""
    try:
        check(os.environ)
    except EngineMissingError as error:
        missing("spark", str(error))
    state = tmp_path_factory.mktemp("state")
    settings = {
        "STATE_DIR": str(state),
        "LAKE_DIR": str(lake.root),
        "SPARK_MEMORY_MIB": "1024",
        "TRAIN_ROWS_MIN": str(PLAN_OF_LOGS.rows_min),
        "ALERTS_PER_DAY_MAX": str(PLAN_OF_LOGS.alerts_per_day_max),
    }
    with nothing_left(state / "spark"), pytest.MonkeyPatch.context() as patched:
        for name, value in settings.items():
            patched.setenv(f"FRAUD_{name}", value)
        patched.setattr("trainer.fit.FIT", PLAN_OF_LOGS.params)
        told = CliRunner().invoke(app, ["train", "--as-of", str(AS_OF_MS), "--engine", "spark", "--json"])
    assert told.exit_code == 0, told.output
    store = ModelStore(state / "models")
    return store, store.read(json.loads(told.stdout)["version"]).manifest


@pytest.fixture(scope="module")
def engine(trained: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkEngine]:
    """A session of the tests' own, the second in this process: the command has ended the first."""
    folder = tmp_path_factory.mktemp("spark")
    with nothing_left(folder), spark_session("local[2]", 1024, folder) as spark:
        yield SparkEngine(spark)


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """What runs within leaves no process and, in the folder, no file."""
    before = set(psutil.Process().children(recursive=True))
    yield
    deadline = time.monotonic() + END_S_MAX
    while left := set(psutil.Process().children(recursive=True)) - before:
        assert time.monotonic() < deadline, f"Spark left {left}"
        time.sleep(0.05)
    assert list(folder.iterdir()) == [], "Spark left files"


def in_order(rows: Rows) -> pl.DataFrame:
    return rows.frame.sort("occurred_at_ms", "transaction_id", "card_id")


def bits(rows: pl.DataFrame) -> bytes:
    return rows.select(NAMES).to_numpy(order="c").tobytes()


def test_models_of_both_engines_are_equally_good(
    lake: Lake, trained: tuple[ModelStore, Manifest], tmp_path: Path
) -> None:
    _, theirs = trained
    ours = train(lake, ModelStore(tmp_path / "models"), PLAN_OF_LOGS, silent).manifest
    one, other = theirs.promise, ours.promise
    assert (one.rows, one.fraud) == (other.rows, other.fraud)
    assert other.ap is not None
    assert one.ap == pytest.approx(other.ap, abs=0.05)  # 90 % of draws of the cards are within 0.13 of either
    assert one.auc == pytest.approx(other.auc, abs=0.02)
    assert other.ap > 10 * other.fraud / other.rows, "a model that knows nothing would agree with another such"
    assert theirs.trained_on == ours.trained_on
    assert theirs.params == ours.params | {"rounds": theirs.params["rounds"]}
    assert theirs.gate.outcome == "promoted"


def test_a_model_from_spark_is_served_as_any_other(trained: tuple[ModelStore, Manifest]) -> None:
    store, manifest = trained
    stored = store.read(manifest.version)
    again = score(from_bytes(stored.model), manifest.canary_vectors())
    assert again.tobytes() == manifest.canary_scores().tobytes()
    assert np.unique(again).size > 5
    assert b"computed again by Spark" in (stored.folder / "metrics.json").read_bytes()


def test_vectors_and_labels_of_both_engines_are_equal_bit_for_bit(lake: Lake, engine: SparkEngine) -> None:
    here, there = LOCAL.read(lake, PLAN_OF_LOGS), engine.read(lake, PLAN_OF_LOGS)
    ours, theirs = in_order(here.rows), in_order(there.rows)
    assert ours.height > 6_000
    assert bits(theirs) == bits(ours)
    assert theirs.drop(NAMES).equals(ours.drop(NAMES))
    assert 100 < here.rows.fraud < ours.height
    risk = ours["terminal_fraud_count_7d"].to_numpy()
    assert (risk > 0).mean() > 0.1, "labels in the terminals' log must tell, or nothing is compared"


def turned_round(frame: pl.DataFrame) -> pl.DataFrame:
    return frame[::-1]


def with_two_exchanged(frame: pl.DataFrame) -> pl.DataFrame:
    """The two transactions of a terminal that are nearest in time: as little as an order can be wrong."""
    rows = frame.with_row_index("row").filter(pl.col("origin_topic") == "transactions")
    before = pl.col("occurred_at_ms").shift().over("terminal_id")
    gaps = rows.with_columns(gap=pl.col("occurred_at_ms") - before, earlier=pl.col("row").shift().over("terminal_id"))
    nearest = gaps.filter(pl.col("gap") > 0).sort("gap").row(0, named=True)
    order = np.arange(frame.height)
    order[[nearest["row"], nearest["earlier"]]] = nearest["earlier"], nearest["row"]
    return frame[order]


@pytest.mark.parametrize(
    ("topic", "change"),
    [(topics.TRANSACTIONS.name, turned_round), (topics.TERMINAL_LOG.name, with_two_exchanged)],
)
def test_another_order_of_one_partition_is_seen(
    lake: Lake, engine: SparkEngine, tmp_path: Path, topic: str, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    other = rearranged(lake, tmp_path / "other", topic, change)
    right, wrong = in_order(LOCAL.read(lake, PLAN_OF_LOGS).rows), in_order(engine.read(other, PLAN_OF_LOGS).rows)
    assert bits(wrong) != bits(right)


def test_an_executor_with_other_features_fails_the_run_and_says_so(lake: Lake, engine: SparkEngine) -> None:
    work = replace(work_for(lake, PLAN_OF_LOGS.split, PLAN_OF_LOGS.maturity, 2), feature_hash="another")
    with (
        pytest.raises(EngineFailedError, match="install the same release of fraudstream on every node"),
        told_plainly(),
    ):
        labelled_rows(engine.spark, work).count()
