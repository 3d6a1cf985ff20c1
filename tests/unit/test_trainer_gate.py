"""The gate cannot be fooled: chance, damaged data and differences within noise never make a champion.

Rule 1. Each refusal has its control: the same rows with an honest, better candidate are promoted.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adapters.model_store import ModelStore, StoredModel
from fraud.features import NAMES
from fraud.model import Gate
from fraud.windows import DAY_MS
from tests.scoring.published_models import publish
from trainer.fit import from_bytes, score
from trainer.gate import usable_champion, verdict
from trainer.ladder import RULES, SERVED
from trainer.measures import JudgedRows, measured

ROWS = 3000
BUDGET = 20


@cache
def vectors() -> np.ndarray:
    return np.random.default_rng(8).random((ROWS, len(NAMES))).astype(np.float32)


def judged(is_fraud: np.ndarray, scores: np.ndarray) -> pl.DataFrame:
    """Validation rows: cards of three payments, days 10 .. 16."""
    named = {name: vectors()[:, i] for i, name in enumerate(NAMES)}
    return pl.DataFrame(
        {
            "card_id": [f"c{i // 3}" for i in range(ROWS)],
            "occurred_at_ms": 10 * DAY_MS + np.arange(ROWS) * (7 * DAY_MS // ROWS),
            "is_fraud": is_fraud,
            "score": scores.astype(np.float32),
            **named,
        }
    )


def decided(
    rows: pl.DataFrame, champion: StoredModel | None = None, faults: tuple[str, ...] = (), seed: int = 1
) -> Gate:
    nothing_fires = np.zeros(rows.height, np.float32)
    scores = {RULES: nothing_fires, SERVED: rows["score"].to_numpy()}
    ladder = measured(JudgedRows.of(rows, BUDGET), scores, seed)
    return verdict((champion, "" if champion else "there is no champion yet"), rows, ladder, faults, BUDGET, seed)


def truth(seed: int, share: float = 0.05) -> np.ndarray:
    return np.random.default_rng(seed).random(ROWS) < share


def informed(is_fraud: np.ndarray, seed: int, strength: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).random(ROWS) + strength * is_fraud


def champion_in(root: Path) -> StoredModel:
    """A champion that separates by the fourth feature, trained until day 1."""
    store = ModelStore(root)
    store.promote(publish(root))
    stored, _ = usable_champion(store)
    assert stored is not None
    return stored


def champion_scores(champion: StoredModel) -> np.ndarray:
    return score(from_bytes(champion.model), vectors())


@pytest.mark.parametrize("seed", range(25))
def test_scores_that_know_nothing_never_become_the_first_champion(seed: int) -> None:
    is_fraud = truth(seed)
    gate = decided(judged(is_fraud, np.random.default_rng(100 + seed).random(ROWS)), seed=seed)
    assert gate.outcome == "rejected"
    assert "no better than chance" in gate.reason


def test_scores_that_know_something_become_the_first_champion_by_beating_the_rules() -> None:
    is_fraud = truth(1)
    gate = decided(judged(is_fraud, informed(is_fraud, 2)))
    assert gate.outcome == "promoted"
    assert gate.rival == RULES
    assert gate.difference is not None and gate.low is not None
    assert gate.difference > gate.low > 0


def test_what_does_not_beat_the_rules_leaves_the_decision_to_them() -> None:
    is_fraud = truth(1)
    rows = judged(is_fraud, informed(is_fraud, 2, 0.3))
    good_rules = informed(is_fraud, 3, 0.9).astype(np.float32)
    ladder = measured(JudgedRows.of(rows, BUDGET), {RULES: good_rules, SERVED: rows["score"].to_numpy()}, 1)
    gate = verdict((None, "there is no champion yet"), rows, ladder, (), BUDGET, 1)
    assert gate.outcome == "rejected"
    assert "of rules" in gate.reason


def world_of(champion: StoredModel, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A truth that the champion half knows: frauds are where its score plus noise is high; and its scores."""
    theirs = champion_scores(champion)
    hidden = np.random.default_rng(seed).random(ROWS)
    return theirs + hidden > np.quantile(theirs + hidden, 0.95), hidden


