"""What the services say of themselves, read from their metrics pages.

Rule 1. A service that does not answer is missing from a reading, and named: that is an answer, not an error.
Rule 2. Only metrics of the catalogue are kept.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from fraud.metrics import Metric

ANSWER_S_MAX: Final = 2.0
Sample = tuple[Mapping[str, str], float]


@dataclass(slots=True)
class Reading:
    """All pages at one moment. at_s: monotonic. by: samples by name and by service; down: who did not answer."""

    at_s: float
    by: dict[str, list[tuple[str, Mapping[str, str], float]]] = field(default_factory=dict)
    up: list[str] = field(default_factory=list)
    down: list[str] = field(default_factory=list)

    def samples(self, metric: Metric, suffix: str = "", **labels: str) -> Iterator[Sample]:
        """Samples of a metric with these labels; suffix: `_bucket`, `_count` or `_sum` of a histogram."""
        for _, of, value in self.by.get(metric.name + suffix, ()):
            if labels.items() <= of.items():
                yield of, value

    def total(self, metric: Metric, suffix: str = "", **labels: str) -> float | None:
        """Their sum; None when there are none."""
        values = [value for _, value in self.samples(metric, suffix, **labels)]
        return sum(values) if values else None

    def sums(self, metric: Metric, label: str, **labels: str) -> dict[str, float]:
        """Their sums by the values of a label."""
        found: dict[str, float] = {}
        for of, value in self.samples(metric, "", **labels):
            found[of[label]] = found.get(of[label], 0.0) + value
        return found

    def buckets(self, metric: Metric, **labels: str) -> dict[float, float]:
        """Cumulated counts of a histogram by upper bound."""
        found: dict[float, float] = {}
        for of, value in self.samples(metric, "_bucket", **labels):
            bound = float(of["le"])
            found[bound] = found.get(bound, 0.0) + value
        return found


def read_all(pool: ThreadPoolExecutor, targets: Mapping[str, str], at_s: float) -> Reading:
    """Read every page at once."""
    reading = Reading(at_s)
    for name, text in zip(targets, pool.map(_page, targets.values()), strict=True):
        if text is None:
            reading.down.append(name)
            continue
        reading.up.append(name)
        for family in text_string_to_metric_families(text):
            if family.name.startswith("fraud_"):
                for sample in family.samples:
                    reading.by.setdefault(sample.name, []).append((name, sample.labels, sample.value))
    return reading


def _page(address: str) -> str | None:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_S_MAX)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        return body if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
