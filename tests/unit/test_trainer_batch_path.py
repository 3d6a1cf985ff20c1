"""The batch path's nights, model and schedule, on a small lake made by hand.

Rule 1. Fraud shows in the amount alone, as in labelled_lake.py: the request's own field is what this model can learn from.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from adapters.lake import Lake
from adapters.model_store import Aliases, ModelStore
from fraud.batch_features import BATCH_HASH, BATCH_KIND, BATCH_NAMES
from fraud.features import FEATURE_HASH, NAMES
from fraud.switches import META
from fraud.windows import DAY_MS, HOUR_MS
from tests.unit.labelled_lake import AS_OF_MS, BEGIN_MS, PLAN, ROWS, silent, table
from trainer.batch_path import schedule
from trainer.batch_path.learn import train_batch_path
from trainer.batch_path.nights import Nights, NoNightError, SnapshotFiles, history, newest_midnight, nightly
from trainer.batch_path.schedule import LOOK_S, RETRY_S, RETRY_S_MAX, NightlyJobs
from trainer.batch_path.snapshot import snapshot
from trainer.batch_path.vectors import vectors_for
from trainer.train import Trained


def transactions(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        "transaction_id",
        pl.col("card_id").str.replace(r"\d$", ""),
        terminal_id=pl.format("m{}", pl.col("occurred_at_ms") // HOUR_MS % 13),
        amount_minor=pl.col("request_amount_minor").cast(pl.Int64),
        occurred_at_ms="occurred_at_ms",
        sent_at_ms="occurred_at_ms",
        merchant_id=pl.lit("s1"),
        country=pl.lit("FR"),
        refused=pl.lit(None, pl.String),
    )


def lake_of(root: Path) -> Lake:
    lake, rows = Lake(root / "lake"), table()
    paid = transactions(rows)
    cards = paid["card_id"]
    lake.write_chunk("transactions", 0, (0, paid.height), paid, {})
    vectors = rows.with_columns(cards, paid["terminal_id"]).select(
        "transaction_id", "card_id", "terminal_id", "occurred_at_ms", *NAMES
    )
    lake.write_chunk("features", 0, (0, 1), vectors, {}, FEATURE_HASH)
    labels = rows.with_columns(cards, refused=pl.lit(None, pl.String)).select(
        "transaction_id", "card_id", "is_fraud", "known_at_ms", "refused"
    )
    lake.write_chunk("labels", 0, (0, 1), labels, {})
    return lake


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, ModelStore, SnapshotFiles, Trained]:
    """A lake, a registry, the nights' files, and the version that was trained from them."""
    root = tmp_path_factory.mktemp("batch-path")
    lake, store, files = lake_of(root), ModelStore(root / "models"), SnapshotFiles(root / "snapshots")
    return lake, store, files, train_batch_path(lake, store, files, PLAN, silent)


Place = tuple[Lake, ModelStore, SnapshotFiles, Trained]


def test_the_first_model_that_beats_the_rules_gets_the_role_of_its_path(place: Place) -> None:
    _, store, _, trained = place
    assert (trained.outcome, store.aliases()) == ("promoted", Aliases(batch_champion=trained.version))
    manifest = store.read(trained.version).manifest
    assert (manifest.kind, manifest.feature_hash, manifest.feature_names) == (BATCH_KIND, BATCH_HASH, BATCH_NAMES)
    assert manifest.gate.rival == "batch-rules"
    assert manifest.promise.ap is not None
    assert manifest.promise.ap > 0.2
    assert manifest.labels_known_by_ms == AS_OF_MS


def test_the_same_rows_again_give_no_other_champion(place: Place) -> None:
    lake, store, files, trained = place
    later = replace(PLAN, as_of_ms=AS_OF_MS - DAY_MS)
    again = train_batch_path(lake, store, files, later, silent)
    assert again.outcome == "rejected"
    assert trained.version in again.reason
    assert store.aliases().batch_champion == trained.version


def test_transactions_served_under_a_switch_are_left_out_and_counted(place: Place, tmp_path: Path) -> None:
    _, _, files, control = place
    lake = lake_of(tmp_path)
    (file,) = lake.files("features")
    switched = pl.when(pl.int_range(ROWS) % 10 == 0).then(pl.lit("float-sums")).alias(META)
    marked = pl.read_parquet(file.path).with_columns(switched)
    lake.write_chunk("features", 0, (file.first, file.next), marked, {}, file.feature_hash)
    said: list[str] = []
    store = ModelStore(tmp_path / "models")
    made = train_batch_path(lake, store, files, PLAN, lambda stage, percent, detail: said.append(detail))
    told = json.loads((tmp_path / "models" / made.version / "metrics.json").read_bytes())
    assert told["served_under_switches_left_out"] == ROWS // 10
    assert f", {ROWS // 10} served under a break-it switch left out" in said[0]
    left = control.manifest.trained_on.rows - made.manifest.trained_on.rows
    assert left == pytest.approx(control.manifest.trained_on.rows / 10, abs=2)


