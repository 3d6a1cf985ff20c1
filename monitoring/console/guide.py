"""The pages of docs/ that the console links to, as plain text.

Rule 1. Only these names; nothing of a request reaches a path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

GUIDES: Final = ("break-it", "runbook")
# In a checkout; and where pyproject.toml puts them in an installed package.
_FOLDERS: Final = (Path(__file__).parents[2] / "docs", Path(__file__).parent / "docs")


def guide_text(name: str) -> str | None:
    """The text of a page; None for a name that is none, and where docs/ was not installed."""
    if name not in GUIDES:
        return None
    found = next((path for folder in _FOLDERS if (path := folder / f"{name}.md").is_file()), None)
    return None if found is None else found.read_text()
