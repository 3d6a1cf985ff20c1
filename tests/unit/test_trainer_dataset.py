"""The point-in-time join and the split, on rows that fit in a drawing.

Rule 1. Times are days; `as_of` is a moment, and what becomes known at it is not known before it.
"""

from __future__ import annotations

import polars as pl
import pytest

from fraud.decision import APPROVE, DECLINE
from fraud.features import NAMES
from fraud.windows import DAY_MS
from trainer.dataset import (
    Maturity,
    Rows,
    Split,
    TrainRefusedError,
    check_enough,
    declined_in,
    point_in_time_join,
    rows_for,
)

WEEK = Maturity(7 * DAY_MS)


def vectors(*days: float) -> pl.LazyFrame:
    return pl.LazyFrame(
        {
            "transaction_id": [f"t{i}" for i in range(len(days))],
            "card_id": [f"c{i}" for i in range(len(days))],
            "occurred_at_ms": [int(day * DAY_MS) for day in days],
            **{name: pl.Series([float(i) for i in range(len(days))], dtype=pl.Float32) for name in NAMES},
        }
    )


def labels(*lines: tuple[int, bool, float]) -> pl.LazyFrame:
    schema = {"transaction_id": pl.String, "card_id": pl.String, "is_fraud": pl.Boolean, "known_at_ms": pl.Int64}
    rows = [(f"t{i}", f"c{i}", fraud, int(day * DAY_MS)) for i, fraud, day in lines]
    return pl.LazyFrame(rows, schema=schema, orient="row")


def joined(features: pl.LazyFrame, known: pl.LazyFrame, as_of: float, maturity: Maturity = WEEK) -> dict[str, bool]:
    frame = point_in_time_join(features, known, int(as_of * DAY_MS), maturity).collect()
    return dict(zip(frame["transaction_id"], frame["is_fraud"], strict=True))


def test_a_label_known_exactly_at_the_cutoff_is_not_used() -> None:
    known = labels((0, True, 10.0))
    assert joined(vectors(9.0), known, as_of=10.0) == {}
    assert joined(vectors(9.0), known, as_of=10.001) == {"t0": True}


def test_the_newest_label_known_by_then_counts() -> None:
    #  t0: fraud at day 3, taken back at day 5, fraud again at day 9
    known = labels((0, True, 3), (0, False, 5), (0, True, 9))
    assert joined(vectors(1), known, as_of=4) == {"t0": True}
    assert joined(vectors(1), known, as_of=6) == {"t0": False}
    assert joined(vectors(1), known, as_of=9.5) == {"t0": True}


def test_of_two_labels_known_at_one_moment_the_later_in_the_log_counts() -> None:
    assert joined(vectors(1), labels((0, True, 3), (0, False, 3)), as_of=4) == {"t0": False}


def test_without_a_label_a_transaction_is_genuine_only_after_the_horizon() -> None:
    nothing = labels()
    assert joined(vectors(1.0), nothing, as_of=8.0) == {}
    assert joined(vectors(1.0), nothing, as_of=8.001) == {"t0": False}
    assert joined(vectors(1.0), nothing, as_of=99.0, maturity=Maturity(7 * DAY_MS, require_labels=True)) == {}


def test_a_label_of_another_card_with_the_same_transaction_id_is_not_joined() -> None:
    known = labels((0, True, 3)).with_columns(card_id=pl.lit("somebody"))
    assert joined(vectors(1), known, as_of=9) == {"t0": False}


def test_the_split_leaves_the_label_delay_between_learning_and_validation() -> None:
    #   judged [10,26)      validation [33,40)     as_of 47
    split = Split.at(47 * DAY_MS, train_days=16, validation_days=7, maturity=WEEK)
    assert split == Split(47 * DAY_MS, 10 * DAY_MS, 26 * DAY_MS, 33 * DAY_MS, 40 * DAY_MS, 24 * DAY_MS)