def test_rows_learn_from_the_night_before_them_and_each_night_is_kept(place: Place) -> None:
    lake, _, files, _ = place
    night_ms = BEGIN_MS + 20 * DAY_MS
    made = snapshot(history(lake, BEGIN_MS, AS_OF_MS), night_ms)
    kept = files.read(night_ms)
    assert kept is not None
    assert kept.cards.equals(made.cards)
    assert kept.terminals.equals(made.terminals)


def test_what_was_published_is_what_is_learned_from(place: Place, tmp_path: Path) -> None:
    lake, _, _, _ = place
    files, night_ms = SnapshotFiles(tmp_path), BEGIN_MS + 20 * DAY_MS
    made = snapshot(history(lake, BEGIN_MS, AS_OF_MS), night_ms)
    marked = replace(made, cards=made.cards.with_columns(pl.lit(7.0, pl.Float32).alias(BATCH_NAMES[3])))
    files.write(marked)
    rows = pl.DataFrame({"card_id": made.cards["card_id"][:5], "terminal_id": ["m1"] * 5}).with_columns(
        occurred_at_ms=pl.lit(night_ms + 5), **{name: pl.lit(1.0) for name in NAMES[:3]}
    )
    assert vectors_for(rows, Nights(lake, files, night_ms, AS_OF_MS))[:, 3].tolist() == [7.0] * 5


