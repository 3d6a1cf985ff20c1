"""Windows: what their names say is what they last.

Rule 1. That their edges are open on the left and closed on the right is shown in test_fold.py, where they are read.
"""

from __future__ import annotations

import re

import pytest

from fraud import windows
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window

ALL = [value for value in vars(windows).values() if isinstance(value, Window)]


@pytest.mark.parametrize("window", ALL, ids=lambda window: window.name)
def test_a_windows_name_is_its_length(window: Window) -> None:
    match = re.fullmatch(r"(\d+)([mhd])", window.name)
    assert match is not None
    number, unit = match.groups()
    assert window.length_ms == int(number) * {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}[unit]


def test_no_two_windows_have_one_name() -> None:
    assert len({window.name for window in ALL}) == len(ALL)
