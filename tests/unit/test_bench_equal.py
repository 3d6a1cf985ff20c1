"""What must be equal before anything is timed: features, trees, rows.

Rule 1. Every check is shown a difference that it must find.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import xgboost as xgb

from benchmarks.harness import agreed, equal
from benchmarks.harness.agreed import AGREED, PLACES
from benchmarks.harness.hops import HOPS, hops_of, slowest_hops
from benchmarks.harness.rows import RowCursor, messages, named, number_of, of_hold
from benchmarks.peers import agreed_features as peers
from fraud.features import NAMES
from fraud.fold import CARD_WIDTH
from fraud.transaction import parse_transaction

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


@cache
def model() -> agreed.AgreedModel:
    return agreed.fitted(8_000, rounds=40)


def test_the_peers_windows_are_open_on_the_left_and_closed_on_the_right():
    #       09:00            10:00
    #  1 h  (---------------]          at = 10:00
    at_ms = 10 * HOUR_MS + 40 * DAY_MS
    card = [(at_ms - HOUR_MS, 7), (at_ms - HOUR_MS + 1, 20), (at_ms, 40)]
    told = dict(zip(AGREED, peers.vector(5, at_ms, card, [1, 2, 3]), strict=True))
    assert told["request_amount_minor"] == 5
    assert [told[f"card_{name}_1h"] for name in ("count", "sum_amount_minor", "mean_amount_minor")] == [2, 60, 30]
    assert told["card_max_amount_minor_24h"] == 40
    assert told["card_count_24h"] == 3
    assert told["terminal_count_7d"] == 3


def test_a_card_without_history_has_counts_of_zero_and_no_mean():
    told = dict(zip(AGREED, peers.vector(5, 40 * DAY_MS, [], [0, 0, 0]), strict=True))
    assert told["card_count_30d"] == 0
    assert math.isnan(told["card_mean_amount_minor_30d"])


def test_a_tutorials_features_of_the_checks_rows_equal_the_folds():
    rows = equal.check_rows()
    cards: dict[str, list[tuple[int, int]]] = {}
    terminals: dict[str, list[int]] = {}
    told = []
    for card, terminal, amount, at_ms in rows.select(
        "card_id", "terminal_id", "amount_minor", "occurred_at_ms"
    ).iter_rows():
        history, moments = cards.setdefault(card, []), terminals.setdefault(terminal, [])
        counts = [sum(moment > at_ms - length_ms for moment in moments) for length_ms in peers.TERMINAL_WINDOWS_MS]
        told.append(peers.vector(amount, at_ms, history, counts))
        history.append((at_ms, amount))
        moments.append(at_ms)
    features, expected = np.array(told, np.float32), equal.expected_features(rows)
    ids = rows["transaction_id"].to_list()
    equal.refuse_difference("a tutorial", features, expected, ids)
    assert np.nanmax(expected[:, AGREED.index("card_count_30d")]) >= 20
    features[1_234, AGREED.index("card_mean_amount_minor_7d")] += 0.01
    with pytest.raises(equal.NotEqualError, match="1 of 2000 rows differ, first check-1234, card_mean_amount_minor_7d"):
        equal.refuse_difference("a tutorial", features, expected, ids)


def test_a_value_in_place_of_none_is_a_difference():
    nothing = np.full((1, len(AGREED)), np.nan, np.float32)
    equal.refuse_difference("x", nothing, nothing.copy(), ["a"])
    with pytest.raises(equal.NotEqualError):
        equal.refuse_difference("x", np.zeros_like(nothing), nothing, ["a"])


def test_scores_of_another_forest_are_refused():
    features = np.ascontiguousarray(model().canaries[:, PLACES])
    scores = xgb.Booster({"nthread": 1}, model_file=bytearray(model().agreed)).inplace_predict(features)
    equal.refuse_other_forest("x", scores, features, model())
    for wrong in (np.float32(1e-4), np.float32(math.nan)):
        changed = scores.copy()
        changed[7] += wrong
        with pytest.raises(equal.NotEqualError, match="x: equal features, but a score differs"):
            equal.refuse_other_forest("x", changed, features, model())


def test_the_renumbered_trees_give_the_same_scores_from_all_features():
    small = xgb.Booster({"nthread": 1}, model_file=bytearray(model().agreed))
    whole = xgb.Booster({"nthread": 1}, model_file=bytearray(model().whole))
    vectors = model().canaries
    assert vectors.shape[1] == len(NAMES) == whole.num_features()
    expected = small.inplace_predict(vectors[:, PLACES])
    assert len(np.unique(expected)) > 1
    assert np.array_equal(whole.inplace_predict(vectors), expected)
    others = np.setdiff1d(np.arange(len(NAMES)), PLACES)
    noisy = vectors.copy()
    noisy[:, others] = 12345
    assert np.array_equal(whole.inplace_predict(noisy), expected)
    noisy[:, PLACES] = 12345
    assert not np.array_equal(whole.inplace_predict(noisy), expected)


def test_the_load_goes_on_where_it_was_and_its_messages_are_transactions():
    cursor, whole = RowCursor(1_000), RowCursor(1_000).take(500)
    first, then = cursor.take(200), cursor.take(300)
    assert first.vstack(then).equals(whole)
    made = messages(named(then, "h7"), partitions=4)
    parsed = [parse_transaction(value, key) for _, key, value in made]
    assert [one.transaction_id for one in parsed] == [f"h7-{i}" for i in range(300)]
    assert [one.amount_minor for one in parsed] == then["amount_minor"].to_list()
    assert {partition for partition, _, _ in made} == {0, 1, 2, 3}


def test_only_this_holds_transactions_are_counted():
    assert number_of("h7-12", "h7") == 12
    assert number_of("h17-12", "h7") is None
    assert number_of("h7-x", "h7") is None
    assert of_hold(["h6-1", "h7-5", "h7-6"], "h7") == ([1, 2], [5, 6])


def test_hops_tell_where_the_slow_ones_lost_their_time():
    moments = np.cumsum(np.full((100, len(HOPS) + 1), 0.001), axis=1)
    moments[:3, 5:] += 0.2
    moments[99, 4] = np.nan
    assert hops_of(moments)[HOPS[0]] == (1.0, 1.0)
    assert slowest_hops(moments, 0.08) == {HOPS[4]: 3}
    assert slowest_hops(moments, 0.5) == {}


def test_with_several_partitions_the_logs_order_decides_at_terminals_alone() -> None:
    rows = equal.check_rows()[:300]
    as_sent = list(range(rows.height))
    expected = equal.expected_features(rows)
    assert np.array_equal(equal.expected_as_logged(rows, as_sent), expected, equal_nan=True)
    terminals = rows["terminal_id"].to_list()
    first = next(i for i in as_sent if terminals.index(terminals[i]) < i)
    other = terminals.index(terminals[first])
    swapped = as_sent.copy()
    swapped[first], swapped[other] = other, first
    told = equal.expected_as_logged(rows, swapped)
    differs = ~((told == expected) | (np.isnan(told) & np.isnan(expected)))
    assert differs.any()
    assert not differs[:, np.array(equal.PLACES) < CARD_WIDTH].any()