def test_a_half_written_night_is_made_again(place: Place, tmp_path: Path) -> None:
    lake, _, _, _ = place
    files, night_ms = SnapshotFiles(tmp_path), BEGIN_MS + 20 * DAY_MS
    first = Nights(lake, files, night_ms, AS_OF_MS)(night_ms)
    for path in files.folder.glob("*-terminals.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    assert Nights(lake, files, night_ms, AS_OF_MS)(night_ms).terminals.equals(first.terminals)


class Given:
    """What nightly() publishes to."""

    def __init__(self) -> None:
        self.published: list[tuple[int, int, int]] = []

    def publish(self, midnight_ms: int, cards: Any, terminals: Any) -> None:
        self.published.append((midnight_ms, len(cards.ids), len(terminals.ids)))


def test_nightly_makes_keeps_and_publishes_a_midnight(place: Place, tmp_path: Path) -> None:
    lake, _, _, _ = place
    store: Any = Given()
    files, night_ms = SnapshotFiles(tmp_path), BEGIN_MS + 10 * DAY_MS
    nightly(lake, store, night_ms, files)
    made = files.read(night_ms)
    assert made is not None
    assert store.published == [(night_ms, made.cards.height, made.terminals.height)]
    with pytest.raises(NoNightError, match="choose a later --as-of"):
        nightly(lake, store, BEGIN_MS, files)


def test_the_newest_midnight_is_one_that_event_time_has_passed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert newest_midnight(lake) is None
    sent = [BEGIN_MS + 3 * DAY_MS - 1] * 30 + [BEGIN_MS + 400 * DAY_MS]  # one sender's clock is a year ahead
    lake.write_chunk("transactions", 0, (0, 31), pl.DataFrame({"sent_at_ms": sent}), {})
    assert newest_midnight(lake) == BEGIN_MS + 2 * DAY_MS
    lake.write_chunk("transactions", 0, (31, 41), pl.DataFrame({"sent_at_ms": [BEGIN_MS + 3 * DAY_MS] * 10}), {})
    assert newest_midnight(lake) == BEGIN_MS + 3 * DAY_MS
    lake.write_chunk("transactions", 1, (0, 9), pl.DataFrame({"sent_at_ms": [BEGIN_MS + DAY_MS] * 9}), {})
    assert newest_midnight(lake) == BEGIN_MS + DAY_MS, "the slowest partition decides"


SETTLE_S = 5.0


class FakeProcess:
    """A process that ends when it is told to."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


class Machine:
    """Starts fake processes, and remembers what for; `now` is its clock."""

    def __init__(self, lake: Lake) -> None:
        self.now = 0.0
        self.started: list[tuple[list[str], FakeProcess]] = []
        self.jobs = NightlyJobs(lake, SETTLE_S, self.start, lambda: self.now)

    def start(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        process: Any = FakeProcess()
        self.started.append((list(arguments), process))
        return process  # type: ignore[no-any-return]

    def step(self, seconds: float = LOOK_S) -> list[list[str]]:
        self.now += seconds
        self.jobs.step()
        return [arguments for arguments, _ in self.started]


def passed(lake: Lake, day: int, first: int) -> None:
    lake.write_chunk("transactions", 0, (first, first + 1), pl.DataFrame({"sent_at_ms": [BEGIN_MS + day * DAY_MS]}), {})


def test_each_midnight_that_passes_is_made_once_and_a_failed_one_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    machine = Machine(lake)
    assert machine.step() == []
    passed(lake, 3, 0)
    night = ["snapshot", "--as-of", str(BEGIN_MS + 3 * DAY_MS)]
    assert machine.step() == [night]
    assert machine.step() == [night], "one at a time"
    machine.started[0][1].code = 3
    assert machine.step() == [night]
    assert machine.step(RETRY_S) == [night, night]
    machine.started[1][1].code = 0
    assert machine.step(RETRY_S) == [night, night], "published"
    passed(lake, 5, 1)
    assert machine.step()[2:] == [], "after one it rests as long as it took"
    assert machine.step(RETRY_S)[2:] == [["snapshot", "--as-of", str(BEGIN_MS + 5 * DAY_MS)]], "only the newest"


def test_a_night_that_fails_again_and_again_is_tried_ever_less_often_and_another_one_at_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    machine = Machine(lake)
    passed(lake, 3, 0)
    machine.step()
    begun_s = []
    while machine.now < 4 * RETRY_S_MAX:
        before = len(machine.started)
        if len(machine.step()) > before:
            begun_s.append(machine.now)
        machine.started[-1][1].code = 3
    waits = [later - earlier for earlier, later in itertools.pairwise(begun_s)]
    assert waits == sorted(waits)
    assert waits[0] < 3 * RETRY_S
    assert RETRY_S_MAX <= waits[-1] <= RETRY_S_MAX + 2 * LOOK_S
    machine.step(RETRY_S)
    passed(lake, 5, 1)
    assert machine.step()[-1] == ["snapshot", "--as-of", str(BEGIN_MS + 5 * DAY_MS)]


def test_a_stream_that_catches_up_gets_its_snapshot_when_it_has_slowed_down(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    machine = Machine(lake)

    def nights_after(day: int, seconds: float) -> list[int]:
        """The nights that were begun when `day` has passed so many seconds after the last step; each job ends at once."""
        passed(lake, day, day - 3)
        begun = machine.step(seconds)
        machine.started[-1][1].code = 0
        machine.step(0)
        return [(int(arguments[2]) - BEGIN_MS) // DAY_MS for arguments in begun]

    assert nights_after(3, 1) == [3], "the first that is seen"
    for day in range(4, 10):
        assert nights_after(day, SETTLE_S - LOOK_S) == [3], "each would be out of date"
    machine.step(SETTLE_S - LOOK_S)
    assert len(machine.started) == 1, "it may go on at once"
    assert machine.step()[1:] == [["snapshot", "--as-of", str(BEGIN_MS + 9 * DAY_MS)]]
    machine.started[-1][1].code = 0
    machine.step(0)
    assert nights_after(10, SETTLE_S) == [3, 9, 10], "a night that lasts is made at once"


def test_threads_of_a_job_that_wait_for_each_other_do_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    environments: list[dict[str, str]] = []

    def started(command: list[str], **how: Any) -> SimpleNamespace:
        environments.append(how["env"])
        return SimpleNamespace(pid=os.getpid())

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    monkeypatch.setenv("FRAUD_STATE_DIR", "here")
    schedule.start_job(["snapshot"])
    assert environments[0]["OMP_WAIT_POLICY"] == "passive"
    assert environments[0]["FRAUD_STATE_DIR"] == "here"


def test_after_a_training_run_this_paths_model_is_trained_beside_the_nights(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    machine = Machine(lake)
    machine.jobs.trained()
    training = ["train", "--as-of", "latest", "--path", "batch"]
    assert machine.step() == [training]
    passed(lake, 3, 0)
    assert len(machine.step()) == 2, "a snapshot does not wait for it"
    machine.jobs.trained()
    assert len(machine.step()) == 2
    machine.started[0][1].code = 0
    assert machine.step()[2] == training
