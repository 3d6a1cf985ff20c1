"""Every scenario says which features are meant to catch it; these are features.

Rule 1. A prefix stands for the features that begin with it, in any window.
"""

from __future__ import annotations

import pytest

from fraud.features import NAMES
from producer.world.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_what_is_meant_to_catch_a_scenario_exists(scenario: object) -> None:
    prefixes: tuple[str, ...] = scenario.caught_by  # type: ignore[attr-defined]  # a Scenario
    unknown = [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in NAMES)]
    assert unknown == []
