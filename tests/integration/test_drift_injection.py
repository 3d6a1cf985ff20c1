"""Drift on simulated days: hardly a false alarm while nothing changes, and every injected change is raised in time.

Rule 1. Days are folded by the stream's own fold; a change is made to the transactions, or to the vectors of a broken stage.
Rule 2. The stated time is RAISED_WITHIN windows of a day; an alarm of another column does not count as the right one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from fraud.drift import Window, estimated_quality, judge
from fraud.features import NAMES
from fraud.windows import DAY_MS
from producer import handbook
from tests.integration.drift_world import DAYS, LEARNED, QUIET, WARM_UP, Served, World, alarms, transactions, world

FALSE_ALARMS_MAX = 3
RAISED_WITHIN = 3
FROM_DAY = WARM_UP + LEARNED + 20
FROM_MS = handbook.BEGIN_MS + FROM_DAY * DAY_MS
IS_LATER = pl.col("occurred_at_ms") >= FROM_MS


@pytest.mark.parametrize("seed", [1, 2])
def test_a_hundred_quiet_days_raise_at_most_three_alarms(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = world(seed)
    windows = quiet.windows()
    raised = alarms(quiet.reference, windows)
    columns = len(windows[0].counts) + 1
    with capsys.disabled():
        print(f"\nseed {seed}: {len(raised)} false alarms in {QUIET} quiet days of {columns} columns: {raised}")
    assert len(windows) == QUIET
    assert len(raised) <= FALSE_ALARMS_MAX


def larger_amounts(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.when(IS_LATER).then(pl.col("amount_minor") * 2).otherwise("amount_minor"))


def another_time_zone(table: pl.DataFrame) -> pl.DataFrame:
    shift = pl.when(IS_LATER).then(6 * 3_600_000).otherwise(0)
    return table.with_columns(
        pl.col("occurred_at_ms") + shift, pl.col("label_known_at_ms") + shift
    )  # the order of arrival stays


def bursts_of_small_amounts(table: pl.DataFrame) -> pl.DataFrame:
    """From the day on every fourth card pays five more times within minutes: card testing, by the thousand."""
    later = table.filter(IS_LATER & (pl.col("card_id") % 4 == 0))
    more = [
        later.with_columns(
            pl.col("transaction_id") + (i + 1) * 10_000_000,
            pl.lit(100).alias("amount_minor").cast(pl.Int64),
            pl.col("occurred_at_ms") + 60_000 * (i + 1),
        )
        for i in range(5)
    ]
    return pl.concat([table, *more]).sort("occurred_at_ms", maintain_order=True)


@pytest.mark.parametrize(("change", "column"), [
    (larger_amounts, "request_amount_minor"),
    (another_time_zone, "request_hour"),
    (bursts_of_small_amounts, "card_count_1h"),
])  # fmt: skip
def test_a_change_of_the_transactions_is_raised_within_three_days(change, column: str) -> None:  # type: ignore[no-untyped-def]
    found = world(1)
    windows = found.windows(found.changed(change))
    assert raised_at(found, windows, column) < RAISED_WITHIN
    assert column not in [name for _, name in alarms(found.reference, found.windows())], "raised without the change"


def raised_at(found: World, windows: list[Window], column: str) -> int:
    """Windows from the change to the column's alarm. Raises AssertionError when there is none."""
    times = [number - 20 for number, name in alarms(found.reference, windows) if name == column and number >= 20]
    assert times, f"{column} was never raised; raised were {alarms(found.reference, windows)}"
    return times[0]


def broken(served: Served, until_day: int = DAYS) -> dict[str, Served]:
    """What a broken stage or model would serve from the day on, by the column that must be raised."""
    rows = np.flatnonzero((served.day >= FROM_DAY) & (served.day < until_day))
    lost, unseen, scores = served.vectors.copy(), served.vectors.copy(), served.score.copy()
    lost[rows[::5], NAMES.index("card_seconds_since_last")] = np.nan
    unseen[rows[::20], NAMES.index("terminal_count_1h")] += 40
    scores[rows] = np.minimum(1, scores[rows] * 20)
    return {
        "card_seconds_since_last": replace(served, vectors=lost),
        "terminal_count_1h": replace(served, vectors=unseen),
        "score": replace(served, score=scores),
        "alert_rate": replace(served, score=scores),
    }


@pytest.mark.parametrize("column", ["card_seconds_since_last", "terminal_count_1h", "score", "alert_rate"])
def test_what_a_broken_stage_or_model_serves_is_raised_within_three_days(column: str) -> None:
    found = world(1)
    assert raised_at(found, found.windows(broken(found.served)[column]), column) < RAISED_WITHIN


def test_one_bad_day_raises_nothing_and_an_alarm_clears_when_the_days_are_quiet_again() -> None:
    found = world(1)
    before = alarms(found.reference, found.windows())
    one_day = found.windows(broken(found.served, FROM_DAY + 1)["terminal_count_1h"])
    assert alarms(found.reference, one_day) == before
    twice = broken(found.served, FROM_DAY + 3)["terminal_count_1h"]
    again = np.flatnonzero(twice.day >= FROM_DAY + 10)
    twice.vectors[again[::20], NAMES.index("terminal_count_1h")] += 40
    raised = [number for number, name in alarms(found.reference, found.windows(twice)) if name == "terminal_count_1h"]
    assert raised == [21, 31], "it must clear between the two, to be raised again"


def test_the_estimate_without_labels_is_near_the_truth_while_nothing_changes_and_blind_when_fraud_does() -> None:
    found, truth = world(1), transactions(1)["label_is_fraud"].to_numpy()
    rows = found.served.day >= WARM_UP + LEARNED
    is_alert = rows & (found.served.score >= np.float32(found.reference.threshold))
    alerted = found.served.score[is_alert]
    estimated, _ = estimated_quality(
        len(alerted), float(alerted.sum(dtype=float)), float(found.served.score[rows].sum(dtype=float))
    )
    assert estimated is not None
    assert abs(estimated - truth[is_alert].mean()) < 0.15
    # Concept drift: the same transactions, but half of the frauds that the model knows are none any more.
    changed = truth.copy()
    changed[np.flatnonzero(is_alert & truth)[::2]] = False
    assert abs(estimated - changed[is_alert].mean()) > 0.15
    window = found.windows()[0]
    judgement = judge(found.reference, window)
    assert judgement is not None
    assert judgement.precision == pytest.approx(window.alerted_probability / window.alerted)
