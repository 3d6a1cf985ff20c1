"""The reference pages say what the code says, and every name that is defined has a meaning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fraud import dead_letters, metrics
from tests.contract.generated_docs import DOCS, PAGES, settings_classes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", PAGES)
def test_the_page_equals_what_the_code_generates(file: str) -> None:
    assert (DOCS / file).read_text() == PAGES[file](), "run: python -m tests.contract.generated_docs"


def test_every_setting_has_a_meaning() -> None:
    nameless = [
        f"{owner}.{name}"
        for owner, cls in settings_classes().items()
        for name, field in cls.model_fields.items()
        if not field.description
    ]
    assert nameless == []


def test_every_reason_of_a_dead_letter_has_a_meaning() -> None:
    assert set(dead_letters.MEANING) == set(dead_letters.Reason)


def test_metric_names_are_unique_and_end_in_their_unit() -> None:
    names = [metric.name for metric in metrics.CATALOGUE]
    assert len(names) == len(set(names))
    for metric in metrics.CATALOGUE:
        assert metric.name.startswith("fraud_")
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name


def test_every_metric_of_the_catalogue_is_used_by_a_service() -> None:
    source = "\n".join(p.read_text() for folder in ("adapters", "producer", "stream_features", "scorer", "trainer", "monitoring")
                       for p in (ROOT / folder).rglob("*.py"))  # fmt: skip
    used = set(re.findall(r"metrics\.([A-Z_]+)", source))
    defined = {name for name, value in vars(metrics).items() if isinstance(value, metrics.Metric)}
    assert defined - used == set()
