"""The pages of docs/ that the console links to, as plain text.

Rule 1. Only these names; nothing of a request reaches a path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

GUIDES: Final = ("break-it", "runbook")
_DOCS: Final = Path(__file__).parents[2] / "docs"


def guide_text(name: str) -> str | None:
    """The text of a page; None for a name that is none, and where docs/ was not installed."""
    if name not in GUIDES:
        return None
    try:
        return (_DOCS / f"{name}.md").read_text()
    except OSError:
        return None
