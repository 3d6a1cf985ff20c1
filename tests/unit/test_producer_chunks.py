"""Where labels stand among the transactions of a stream, and where the stream is cut."""

from __future__ import annotations

import random

from producer.chunks import chunks
from tests.unit.producer_rows import BEGIN_MS, rows


def shape(minutes, known=None, **settings):
    """Rows of transactions and of labels, chunk by chunk."""
    return [
        (c.transactions["row"].to_list(), c.labels["row"].to_list()) for c in chunks([rows(minutes, known)], **settings)
    ]


def test_a_stream_is_cut_at_each_full_hour():
    #      0    59 | 60    61 | 180
    assert shape([0, 59, 60, 61, 180]) == [([0, 1], []), ([2, 3], []), ([4], [])]


def test_a_stream_is_cut_after_so_many_rows():
    assert [t for t, _ in shape([0, 1, 2, 3, 4], rows_max=2)] == [[0, 1], [2, 3], [4]]


def test_a_late_transaction_neither_cuts_nor_turns_back_the_time():
    (first,), (second,) = [chunks([rows([0, 30, 10])]), chunks([rows([70, 20])])]
    assert first.transactions["clock_ms"].to_list() == [BEGIN_MS, BEGIN_MS + 1_800_000, BEGIN_MS + 1_800_000]
    assert second.end_ms == BEGIN_MS + 70 * 60_000


def test_a_label_comes_with_the_chunk_in_which_its_time_is_reached():
    #  tx        0            60           120
    #  label of 0     known 50 ^     of 1: known 120 ^ (reached)     of 2: known 130, never reached
    assert shape([0, 60, 120], [50, 120, 130]) == [([0], []), ([1], [0]), ([2], [1])]


def test_labels_of_one_chunk_are_ordered_by_the_time_they_became_known_then_by_row():
    assert shape([0, 1, 2, 60], [40, 30, 30, None])[1] == ([3], [1, 2, 0])


def test_a_label_known_before_its_late_transaction_follows_it():
    #  row 1 happens at minute 10 and arrives when the stream is at 90; its label was known at 20
    (_, _), (transactions, labels) = shape([0, 90, 10], [None, None, 20])
    assert (transactions, labels) == ([1, 2], [2])


def test_labels_without_a_known_time_do_not_exist():
    assert shape([0, 60, 120], [None, 60, None]) == [([0], []), ([1], [1]), ([2], [])]


def test_slices_do_not_change_what_is_due():
    generator = random.Random(4)
    minutes = sorted(generator.uniform(0, 3000) for _ in range(400))
    known = [m + generator.uniform(0, 500) for m in minutes]
    whole = rows(minutes, known)
    in_parts = [whole.slice(at, 37) for at in range(0, 400, 37)]

    def labels(pieces):
        return [row for c in chunks(pieces) for row in c.labels["row"].to_list()]

    expected = [i for _, i in sorted((k, i) for i, k in enumerate(known) if k <= minutes[-1])]
    assert labels([whole]) == labels(in_parts) == expected
