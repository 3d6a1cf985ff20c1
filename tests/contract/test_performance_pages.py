"""README's table and docs/performance.md are what docs/performance.json makes of them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import page
from benchmarks.harness.plot import picture
from benchmarks.harness.result import Results, read_results

ROOT = Path(__file__).parents[2]
RESULTS = read_results(page.DOCS / page.RESULTS_FILE)


def test_the_pages_equal_what_the_results_generate() -> None:
    for path, text in page.documents(RESULTS, ROOT).items():
        assert path.read_text() == text, "run: python -m benchmarks.harness pages"


def test_other_results_would_give_other_pages() -> None:
    """The control: the test above can fail."""
    assert any(path.read_text() != text for path, text in page.documents(Results(), ROOT).items()) == bool(RESULTS.runs)


def test_the_picture_is_there_when_the_page_shows_it() -> None:
    drawn = {"throughput", "latency"} & RESULTS.runs.keys()
    assert (page.DOCS / page.PLOT_FILE).exists() == bool(drawn)
    if drawn:
        assert picture(RESULTS).startswith(b"<?xml")
