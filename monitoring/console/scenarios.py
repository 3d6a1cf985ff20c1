"""The scenarios that the world knows, as the console offers them.

Rule 1. The list is the producer's own, in a file that is generated from it (`python -m tests.contract.console_scenarios`);
        a test keeps the two equal. The console never imports the producer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("scenarios.json")
SCENARIOS: Final[list[dict[str, Any]]] = json.loads(FILE.read_text())
RUN_PREFIX: Final = "run-"  # the producer tells the transactions of runs by it


class ScenarioRefusedError(ValueError):
    """A scenario that cannot be started; the message names the parameter and its range."""


def check_scenario(name: str, parameters: Mapping[str, float], cards: int, cards_of_world: int | None) -> None:
    """Raise ScenarioRefusedError for what the producer would refuse."""
    known = {scenario["name"]: scenario for scenario in SCENARIOS}
    if name not in known:
        raise ScenarioRefusedError(f"there is no scenario {name[:80]!r}; there are: {', '.join(known)}")
    if cards_of_world is not None and cards > cards_of_world:
        raise ScenarioRefusedError(f"cards is {cards}, the running world has {cards_of_world}")
    ranges = {each["name"]: (each["low"], each["high"]) for each in known[name]["parameters"]}
    for parameter, value in parameters.items():
        if parameter not in ranges:
            raise ScenarioRefusedError(f"{name} has no parameter {parameter[:80]!r}; it has: {', '.join(ranges)}")
        low, high = ranges[parameter]
        if not low <= value <= high:
            raise ScenarioRefusedError(f"{parameter} is {value:g}, {low:g} .. {high:g} is expected")
