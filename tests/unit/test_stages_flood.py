"""The flood guard: how large a share of the newest records may be refused.

Rule 1. Batches are counted as they come; no clock takes part.
"""

from __future__ import annotations

import pytest

from fraud.flood import DeadLetterFloodError, FloodGuard


def admitted(guard: FloodGuard, *batches: tuple[int, int]) -> bool:
    try:
        for records, refused in batches:
            guard.admit(records, refused)
    except DeadLetterFloodError:
        return False
    return True


def test_a_flood_is_named_with_its_topic_and_the_remedy() -> None:
    guard = FloodGuard("transactions", 0.5, 100)
    with pytest.raises(
        DeadLetterFloodError, match=r"60 of the newest 100 records of transactions .* FRAUD_DEAD_LETTER_SHARE_MAX=1"
    ):
        guard.admit(100, 60)


def test_too_few_records_are_not_judged() -> None:
    assert admitted(FloodGuard("transactions", 0.5, 100), (99, 99))
    assert not admitted(FloodGuard("transactions", 0.5, 100), (99, 99), (1, 0))


def test_exactly_the_share_may_pass() -> None:
    assert admitted(FloodGuard("transactions", 0.5, 100), (100, 50))
    assert not admitted(FloodGuard("transactions", 0.5, 100), (100, 51))


def test_old_batches_are_forgotten_so_that_a_long_good_past_hides_no_flood() -> None:
    past = [(100, 0)] * 1000
    assert admitted(FloodGuard("transactions", 0.5, 100), *past, (50, 50))
    assert not admitted(FloodGuard("transactions", 0.5, 100), *past, (50, 50), (50, 50))


def test_a_flood_that_is_over_is_forgotten() -> None:
    guard = FloodGuard("transactions", 0.5, 100)
    assert admitted(guard, (60, 40), *[(50, 0)] * 4)


def test_a_share_of_one_lets_everything_pass() -> None:
    assert admitted(FloodGuard("transactions", 1.0, 1), *[(1000, 1000)] * 10)
