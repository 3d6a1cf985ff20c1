"""The rules: what fires, what it scores, and what it is called.

Rule 1. A vector in these tests names what it sets; all other features are without a value.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fraud import rules
from fraud.features import NAMES
from fraud.rules import RULES, Rule


def vector(**values: float) -> npt.NDArray[np.float32]:
    row = np.full((1, len(NAMES)), np.nan, np.float32)
    for name, value in values.items():
        row[0, NAMES.index(name)] = value
    return row


def exactly_fulfilling(rule: Rule) -> dict[str, float]:
    """Values on the edge of every condition of a rule."""
    values: dict[str, float] = {}
    for condition in rule.conditions:
        if condition.times is not None:
            values[condition.times] = 1000
        values[condition.feature] = float(np.float32(condition.at_least)) * (1000 if condition.times else 1)
    return values


def test_every_feature_that_a_rule_names_exists_and_codes_are_unique() -> None:
    named = {c.feature for r in RULES for c in r.conditions} | {c.times for r in RULES for c in r.conditions if c.times}
    assert named <= set(NAMES)
    assert len({r.code for r in RULES}) == len(RULES)
    assert all(0 < r.weight < 1 and r.meaning for r in RULES)


def test_a_card_and_terminal_without_history_fire_nothing_and_score_zero() -> None:
    fired = rules.fired(vector(request_amount_minor=1e12))
    assert not fired.any()
    assert rules.score(fired).tolist() == [0.0]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_fires_on_the_edge_of_its_conditions_and_not_when_one_falls_short(rule: Rule) -> None:
    values = exactly_fulfilling(rule)
    assert f"RULE_{rule.code}" in rules.codes(rules.fired(vector(**values))[0])
    for condition in rule.conditions:
        short = {**values, condition.feature: values[condition.feature] * 0.999}
        assert f"RULE_{rule.code}" not in rules.codes(rules.fired(vector(**short))[0])
        without = {name: value for name, value in values.items() if name != condition.feature}
        assert f"RULE_{rule.code}" not in rules.codes(rules.fired(vector(**without))[0])


def test_one_fired_rule_scores_its_weight_and_more_rules_score_more() -> None:
    fired = np.eye(len(RULES), dtype=np.bool_)
    assert rules.score(fired).tolist() == pytest.approx([r.weight for r in RULES])
    everything = rules.score(np.ones((1, len(RULES)), np.bool_))[0]
    assert everything == pytest.approx(1 - np.prod([1 - r.weight for r in RULES]))
    assert max(r.weight for r in RULES) < everything <= 1


def test_scores_do_not_depend_on_the_neighbours_in_the_batch() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.choice(np.array([0, 1, 2, 10, 30, 1000, np.nan], np.float32), (200, len(NAMES)))
    together = rules.score(rules.fired(vectors))
    alone = np.concatenate([rules.score(rules.fired(row[None, :])) for row in vectors])
    assert together.tobytes() == alone.tobytes()
    assert together.dtype == np.float32
    assert len(np.unique(together)) > 2
