"""Reference pages that are generated from the code: `python -m tests.contract.generated_docs` writes them into docs/."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from adapters.settings import StackSettings
from fraud import batch_features, dead_letters, features, metrics, topics
from fraud.features import Feature
from fraud.windows import DAY_MS
from tests.contract.scenario_table import scenarios_page
from tests.contract.world_facts import facts_page

DOCS = Path(__file__).parents[2] / "docs"
PACKAGES = ("producer", "stream_features", "scorer", "trainer", "monitoring", "cli")
NOTE = "Generated from the code by `python -m tests.contract.generated_docs`; a test keeps it true.\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def settings_classes() -> dict[str, type[StackSettings]]:
    """Every settings class by its package; `adapters` for the ones that all share."""
    found: dict[str, type[StackSettings]] = {"every service": StackSettings}
    for package in PACKAGES:
        if importlib.util.find_spec(f"{package}.settings") is not None:
            importlib.import_module(f"{package}.settings")
    for subclass in sorted(_subclasses(StackSettings), key=lambda c: c.__module__):
        found[f"{subclass.__module__.split('.')[0]}: {subclass.__name__}"] = subclass
    return found


def _subclasses(parent: type[StackSettings]) -> list[type[StackSettings]]:
    return [c for child in parent.__subclasses__() for c in (child, *_subclasses(child))]


def settings_page() -> str:
    """docs/settings.md."""
    parts = [f"# Settings\n\n{NOTE}\nRead once at start, from the environment or from `.fraudstream/stack.env`.\n"]
    for owner, cls in settings_classes().items():
        inherited: set[str] = set().union(*(p.model_fields for p in cls.__mro__[1:] if issubclass(p, StackSettings)))
        rows = [
            (f"`FRAUD_{name.upper()}`", f"`{field.default}`", field.description)
            for name, field in cls.model_fields.items()
            if name not in inherited
        ]
        if rows:
            parts.append(f"## {owner}\n\n{table(('variable', 'default', 'meaning'), rows)}")
    return "\n".join(parts)


def metrics_page() -> str:
    """docs/metrics.md."""
    rows = [(f"`{m.name}`", m.kind, ", ".join(m.labels), m.meaning) for m in metrics.CATALOGUE]
    return f"# Metrics\n\n{NOTE}\n{table(('name', 'kind', 'labels', 'meaning'), rows)}"


def topics_page() -> str:
    """docs/topics.md."""
    rows = [(f"`{t.name}`", t.key, t.value, t.written_by, t.read_by) for t in topics.ALL]
    reasons = [(f"`{reason}`", meaning) for reason, meaning in dead_letters.MEANING.items()]
    return (
        f"# Topics\n\n{NOTE}\n{table(('topic', 'key', 'value', 'written by', 'read by'), rows)}\n"
        f"## Reasons of dead letters\n\n{table(('reason', 'meaning'), reasons)}"
    )


def feature_rows(of: Sequence[Feature]) -> list[Sequence[str]]:
    """A row of the table below for each feature, in the order of the vector."""
    return [
        (
            f"`{f.name}`",
            f.unit,
            f"{f.low:g} .. {f.high:g}",
            "no value" if f.default != f.default else f"{f.default:g}",
            f.meaning,
        )
        for f in of
    ]


def features_page() -> str:
    """docs/features.md."""
    rows = feature_rows(features.FEATURES)
    days = [f"{span_ms // DAY_MS} days" for span_ms in (features.CARD_SPAN_MS, features.TERMINAL_SPAN_MS)]
    return (
        f"# Features\n\n{NOTE}\n"
        f"{len(rows)} features, version `{features.FEATURE_HASH}`, in the order of the vector. A feature is read before its own "
        "transaction is added; a window of length w that ends at t holds event times y with t - w < y <= t. No value is NaN.\n"
        f"A vector looks back {days[0]} at its card and {days[1]} at its terminal; a transaction further behind its card's or "
        "terminal's newest is too late. For the rules of late, duplicated and labelled transactions see `fraud/fold.py`.\n\n"
        f"{table(('feature', 'unit', 'range', 'without history', 'meaning'), rows)}"
    )


def batch_features_page() -> str:
    """docs/batch-features.md."""
    rows = feature_rows(batch_features.FEATURES)
    return (
        f"# Features of the batch path\n\n{NOTE}\n"
        f"{len(rows)} features, version `{batch_features.BATCH_HASH}`: the request's own fields, and the snapshot of the midnight "
        "(UTC) before it per card and terminal. A window of length w begins at midnight - w and holds what happened and was sent "
        "before midnight; labels count when they were known before midnight. The two paths are [compared](two-paths.md); the "
        f"streaming path's features are [here](features.md).\n\n"
        f"{table(('feature', 'unit', 'range', 'without history', 'meaning'), rows)}"
    )


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "topics.md": topics_page,
    "features.md": features_page,
    "batch-features.md": batch_features_page,
    "world-facts.md": lambda: facts_page(NOTE, table),
    "scenarios.md": lambda: scenarios_page(NOTE, table),
}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (DOCS / file).write_text(page())
        print(f"docs/{file}")
