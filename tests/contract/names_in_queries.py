"""Which names the rules, the dashboards and the documents use.

Rule 1. A histogram's series end in _bucket, _count or _sum; the catalogue has its bare name.
Rule 2. A name with a colon is a recording rule, and must be recorded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from fraud.metrics import CATALOGUE

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "monitoring" / "prometheus"
RUNBOOK = ROOT / "docs" / "runbook.md"
DASHBOARDS = ROOT / "monitoring" / "grafana" / "dashboards"

SERIES = {m.name for m in CATALOGUE} | {
    f"{m.name}_{part}" for m in CATALOGUE if m.kind == "histogram" for part in ("bucket", "count", "sum")
}
_name = re.compile(
    r"(?<![\w:])(?:\w+:)?fraud(?:_[a-z0-9_]+)?(?::[a-z0-9_]+)+|(?<![\w:])\w+:fraud_[a-z0-9_:]+|(?<![\w:])fraud_[a-z0-9_]+"
)


def rules(path: Path = PROMETHEUS / "rules") -> list[dict[str, Any]]:
    """Every recording and alerting rule."""
    return [
        rule
        for file in sorted(path.glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def names_in(text: str) -> set[str]:
    """Metric names and recorded names in a query or a document.

    >>> sorted(names_in('a:fraud_b:c / fraud_d_total{x="fraud"} > fraud:e:f5m'))
    ['a:fraud_b:c', 'fraud:e:f5m', 'fraud_d_total']
    """
    return set(_name.findall(text))


def unknown(text: str) -> set[str]:
    """Names that neither the catalogue nor a recording rule defines."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    return names_in(text) - SERIES - recorded
