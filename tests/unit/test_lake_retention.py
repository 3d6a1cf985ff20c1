"""Retention: what goes, what training keeps, and what a person is told.

Rule 1. The lake is the small one: thirty days, a file a day.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.lake import RETIRED, Lake, LakeGapError
from fraud.windows import DAY_MS
from tests.integration.log_writer import BEGIN_MS
from tests.unit.small_lake import DAYS, small_lake
from trainer.retention import GIB, Retention, plan, retire
from trainer.settings import TrainerSettings

TEN_DAYS = Retention(keep_days=10, size_max_bytes=None, needed_days=5)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(tmp_path / "lake")


def oldest(lake: Lake, topic: str, column: str = "occurred_at_ms") -> int:
    return int(lake.scan(topic).collect()[column].min())  # type: ignore[arg-type]


def size(lake: Lake) -> int:
    return sum(file.path.stat().st_size for topic in lake.topics() for file in lake.files(topic))


def test_what_is_older_than_the_settings_want_goes_and_nothing_younger(lake: Lake) -> None:
    newest_ms = int(lake.scan("transactions").collect()["occurred_at_ms"].max())  # type: ignore[arg-type]
    kept = {topic: lake.next_offset(topic, 0) for topic in lake.topics()}
    retire(lake, TEN_DAYS)
    for topic in ("transactions", "features", "scores", "alerts"):
        # Files hold a day, so up to a day more than the ten is kept.
        assert newest_ms - 11 * DAY_MS - DAY_MS <= oldest(lake, topic) <= newest_ms - 9 * DAY_MS, topic
        assert lake.files(topic)[0].gone == RETIRED
    assert {topic: lake.next_offset(topic, 0) for topic in lake.topics()} == kept
    # A label goes when it is old itself: it may tell of a transaction long before it.
    assert oldest(lake, "labels", "known_at_ms") >= newest_ms - 12 * DAY_MS


def test_a_second_time_there_is_nothing_to_let_go(lake: Lake) -> None:
    assert retire(lake, TEN_DAYS).leaving
    assert retire(lake, TEN_DAYS).leaving == ()


def test_what_training_needs_stays_whatever_the_size(lake: Lake) -> None:
    tight = Retention(keep_days=None, size_max_bytes=1, needed_days=12)
    found = retire(lake, tight)
    newest_ms = BEGIN_MS + DAYS * DAY_MS
    assert oldest(lake, "transactions") <= newest_ms - 12 * DAY_MS
    assert found.excess_bytes > 0


def test_the_size_is_kept_by_letting_the_oldest_go_first(lake: Lake) -> None:
    most = size(lake) * 2 // 3
    found = retire(lake, Retention(None, most, needed_days=5))
    for topic in lake.topics():
        lake.sweep(topic, 0, older_than_s=0)
    rest = size(lake)
    tombstones = sum(lake.files(topic)[0].path.stat().st_size for topic in lake.topics())
    assert found.excess_bytes == 0
    assert most / 2 < rest <= most + tombstones
    starts = [oldest(lake, topic) for topic in ("transactions", "features", "scores")]
    assert max(starts) - min(starts) <= 2 * DAY_MS


def test_without_limits_nothing_goes_and_a_dry_run_changes_nothing(lake: Lake) -> None:
    assert retire(lake, replace(TEN_DAYS, keep_days=None)).leaving == ()
    assert plan(lake, TEN_DAYS).leaving
    assert lake.files("transactions")[0].gone is None


def test_nothing_is_deleted_from_a_lake_that_is_not_whole(lake: Lake) -> None:
    lake.files("labels")[7].path.unlink()
    before = sorted(path.name for path in lake.root.rglob("*.parquet"))
    with pytest.raises(LakeGapError, match="labels/0"):
        retire(lake, TEN_DAYS)
    assert sorted(path.name for path in lake.root.rglob("*.parquet")) == before


def test_an_age_that_training_would_miss_is_refused_with_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_LAKE_KEEP_DAYS", "60")
    with pytest.raises(
        ValueError, match=r"FRAUD_LAKE_KEEP_DAYS is 60.*119 days = 56 \(FRAUD_TRAIN_DAYS\).*119 or more"
    ):
        Retention.of(TrainerSettings.read())
    monkeypatch.setenv("FRAUD_LAKE_KEEP_DAYS", "119")
    monkeypatch.setenv("FRAUD_LAKE_SIZE_MAX_GIB", "1.5")
    assert Retention.of(TrainerSettings.read()) == Retention(119, int(1.5 * GIB), 119)
