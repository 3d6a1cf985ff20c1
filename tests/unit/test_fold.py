"""The fold by example: windows drawn, edges of the rules, memory that grows and is given back.

Rule 1. What tests/parity proves over made logs, is shown here once by hand where the edge matters.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from fraud import features, fold
from fraud import fold_kernel as kernel
from fraud.columns import CardColumns, TerminalColumns
from fraud.features import CARD_SPAN_MS, NAMES, TERMINAL_NAMES, TERMINAL_SPAN_MS
from fraud.fold import LABEL, TRANSACTION, CardFold, CardResult, TerminalFold, TerminalResult
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS

TEN = 1_523_008_800_000  # Friday 2018-04-06, 10:00 UTC


def cards(*rows: tuple[int, int, int], of: CardFold | None = None) -> CardResult:
    """Fold (id hash, time, amount) of one card."""
    hashes, times, amounts = zip(*rows, strict=True)
    return (CardFold() if of is None else of).apply(["c1"] * len(rows), CardColumns.bare(hashes, times, amounts))


def terminals(
    *rows: tuple[int, int, int, int], of: TerminalFold | None = None, striking: tuple[int, ...] = ()
) -> TerminalResult:
    """Fold (kind, id hash, time, is fraud) of one terminal; striking: hashes of transactions with such an amount."""
    kinds, hashes, times, frauds = zip(*rows, strict=True)
    columns = TerminalColumns(
        np.array(kinds, np.uint8),
        np.array(hashes, np.uint64),
        np.array(times),
        np.full(len(rows), 500),
        np.full(len(rows), 7, np.uint64),
        np.array(frauds, np.uint8),
        np.isin(hashes, striking).astype(np.uint8),
    )
    return (TerminalFold() if of is None else of).apply(["t1"] * len(rows), columns)


def value(vector: npt.NDArray[np.float32], name: str) -> float:
    names = NAMES if len(vector) > len(TERMINAL_NAMES) else TERMINAL_NAMES
    return float(vector[names.index(name)])


# -- windows --------------------------------------------------------------------------------------------------------------------


def test_a_transaction_on_the_far_edge_of_the_window_is_outside() -> None:
    #            09:00            10:00
    #  1 h         (---------------]          at = 10:00
    #              x                          outside
    #               x                         inside: one millisecond later
    edge = cards((1, TEN - HOUR_MS, 500), (2, TEN, 700)).vectors[1]
    inside = cards((1, TEN - HOUR_MS + 1, 500), (2, TEN, 700)).vectors[1]
    assert value(edge, "card_count_1h") == 0
    assert value(inside, "card_count_1h") == 1


def test_a_transaction_at_the_same_time_counts_if_it_arrived_before() -> None:
    result = cards((1, TEN, 500), (2, TEN, 700))
    assert value(result.vectors[0], "card_count_1h") == 0
    assert value(result.vectors[1], "card_count_1h") == 1
    assert value(result.vectors[1], "card_seconds_since_last") == 0


def test_a_late_transaction_does_not_see_what_is_after_it_and_is_seen_by_the_next() -> None:
    #  event time   09:30   09:45   10:00          arrival: 10:00, then 09:30 (late), then 09:45 (late)
    result = cards((1, TEN, 500), (2, TEN - 30 * MINUTE_MS, 700), (3, TEN - 15 * MINUTE_MS, 900))
    assert result.late.tolist() == [False, True, True]
    assert value(result.vectors[1], "card_count_1h") == 0
    assert value(result.vectors[2], "card_sum_amount_minor_1h") == 700


def test_the_request_features_are_the_amount_and_the_utc_hour_and_weekday() -> None:
    vector = cards((1, TEN, 1234)).vectors[0]
    assert [value(vector, name) for name in features.REQUEST_NAMES] == [1234, 10, 4]


def test_a_card_without_history_has_no_means_but_zero_counts() -> None:
    vector = cards((1, TEN, 1234)).vectors[0]
    expected = np.array([feature.default for feature in features.FEATURES if feature.entity == "card"], np.float32)
    assert vector[3:].tobytes() == expected.tobytes()


def test_equal_amounts_have_no_deviation() -> None:
    vector = cards((1, TEN, 500), (2, TEN + 1, 500), (3, TEN + 2, 900)).vectors[2]
    assert np.isnan(value(vector, "card_amount_deviations_30d"))
    assert value(vector, "card_amount_over_mean_30d") == pytest.approx(1.8)


def test_zero_amounts_have_no_ratio() -> None:
    vector = cards((1, TEN, 0), (2, TEN + 1, 900)).vectors[1]
    assert np.isnan(value(vector, "card_amount_over_mean_30d"))
    assert value(vector, "card_mean_amount_minor_30d") == 0


def test_the_typical_amount_leaves_out_what_is_above_three_times_itself_and_the_first_three_always_count() -> None:
    amounts = [9000, 1000, 2000, 12_001, 12_000, 9000]  # the mean of the usual: 9000, 5000, 4000, 4000, 6000
    vectors = cards(*((i, TEN + i * HOUR_MS, amount) for i, amount in enumerate(amounts))).vectors
    ratios = [value(vector, "card_amount_over_typical") for vector in vectors]
    assert ratios == pytest.approx([np.nan, 1000 / 9000, 2000 / 5000, 12_001 / 4000, 3, 1.5], nan_ok=True)
    largest = [value(vector, "card_max_amount_over_typical_7d") for vector in vectors]
    assert largest == pytest.approx([np.nan, np.nan, 0.11, 0.4, 3, 3], nan_ok=True)


def test_what_an_amount_was_on_arrival_is_not_said_anew_when_a_late_one_arrives() -> None:
    three = [(i, TEN + i, 1000) for i in range(3)]
    unusual, late = (3, TEN + 5 * HOUR_MS, 5000), [(10 + i, TEN + HOUR_MS, 3000) for i in range(9)]
    vector = cards(*three, unusual, *late, (30, TEN + 6 * HOUR_MS, 2500)).vectors[-1]
    assert (
        value(vector, "card_amount_over_typical") == 1
    )  # (3 * 1000 + 9 * 3000) / 12: without the 5000, which is usual now
    assert value(vector, "card_max_amount_over_typical_7d") == 5


def test_a_typical_amount_below_one_euro_counts_as_one_euro() -> None:
    vector = cards((1, TEN, 0), (2, TEN + 1, 10), (3, TEN + 2, 1000)).vectors[-1]
    assert value(vector, "card_amount_over_typical") == 10


def test_an_amount_is_striking_above_the_limit_or_above_two_and_a_half_times_the_typical_one() -> None:
    result = cards((1, TEN, 22_000), (2, TEN + 1, 22_001), (3, TEN + 2, 55_002), (4, TEN + 3, 100))
    amounts = np.array([22_000, 22_001, 55_002, 100])
    assert fold.is_striking(result.vectors, amounts).tolist() == [0, 1, 1, 0]
    assert fold.is_striking(
        cards((1, TEN, 1000), (2, TEN + 1, 2500), (3, TEN + 2, 4376)).vectors, amounts[3:]
    ).tolist() == [0, 0, 1]


def test_the_spread_of_the_largest_amounts_is_exact() -> None:
    #  amounts 10^12 and 10^12 - 2 have the standard deviation 1: lost if their squares (10^24) were floats
    vector = cards((1, TEN, 10**12), (2, TEN, 10**12 - 2), (3, TEN, 10**12)).vectors[2]
    assert value(vector, "card_amount_deviations_30d") == 1.0


# -- outcomes -------------------------------------------------------------------------------------------------------------------


def test_a_card_transaction_one_span_behind_is_late_and_one_more_is_too_late() -> None:
    result = cards((1, TEN, 500), (2, TEN - CARD_SPAN_MS, 500), (3, TEN - CARD_SPAN_MS - 1, 500))
    assert result.outcome.tolist() == [fold.ACCEPTED, fold.ACCEPTED, fold.TOO_LATE]
    assert np.isnan(result.vectors[2]).all()


def test_a_transaction_id_may_come_again_after_one_span_and_not_before() -> None:
    again = cards((1, TEN, 500), (1, TEN + CARD_SPAN_MS - 1, 700), (1, TEN + CARD_SPAN_MS, 900))
    assert again.outcome.tolist() == [fold.ACCEPTED, fold.DUPLICATE, fold.ACCEPTED]
    assert np.isnan(again.vectors[1]).all()


def test_the_same_id_with_another_time_or_amount_is_a_duplicate_and_changes_nothing() -> None:
    result = cards((1, TEN, 500), (1, TEN + HOUR_MS // 2, 900), (1, TEN - HOUR_MS, 1), (2, TEN + 1, 700))
    assert result.outcome.tolist() == [fold.ACCEPTED, fold.DUPLICATE, fold.DUPLICATE, fold.ACCEPTED]
    assert value(result.vectors[3], "card_sum_amount_minor_30d") == 500


def test_the_same_id_on_another_card_is_another_transaction() -> None:
    result = CardFold().apply(["c1", "c2"], CardColumns.bare([1, 1], [TEN, TEN], [5, 6]))
    assert result.outcome.tolist() == [fold.ACCEPTED, fold.ACCEPTED]


def test_a_duplicate_among_thousands_is_found() -> None:
    rows = [(i, TEN + i, 500) for i in range(5000)]
    result = cards(*rows, (17, TEN + 6000, 500), (5000, TEN + 6000, 500))
    assert result.outcome[-2:].tolist() == [fold.DUPLICATE, fold.ACCEPTED]


def test_nothing_that_is_a_span_old_or_older_exists_for_a_vector() -> None:
    #  day 0 ............. day 30                the last of a transaction 30 days later is none, 1 ms earlier it is that of day 0
    for later_ms, seconds in ((CARD_SPAN_MS - 1, CARD_SPAN_MS / 1000), (CARD_SPAN_MS, None)):
        vector = cards((1, TEN, 500), (2, TEN + later_ms, 500)).vectors[1]
        if seconds is None:
            assert vector[3:].tobytes() == cards((1, TEN, 500)).vectors[0, 3:].tobytes()
        else:
            assert value(vector, "card_seconds_since_last") == np.float32(seconds)
            assert value(vector, "card_age_days") == np.float32(30)


def test_an_entity_that_was_quiet_for_a_year_is_as_new() -> None:
    vectors = cards((1, TEN, 500), (2, TEN + 365 * DAY_MS, 500)).vectors
    assert vectors[0, 3:].tobytes() == vectors[1, 3:].tobytes()


# -- labels ---------------------------------------------------------------------------------------------------------------------


def test_a_label_counts_from_its_place_in_the_log_on_and_only_for_matured_transactions() -> None:
    #  day        0          7           8            the risk window of 1 d at day 8 is (0, 1] + 7 d of delay
    result = terminals(
        (TRANSACTION, 1, TEN + 1, 0),
        (TRANSACTION, 2, TEN + 8 * DAY_MS, 0),
        (LABEL, 1, TEN + 1, 1),
        (TRANSACTION, 3, TEN + 8 * DAY_MS, 0),
        (TRANSACTION, 4, TEN + 7 * DAY_MS, 0),
    )
    assert result.outcome.tolist() == [0, 0, fold.LABEL_APPLIED, 0, 0]
    before, after, immature = result.vectors[1], result.vectors[3], result.vectors[4]
    assert [value(before, f"terminal_{n}_1d") for n in ("matured_count", "fraud_count", "fraud_share")] == [1, 0, 0]
    assert [value(after, f"terminal_{n}_1d") for n in ("matured_count", "fraud_count", "fraud_share")] == [1, 1, 1]
    assert value(immature, "terminal_matured_count_28d") == 0
    assert value(immature, "terminal_days_since_last_fraud") == pytest.approx(7)


def test_a_later_label_that_says_otherwise_reverses_the_first() -> None:
    log = [(TRANSACTION, 1, TEN, 0), (LABEL, 1, TEN, 1), (LABEL, 1, TEN, 0), (TRANSACTION, 2, TEN + 8 * DAY_MS, 0)]
    vector = terminals(*log).vectors[3]
    assert value(vector, "terminal_fraud_count_7d") == 0
    assert np.isnan(value(vector, "terminal_days_since_last_fraud"))


def test_a_streak_skips_frauds_with_striking_amounts_and_a_genuine_transaction_begins_it_anew() -> None:
    #  day     0   1   2   3   4        12
    #          f   g   f   S   f        read        f: fraud, g: genuine, S: fraud with a striking amount
    paid = [(TRANSACTION, i, TEN + i * DAY_MS, 0) for i in range(5)]
    known = [(LABEL, i, TEN + i * DAY_MS, int(i != 1)) for i in range(5)]
    read = (TRANSACTION, 9, TEN + 12 * DAY_MS, 0)
    vector = terminals(*paid, *known, read, striking=(3,)).vectors[-1]
    assert value(vector, "terminal_fraud_streak") == 3
    assert value(vector, "terminal_unexplained_fraud_streak") == 2
    assert value(vector, "terminal_days_since_last_genuine") == 11
    reversed_label = (LABEL, 4, TEN + 4 * DAY_MS, 0)
    vector = terminals(*paid, *known, reversed_label, read, striking=(3,)).vectors[-1]
    assert value(vector, "terminal_unexplained_fraud_streak") == 0
    assert value(vector, "terminal_days_since_last_genuine") == 8
    assert np.isnan(value(terminals(read).vectors[0], "terminal_days_since_last_genuine"))


def test_a_label_of_no_transaction_is_unknown_and_one_before_its_transaction_too() -> None:
    result = terminals((LABEL, 1, TEN, 1), (TRANSACTION, 1, TEN, 0), (LABEL, 9, TEN, 1), (LABEL, 1, TEN + 1, 1))
    assert result.outcome.tolist() == [fold.LABEL_UNKNOWN, 0, fold.LABEL_UNKNOWN, fold.LABEL_UNKNOWN]


def test_a_label_two_spans_behind_is_expired_and_one_millisecond_less_is_applied() -> None:
    log = [(TRANSACTION, 1, TEN, 0), (TRANSACTION, 2, TEN + 1, 0), (TRANSACTION, 3, TEN + 2 * TERMINAL_SPAN_MS, 0)]
    result = terminals(*log, (LABEL, 1, TEN, 1), (LABEL, 2, TEN + 1, 1))
    assert result.outcome[-2:].tolist() == [fold.LABEL_EXPIRED, fold.LABEL_APPLIED]


def test_a_terminal_transaction_one_span_behind_is_late_and_one_more_is_too_late() -> None:
    behind = TEN - TERMINAL_SPAN_MS
    result = terminals((TRANSACTION, 1, TEN, 0), (TRANSACTION, 2, behind, 0), (TRANSACTION, 3, behind - 1, 0))
    assert result.outcome.tolist() == [fold.ACCEPTED, fold.ACCEPTED, fold.TOO_LATE]
    assert result.late.tolist() == [False, True, False]


# -- state ----------------------------------------------------------------------------------------------------------------------


def test_only_what_changed_is_logged() -> None:
    terminal = TerminalFold()
    terminals((TRANSACTION, 1, TEN, 0), (LABEL, 1, TEN, 0), (LABEL, 1, TEN, 1), (LABEL, 9, TEN, 1), of=terminal)
    ((terminal_id, operation, blob),) = terminal.take_changes()
    assert (terminal_id, operation) == ("t1", "append")
    assert np.frombuffer(blob, "<i8").reshape(-1, 4).tolist() == [[TEN, 500, 1, 7], [TEN, -1, 1, 0]]
    assert terminal.take_changes() == []


def test_missing_names_each_unknown_entity_once_and_a_loaded_one_without_history_is_known() -> None:
    card = CardFold()
    assert card.missing(["c2", "c1", "c2"]) == ["c2", "c1"]
    card.load("c1", b"")
    assert card.missing(["c2", "c1", "c2"]) == ["c2"]
    assert len(card) == 1


def test_a_log_that_is_cut_off_is_refused_by_name_and_nothing_is_loaded() -> None:
    card = CardFold()
    with pytest.raises(ValueError, match="c2"):
        card.load_many([("c1", b""), ("c2", bytes(57))])
    assert len(card) == 0


def test_loading_an_entity_again_replaces_what_memory_has_of_it() -> None:
    card = CardFold()
    cards((1, TEN, 500), of=card)
    ((_, _, blob),) = card.take_changes()
    card.load("c1", blob)
    assert value(card.read("c1", CardColumns.bare([2], [TEN], [500])), "card_count_1h") == 1


def test_entities_with_changes_that_are_not_taken_are_never_evicted() -> None:
    card = CardFold()
    cards((1, TEN, 500), of=card)
    with pytest.raises(ValueError, match="take_changes"):
        card.evict(0)
    card.take_changes()
    assert card.evict(0) == 1
    assert card.missing(["c1"]) == ["c1"]


def test_the_least_recently_used_entities_are_evicted_first() -> None:
    card = CardFold()
    for entity_id in ("c1", "c2", "c3", "c1"):
        card.apply([entity_id], CardColumns.bare([TEN], [TEN], [1]))
    card.take_changes()
    assert card.evict(2) == 1
    assert card.missing(["c1", "c2", "c3"]) == ["c2"]


def test_memory_of_evicted_entities_is_used_again() -> None:
    card = CardFold(rows=64)
    blob = np.array([(TEN + i, 500, i, 0, 0, 0, 0) for i in range(60)], "<i8").tobytes()
    card.load("first", blob)
    card.evict(0)
    in_use = card.memory_bytes
    for i in range(100):
        card.load(f"c{i}", blob)
        card.evict(0)
    assert card.memory_bytes == in_use


def test_old_transactions_are_dropped_so_that_memory_follows_the_window_not_the_past() -> None:
    card = CardFold(rows=4, keep_changes=False)
    for year in range(30):
        times = TEN + np.arange(365) * DAY_MS + year * 365 * DAY_MS
        card.apply(["c1"] * 365, CardColumns.bare(times % 2**40, times, np.full(365, 500)))
    assert card.used_bytes <= 64 * 1024
    assert card.memory_bytes <= 256 * 1024


def test_a_read_adds_nothing_and_refuses_what_would_be_too_late() -> None:
    card, terminal = CardFold(), TerminalFold()
    cards((1, TEN, 500), of=card)
    terminals((TRANSACTION, 1, TEN, 0), of=terminal)
    after = CardColumns.bare([2], [TEN + 1], [700])
    for _ in range(2):
        assert value(card.read("c1", after), "card_count_1h") == 1
        assert value(terminal.read("t1", TEN + 1), "terminal_count_1h") == 1
    assert value(card.read("c9", after), "card_count_1h") == 0
    assert card.missing(["c9"]) == ["c9"]
    with pytest.raises(ValueError, match="c1"):
        card.read("c1", CardColumns.bare([3], [TEN - CARD_SPAN_MS - 1], [700]))
    with pytest.raises(ValueError, match="t1"):
        terminal.read("t1", TEN - TERMINAL_SPAN_MS - 1)


def test_an_empty_batch_is_nothing() -> None:
    none = np.empty(0, np.int64)
    card = CardFold()
    assert card.apply([], CardColumns.bare(none, none, none)).vectors.shape == (0, fold.CARD_WIDTH)
    assert card.take_changes() == []


@pytest.mark.parametrize("amount", [-1, 10**12 + 1])
def test_amounts_that_the_integers_are_not_made_for_are_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="amount_minor"):
        cards((1, TEN, amount))


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths"):
        CardFold().apply(["c1"], CardColumns.bare([1, 2], [TEN], [1]))
    with pytest.raises(ValueError, match="lengths"):
        CardFold().apply(["c1", "c2"], CardColumns.bare([1], [TEN], [1]))


# -- the kernel and the views ---------------------------------------------------------------------------------------------------


def test_the_kernel_writes_exactly_the_columns_that_the_views_name() -> None:
    words = np.full((1, 200), -7, np.float32)
    pool, table = np.zeros((1, kernel.CARD_WORDS), np.int64), np.zeros((1, 40), np.int64)
    events = CardColumns.bare([1], [TEN], [1]).events()
    column = kernel.look_up_card(pool, table, 0, events, CardFold.windows_ms, fold.COSINES, words)
    assert column == fold.CARD_WIDTH
    pool = np.zeros((1, kernel.TERMINAL_WORDS), np.int64)
    of = TerminalFold
    terminal = kernel.look_up_terminal(pool, table, 0, TEN, of.windows_ms, of.counted, words[:, column:].copy())
    assert column + terminal == len(NAMES)
    assert (words[0, :column] != -7).all()
    assert (words[0, column:] == -7).all()


@pytest.mark.parametrize("name", fold.KERNEL_CONSTANTS)
def test_a_constant_that_the_kernel_has_otherwise_stops_the_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, name, getattr(features, name) + 1)
    with pytest.raises(TypeError, match=name):
        fold.check_kernel_order()


@pytest.mark.parametrize("view", features.VIEWS, ids=[view.entity + str(i) for i, view in enumerate(features.VIEWS)])
def test_a_view_that_the_kernel_does_not_write_stops_the_program(
    view: features.FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold.check_kernel_order()
    longer = dataclasses.replace(view, aggregates=(*view.aggregates, features.Aggregate("new", "", 0, 1, 0, "")))
    monkeypatch.setattr(features, "VIEWS", tuple(longer if v is view else v for v in features.VIEWS))
    with pytest.raises(TypeError, match="kernel"):
        fold.check_kernel_order()
