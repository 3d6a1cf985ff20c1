"""The console's list of scenarios, from the producer's own: `python -m tests.contract.console_scenarios` writes it."""

from __future__ import annotations

import json

from monitoring.console.scenarios import FILE
from producer.world.scenarios import SCENARIOS


def generated() -> str:
    """What must stand in the file."""
    return json.dumps([scenario.described() for scenario in SCENARIOS.values()], indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(generated())