def test_a_challenger_as_good_as_the_champion_is_kept_but_not_promoted(tmp_path: Path) -> None:
    champion = champion_in(tmp_path)
    is_fraud, _ = world_of(champion, 4)
    gate = decided(judged(is_fraud, champion_scores(champion)), champion)
    assert gate.outcome == "rejected"
    assert gate.rival == champion.version
    assert gate.difference == gate.low == gate.high == 0


def test_a_challenger_better_by_more_than_noise_is_promoted(tmp_path: Path) -> None:
    champion = champion_in(tmp_path)
    is_fraud, hidden = world_of(champion, 4)
    gate = decided(judged(is_fraud, champion_scores(champion) + hidden), champion)
    assert gate.outcome == "promoted"
    assert champion.version in gate.reason


@pytest.mark.parametrize("seed", range(4))
def test_a_challenger_that_differs_only_within_noise_is_rejected(tmp_path: Path, seed: int) -> None:
    champion = champion_in(tmp_path)
    is_fraud, _ = world_of(champion, 4)
    trembling = 0.02 * np.random.default_rng(20 + seed).random(ROWS)
    gate = decided(judged(is_fraud, champion_scores(champion) + trembling), champion)
    assert gate.outcome == "rejected"
    assert gate.low is not None and gate.high is not None
    assert gate.low <= 0 < gate.high
    assert gate.shadow  # not shown to be worse: it may score beside


def test_who_is_worse_or_rests_on_damaged_data_does_not_score_in_shadow(tmp_path: Path) -> None:
    champion = champion_in(tmp_path)
    is_fraud, _ = world_of(champion, 4)
    scores = champion_scores(champion)
    scores[np.flatnonzero(is_fraud)[::8]] = -1  # as good as the champion, but for an eighth of the frauds
    worse = judged(is_fraud, scores)
    gate = decided(worse, champion)
    assert gate.high is not None
    assert (gate.outcome, gate.high < 0, gate.shadow) == ("rejected", True, False)
    assert not decided(worse, champion, faults=("a hole",)).shadow


@pytest.mark.parametrize("seed", range(10))
def test_scores_that_know_nothing_never_replace_a_champion_however_bad(tmp_path: Path, seed: int) -> None:
    champion = champion_in(tmp_path)  # knows nothing of this truth
    gate = decided(judged(truth(seed), np.random.default_rng(50 + seed).random(ROWS)), champion, seed=seed)
    assert gate.outcome == "rejected"


def test_rows_that_the_champion_has_learned_from_are_not_compared_on(tmp_path: Path) -> None:
    champion = champion_in(tmp_path)
    is_fraud, hidden = world_of(champion, 4)
    rows = judged(is_fraud, champion_scores(champion) + hidden)
    seen = rows.with_columns(pl.col("occurred_at_ms") - 10 * DAY_MS)  # days 0 .. 6: it learned until day 1
    assert decided(seen, champion).rows == seen.filter(pl.col("occurred_at_ms") >= DAY_MS).height
    all_seen = rows.with_columns(pl.col("occurred_at_ms") // 1000)
    gate = decided(all_seen, champion)
    assert gate.outcome == "rejected"
    assert "train again when newer days have matured" in gate.reason


def test_damaged_data_makes_no_champion_however_good_the_numbers() -> None:
    is_fraud = truth(1)
    rows = judged(is_fraud, informed(is_fraud, 2))
    gate = decided(rows, faults=("the lake has a hole: 2018-04-20",))
    assert gate.outcome == "rejected"
    assert "2018-04-20" in gate.reason
    assert decided(rows).outcome == "promoted"


@pytest.mark.parametrize("kind", [False, True])
def test_too_few_of_either_kind_to_measure_on_make_no_champion(kind: bool) -> None:
    is_fraud = np.full(ROWS, kind)
    is_fraud[:9] = not kind
    gate = decided(judged(is_fraud, informed(is_fraud, 2, 5.0)))
    assert gate.outcome == "rejected"
    assert "10 needed of either kind" in gate.reason
