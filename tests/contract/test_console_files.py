"""What the console's files promise: vendored libraries unmodified, nothing inline, nothing from elsewhere, and its size.

Rule 1. Each check has a control that shows that it would find what it looks for.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from monitoring.console.assets import STATIC, read_assets
from monitoring.console.guard import POLICY
from monitoring.console.scenarios import FILE
from tests.contract.console_scenarios import generated

VENDORS = (STATIC / "vendor", Path(__file__).parents[1] / "browser" / "vendor")
FIRST_VIEW_BYTES_MAX = 150_000


def changed_files(folder: Path) -> list[str]:
    """Vendored files that are not the published ones, have no licence, or are not listed."""
    sources = json.loads((folder / "SOURCES.json").read_text())
    found = [
        name
        for name, source in sources.items()
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != source["sha256"]
        or not source["licences"]
        or not all((folder / licence).stat().st_size > 500 for licence in source["licences"])
    ]
    return found + sorted({p.name for p in folder.iterdir() if p.suffix in (".js", ".css")} - sources.keys())


@pytest.mark.parametrize("folder", VENDORS, ids=lambda folder: folder.parent.name)
def test_vendored_files_are_the_published_ones_with_their_licences(folder: Path) -> None:
    assert changed_files(folder) == []


def test_a_changed_or_unlisted_vendored_file_is_found(tmp_path: Path) -> None:
    for path in VENDORS[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "uplot.js").write_bytes((tmp_path / "uplot.js").read_bytes() + b"\n")
    (tmp_path / "more.js").write_text("")
    assert changed_files(tmp_path) == ["uplot.js", "more.js"]


def inline_or_foreign(page: str) -> list[str]:
    """What the policy would refuse: scripts, styles and handlers in the page, and addresses elsewhere."""
    inline = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\son\w+=|\sstyle=|javascript:", page)
    return inline + re.findall(r"(?:src|href)=\"(?:https?:)?//[^\"]*", page)


def test_the_page_has_nothing_inline_and_loads_nothing_from_elsewhere() -> None:
    assert inline_or_foreign((STATIC / "index.html").read_text()) == []
    assert "default-src 'self'" in POLICY and "unsafe" not in POLICY


def test_something_inline_would_be_found() -> None:
    page = '<script>1</script><p onclick="x"></p><script src="//cdn.example/x.js"></script>'
    assert len(inline_or_foreign(page)) == 3


def test_no_script_sets_html_or_loads_from_elsewhere() -> None:
    for path in (STATIC / "js").glob("*.js"):
        code = path.read_text()
        assert not re.findall(
            r"innerHTML|outerHTML|dangerouslySet|insertAdjacent|document\.write|\beval\(|new Function", code
        ), path
        assert not re.findall(r"https?://(?!www\.w3\.org)", code), path


def test_everything_that_the_console_has_is_smaller_over_the_wire_than_one_view_may_be() -> None:
    assert sum(len(asset.compressed) for asset in read_assets().values()) < FIRST_VIEW_BYTES_MAX


def test_the_consoles_scenarios_are_the_producers() -> None:
    assert FILE.read_text() == generated(), "run `python -m tests.contract.console_scenarios`"
