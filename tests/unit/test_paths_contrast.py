"""The comparison of the two paths' benchmark against a slow count, and what it says of paths that do not differ.

Rule 1. Rows of equal score share the end of the budget; a slow count gives the mean over their orders.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.paths import page
from benchmarks.paths.contrast import BATCH, STREAMING, Recall, recalls
from benchmarks.paths.result import Settings, from_json
from benchmarks.paths.run import TooShortError, run

DOCS = Path(__file__).parents[2] / "docs"
ROWS = 400
RANDOM = np.random.default_rng(5)
SCENARIO = np.where(RANDOM.random(ROWS) < 0.2, RANDOM.integers(0, 2, ROWS), -1)
CARD = RANDOM.integers(0, 60, ROWS)
GOOD = (RANDOM.random(ROWS) + (SCENARIO >= 0)).astype(np.float32)
NOISE = RANDOM.random(ROWS).astype(np.float32)
NAMES = ["fast", "slow"]


def test_recall_is_that_of_a_slow_count() -> None:
    found = recalls({STREAMING: GOOD, BATCH: NOISE}, CARD, SCENARIO, NAMES, 50, draws=10)
    for path, score in ((STREAMING, GOOD), (BATCH, NOISE)):
        top = set(np.argsort(-score)[:50].tolist())
        for each, chosen in zip(found, (SCENARIO >= 0, SCENARIO == 0, SCENARIO == 1), strict=True):
            mine = np.flatnonzero(chosen).tolist()
            assert each.by_path[path].value == pytest.approx(len(top & set(mine)) / len(mine))
            assert (each.frauds, each.cards) == (len(mine), len(set(CARD[mine].tolist())))


def test_rows_of_equal_score_share_what_the_budget_has_left() -> None:
    flat = np.zeros(ROWS, np.float32)
    found = recalls({STREAMING: flat, BATCH: flat}, CARD, SCENARIO, NAMES, 100, draws=5)
    assert found[0].by_path[STREAMING].value == pytest.approx(100 / ROWS)


def test_paths_that_say_the_same_differ_by_nothing() -> None:
    for each in recalls({STREAMING: GOOD, BATCH: GOOD}, CARD, SCENARIO, NAMES, 50):
        assert (each.difference.value, each.difference.low, each.difference.high) == (0, 0, 0)


def test_a_difference_that_is_there_lies_beyond_the_noise_and_one_that_is_not_within() -> None:
    (all_fraud, *_) = recalls({STREAMING: GOOD, BATCH: NOISE}, CARD, SCENARIO, NAMES, 50)
    assert 0 < all_fraud.difference.low < all_fraud.difference.value < all_fraud.difference.high
    other = np.random.default_rng(6).random(ROWS).astype(np.float32)
    (all_fraud, *_) = recalls({STREAMING: other, BATCH: NOISE}, CARD, SCENARIO, NAMES, 50)
    assert all_fraud.difference.low < 0 < all_fraud.difference.high


def test_the_page_is_what_the_stored_result_says() -> None:
    result = from_json((DOCS / page.RESULT_FILE).read_bytes())
    assert (DOCS / page.PAGE_FILE).read_text() == page.markdown(result), "run: fraudstream bench paths --docs"


def test_a_bar_that_is_missed_is_shown_as_missed() -> None:
    result = from_json((DOCS / page.RESULT_FILE).read_bytes())
    worse = msgspec.structs.replace(result, recalls=tuple(_shifted(each) for each in result.recalls))
    assert not any(page.bars(worse).values())
    assert "**missed**" in page.markdown(worse)


def _shifted(each: Recall) -> Recall:
    lower = replace(each.difference, value=-0.5, low=-0.6, high=-0.4)
    return replace(each, difference=lower)


def test_too_few_days_are_refused_with_the_option_and_the_remedy() -> None:
    with pytest.raises(TooShortError, match=r"--days 40: .* give 91 or more"):
        run(Settings(days=40, train_days=56, test_days=14), lambda _: None)
