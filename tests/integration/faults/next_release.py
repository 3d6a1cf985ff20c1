"""A release with other features: `python -m tests.integration.faults.next_release worker | scorer | features ...`

Rule 1. The definition differs in what it computes (the windows of a day hold twelve hours) and in its hash; all code is the same.
Rule 2. It changes before any service is imported, as it would if fraud/features.py were another.
"""

from __future__ import annotations

import runpy
import sys
from typing import Final

from fraud import features
from fraud.columns import Int64s
from fraud.fold import CardFold, TerminalFold
from fraud.windows import DAY_MS, HOUR_MS

NEXT_HASH: Final = "next00000000"
MODULES: Final = {"worker": "stream_features", "scorer": "scorer", "features": "stream_features.features_command"}


def _half_days(windows_ms: Int64s) -> Int64s:
    changed = windows_ms.copy()
    changed[changed == DAY_MS] = 12 * HOUR_MS
    assert (changed != windows_ms).sum() == 1
    return changed


class NextCardFold(CardFold):
    """The cards' fold of the next release."""

    windows_ms = _half_days(CardFold.windows_ms)


class NextTerminalFold(TerminalFold):
    """The terminals' fold of the next release."""

    windows_ms = _half_days(TerminalFold.windows_ms)


def main() -> None:
    """Change the definition, then run the service."""
    features.FEATURE_HASH = NEXT_HASH  # type: ignore[misc]  # final for everybody else
    CardFold.windows_ms, TerminalFold.windows_ms = NextCardFold.windows_ms, NextTerminalFold.windows_ms
    sys.argv = [sys.argv[1], *sys.argv[2:]]
    runpy.run_module(MODULES[sys.argv[0]], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