def test_whoever_learns_knows_only_labels_known_before_the_judged_period() -> None:
    split = Split.at(47 * DAY_MS, train_days=16, validation_days=7, maturity=WEEK)
    known = labels((0, True, 32.9), (1, True, 33.0), (2, True, 46))
    rows = rows_for(vectors(20, 20, 35), known, split, WEEK)
    learned = rows.between(split.judged_from_ms, split.judged_to_ms, split.validation_from_ms)
    assert learned.frame["transaction_id"].to_list() == ["t0"]
    assert rows.between(split.validation_from_ms, split.validation_to_ms, split.as_of_ms).fraud == 1


def test_vectors_come_out_in_the_order_of_the_names() -> None:
    rows = rows_for(vectors(20, 21), labels(), Split.at(47 * DAY_MS, 30, 7, WEEK), WEEK)
    assert rows.vectors.shape == (2, len(NAMES))
    assert rows.vectors[1].tolist() == [1.0] * len(NAMES)


@pytest.mark.parametrize("fraud", [0, 3])
def test_one_class_only_is_refused_with_a_remedy(fraud: int) -> None:
    frame = pl.DataFrame({"is_fraud": [True] * fraud + [False] * (3 - fraud)})
    with pytest.raises(TrainRefusedError, match="wait a week"):
        check_enough(Rows(frame), "training period", 2, 1, "wait a week")


def scored(*decisions: int) -> pl.LazyFrame:
    numbers = range(len(decisions))
    return pl.LazyFrame(
        {
            "transaction_id": [f"t{i}" for i in numbers],
            "card_id": [f"c{i}" for i in numbers],
            "decision": pl.Series(decisions, dtype=pl.UInt8),
        }
    )


SPLIT = Split.at(47 * DAY_MS, train_days=16, validation_days=7, maturity=WEEK)


def learned_ids(known: pl.LazyFrame, declined: pl.LazyFrame | None) -> list[str]:
    rows = rows_for(vectors(20, 21, 22, 23), known, SPLIT, WEEK, declined)
    return (
        rows.between(SPLIT.judged_from_ms, SPLIT.judged_to_ms, SPLIT.validation_from_ms)
        .frame["transaction_id"]
        .to_list()
    )


def test_a_declined_transaction_without_a_label_is_no_genuine_one() -> None:
    #  t0 approved, t1 declined, t2 declined and labelled by a person, t3 explored: let through, so approved
    scores, known = scored(APPROVE, DECLINE, DECLINE, APPROVE), labels((2, True, 22.5))
    declined = declined_in(scores, known)
    assert learned_ids(known, declined) == ["t0", "t2", "t3"]
    assert learned_ids(known, None) == ["t0", "t1", "t2", "t3"], "who ignores decisions takes t1 as genuine"
    rows = rows_for(vectors(20, 21, 22, 23), known, SPLIT, WEEK, declined)
    assert (rows.censored, rows.fraud) == (1, 1)


def test_a_label_of_a_declined_transaction_counts_only_from_its_moment_on() -> None:
    known = labels((0, True, 50))  # later than as_of
    rows = rows_for(vectors(20, 21), known, SPLIT, WEEK, declined_in(scored(DECLINE, APPROVE), known))
    assert rows.frame["transaction_id"].to_list() == ["t1"]


def test_labels_of_a_benchmark_tell_of_the_declined_too() -> None:
    told = labels((1, True, 28)).with_columns(source=pl.lit("benchmark"))
    assert declined_in(scored(DECLINE, DECLINE), told) is None
    hidden = labels((1, True, 28)).with_columns(source=pl.lit("chargeback"))
    assert declined_in(scored(DECLINE, DECLINE), hidden) is not None


def test_unlabelled_and_younger_than_the_horizon_is_left_out_and_older_is_genuine() -> None:
    #   as_of 47, horizon 7: day 39.9 is mature, day 40 and later are not
    frame = point_in_time_join(vectors(39.9, 40.0, 46.0), labels((2, True, 46.5)), 47 * DAY_MS, WEEK).collect()
    assert dict(zip(frame["transaction_id"], frame["is_fraud"], strict=True)) == {"t0": False, "t2": True}
    hasty = point_in_time_join(vectors(39.9, 40.0, 46.0), labels(), 47 * DAY_MS, Maturity(0)).collect()
    assert hasty.height == 3, "without a horizon the youngest would count as genuine at once"
