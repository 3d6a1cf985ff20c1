"""The plan of a world's stream: moments ascend, nothing is lost at its seams, and its bulk messages are the single ones.

Rule 1. The world is the small one of the streaming test; the plan knows no Kafka.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec
import polars as pl
import pytest

from fraud.simulation import ScenarioRun
from fraud.windows import DAY_MS, HOUR_MS
from producer.messages import placed_transaction_values, truth_records
from producer.world_plan import ROWS_MAX, Share, WorldPlan, labels_of
from producer.world_position import AlreadySent
from producer.world_stream import transaction_of
from tests.world_rows import BEGIN_MS, SOON, SmallWorld, late_and_twice

END_MS = BEGIN_MS + 2 * DAY_MS
PLAN = WorldPlan(SmallWorld(), SOON, late_and_twice)
WHOLE = pl.concat(PLAN.pieces(-1, END_MS))


def test_moments_ascend_and_no_row_comes_before_it_happens() -> None:
    assert WHOLE["clock_ms"].is_sorted()
    assert (WHOLE["clock_ms"] >= WHOLE["occurred_at_ms"]).all()
    assert (WHOLE["clock_ms"] > WHOLE["occurred_at_ms"]).sum() > 500


def test_pieces_end_with_the_hour_and_never_between_two_of_one_moment() -> None:
    for piece in PLAN.pieces(-1, END_MS):
        assert piece["clock_ms"][0] // HOUR_MS == piece["clock_ms"][-1] // HOUR_MS
        assert piece.height <= ROWS_MAX + 10
    ends = [(piece["clock_ms"][0], piece["clock_ms"][-1]) for piece in PLAN.pieces(-1, END_MS)]
    assert all(before < after for (_, before), (after, _) in pairwise(ends))


@pytest.mark.parametrize("hours", [1, 23, 24, 25, 30])
def test_a_plan_that_goes_on_from_any_moment_is_the_rest_of_the_whole(hours: int) -> None:
    at_ms = BEGIN_MS + hours * HOUR_MS + 17
    rest = pl.concat(PLAN.pieces(at_ms, END_MS))
    assert rest.equals(WHOLE.filter(pl.col("clock_ms") > at_ms))
    assert pl.concat(PLAN.pieces(-1, at_ms)).equals(WHOLE.filter(pl.col("clock_ms") < at_ms))


def test_shares_are_disjoint_and_together_whole_with_the_same_labels() -> None:
    parts = [pl.concat(WorldPlan(SmallWorld(), SOON, late_and_twice, Share(i, 3)).pieces(-1, END_MS)) for i in range(3)]
    assert pl.concat(parts).sort(WHOLE.columns).equals(WHOLE.sort(WHOLE.columns))


@pytest.mark.parametrize(("index", "of"), [(2, 2), (-1, 2), (0, 0)])
def test_an_impossible_share_is_refused(index: int, of: int) -> None:
    with pytest.raises(ValueError, match="share"):
        Share(index, of)


def test_bulk_messages_equal_single_ones() -> None:
    rows = WHOLE.head(400)
    single = [transaction_of(row, row["clock_ms"]).to_json() for row in rows.iter_rows(named=True)]
    assert placed_transaction_values(rows) == single
    assert rows["device_id"].null_count() and rows["latitude_cdeg"].null_count()


def test_each_fraud_has_its_truth_once_and_a_copy_has_none() -> None:
    told = [msgspec.json.decode(value)["transaction_id"] for _, value, _ in truth_records(WHOLE, None)]
    frauds = WHOLE.filter((pl.col("scenario") != "") & ~pl.col("is_copy"))["transaction_id"].to_list()
    assert told == frauds and len(set(told)) == len(told)


def test_a_label_is_never_due_before_its_transaction_is_sent() -> None:
    clock = dict(WHOLE.filter(~pl.col("is_copy")).select("transaction_id", "clock_ms").iter_rows())
    labels = labels_of(WHOLE)
    assert len(labels) > 100 and all(label.due_ms >= clock[label.transaction_id] for label in labels)


def test_a_run_is_planned_the_same_every_time_and_an_impossible_one_is_refused() -> None:
    run = ScenarioRun("run-a", "card-testing", 5, 60, {}, BEGIN_MS, BEGIN_MS + HOUR_MS)
    assert PLAN.run_rows(run).equals(PLAN.run_rows(run))
    with pytest.raises(ValueError, match="cards"):
        PLAN.run_rows(ScenarioRun("run-b", "card-testing", 101, 60, {}, BEGIN_MS, BEGIN_MS + HOUR_MS))


def test_a_world_whose_settings_change_goes_on_at_the_next_midnight() -> None:
    noon = BEGIN_MS + 36 * HOUR_MS
    assert PLAN.begins_after(noon, "") == noon
    assert PLAN.begins_after(noon, "others") == END_MS - 1
    assert PLAN.begins_after(END_MS - 1, "others") == END_MS - 1
    assert PLAN.begins_after(-1, "others") == -1


def test_transactions_of_others_are_not_ours() -> None:
    assert PLAN.is_ours("w0-1-5", "c5") and PLAN.is_ours("run-a-5", "c5")
    for transaction_id, card_id in (("w1-1-5", "c5"), ("h0-5", "c5"), ("w0-1-5", "card"), ("mine", "c5")):
        assert not PLAN.is_ours(transaction_id, card_id)


def test_what_is_in_the_log_is_counted_off_once_so_that_a_copy_is_sent_as_a_copy() -> None:
    sent = AlreadySent()
    sent.note("transactions", b'{"transaction_id":"a","sent_at_ms":7}')
    sent.note("transactions", b"not ours")
    assert sent.takes_transaction("a") and not sent.takes_transaction("a")
    assert not sent and sent.newest_ms == 7
