"""The scenarios of fraud, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from producer.world.scenarios.account_takeover import AccountTakeover
from producer.world.scenarios.bust_out import BustOut
from producer.world.scenarios.card_testing import CardTesting
from producer.world.scenarios.device_ring import DeviceRing
from producer.world.scenarios.friendly_fraud import FriendlyFraud
from producer.world.scenarios.impossible_travel import ImpossibleTravel
from producer.world.scenarios.leaked_card import LeakedCard
from producer.world.scenarios.obvious_amount import ObviousAmount
from producer.world.scenarios.scenario import Episode, Scenario
from producer.world.scenarios.terminal_compromise import TerminalCompromise

SCENARIOS: Final[Mapping[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        CardTesting(), AccountTakeover(), ImpossibleTravel(), TerminalCompromise(), LeakedCard(), DeviceRing(), BustOut(),
        ObviousAmount(), FriendlyFraud(),
    )
}  # fmt: skip

__all__ = ["SCENARIOS", "Episode", "Scenario"]
