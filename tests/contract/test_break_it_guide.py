"""The guide, the switches and their links agree."""

from __future__ import annotations

import re

import pytest

from fraud.switches import SWITCHES, Side, Switch
from monitoring.console.guide import GUIDES, guide_text
from tests.conftest import ROOT

GUIDE = (ROOT / "docs" / "break-it.md").read_text()
SECTIONS = dict(re.findall(r"^## ([a-z-]+)\n\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.name)
def test_every_switch_has_its_section_of_the_guide(switch: Switch) -> None:
    assert re.findall(r"^\*\*(What happens|Where from|Watch|Learn)\.\*\*", SECTIONS[switch.name], re.MULTILINE) == [
        "What happens", "Where from", "Watch", "Learn",
    ]  # fmt: skip
    assert switch.guide == f"docs/break-it.md#{switch.name}"
    assert switch.panel.partition(":")[0] in ("Health", "Models")
    assert (switch.side is Side.TRAINING) == switch.panel.startswith("Models")


def test_the_guide_has_no_section_of_a_switch_that_there_is_not() -> None:
    assert [name for name in SECTIONS if "-" in name] == [switch.name for switch in SWITCHES]


def test_the_console_serves_its_guides_and_no_other_file() -> None:
    assert all(guide_text(name) for name in GUIDES)
    assert [guide_text(name) for name in ("settings", "../README", "", "break-it.md")] == [None] * 4
