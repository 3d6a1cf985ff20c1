"""Counting the fate of transactions from records of `scores` and of the dead-letter topics."""

from __future__ import annotations

import numpy as np
import pytest

from fraud import packed
from producer.outcome import Fates, lagging


def scores(offsets: list[int], partition: int = 0) -> bytes:
    count = len(offsets)
    columns: dict[str, packed.Column] = {
        "origin_partition": np.full(count, partition, np.int32),
        "origin_offset": np.array(offsets, np.int64),
        "transaction_id": [f"x{o}" for o in offsets],
        "card_id": ["c"] * count,
        "terminal_id": ["t"] * count,
        "amount_minor": np.zeros(count, np.int64),
        "occurred_at_ms": np.zeros(count, np.int64),
        "ingested_at_ms": np.zeros(count, np.int64),
        "score": np.zeros(count, np.float32),
        "rules_score": np.zeros(count, np.float32),
        "decision": np.zeros(count, np.uint8),
        "explored": np.zeros(count, np.uint8),
    }
    return packed.pack(packed.SCORES, columns, {})


def letter(topic: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
    headers = {"reason": "TOO_LATE", "topic": topic, "partition": str(partition), "offset": str(offset)}
    return [(name, value.encode()) for name, value in headers.items()]


def test_only_transactions_since_the_begin_are_counted():
    fates = Fates([10])
    fates.take_scores(scores([8, 9, 10, 11]))
    assert fates.counts.scored == 2


def test_a_batch_that_was_written_again_is_not_scored_twice():
    fates = Fates([0])
    for record in ([0, 1, 2], [3, 4], [3, 4, 5]):
        fates.take_scores(scores(record))
    assert (fates.counts.scored, fates.counts.scored_twice, fates.counts.repeated_rows) == (6, 0, 2)


def test_partitions_are_counted_apart():
    fates = Fates([0, 100])
    fates.take_scores(scores([0, 1], partition=0))
    fates.take_scores(scores([0, 1, 100], partition=1))
    assert fates.counts.scored == 3


def test_origins_need_not_ascend_across_partitions_of_scores():
    fates = Fates([0])
    fates.take_scores(scores([5, 9]), partition=0)
    fates.take_scores(scores([2, 7]), partition=1)
    assert (fates.counts.scored, fates.counts.repeated_rows) == (4, 0)


def test_an_offset_in_two_partitions_of_scores_is_scored_twice():
    fates = Fates([0])
    fates.take_scores(scores([5]), partition=0)
    fates.take_scores(scores([5]), partition=1)
    assert (fates.counts.scored, fates.counts.scored_twice) == (1, 1)


def test_many_offsets_far_apart_are_counted():
    fates = Fates([0])
    fates.take_scores(scores([5, 500_000]))
    assert fates.counts.scored == 2


def test_a_dead_letter_counts_once_and_only_for_a_transaction_since_the_begin():
    fates = Fates([10])
    letters = [("transactions", 12), ("transactions", 12), ("transactions", 9), ("labels", 12), ("terminal-log", 12)]
    for topic, offset in letters:
        fates.take_dead_letter(letter(topic, 0, offset))
    fates.take_dead_letter(None)
    assert fates.counts.dead_lettered == 1


def test_what_is_no_batch_of_scores_counts_nothing():
    fates = Fates([0])
    fates.take_scores(b"{}")
    fates.take_scores(None)
    assert fates.counts.done == 0


ENDS = {"transactions": 100, "terminal-log": 20, "features": 10}


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        (
            {"card": 40, "terminal": 20, "scorer": 10},
            "the card stage lags: it has taken 40 of 100 records of transactions",
        ),
        ({"card": 100, "terminal": 3, "scorer": 3}, "the terminal stage lags: it has taken 3 of 20"),
        ({"card": 100, "terminal": 20, "scorer": 9}, "the scorer lags: it has taken 9 of 10"),
        ({"card": None, "terminal": None, "scorer": 0}, "the card stage's progress cannot be read"),
        ({"card": 100, "terminal": 20, "scorer": 10}, "every stage has taken its source"),
    ],
)
def test_the_first_stage_that_lags_is_named(taken: dict, message: str):
    assert message in lagging(taken, ENDS)
