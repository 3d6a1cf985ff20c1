"""What a running service says of itself over HTTP: /healthz and /metrics.

Rule 1. A service that does not answer is unready; that is an answer, not an error.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from adapters.ports import LOOPBACK
from fraud.metrics import Metric

_ANSWER_S_MAX: Final = 2.0


def unready_because(port: int) -> str | None:
    """None when /healthz answers 200, else the reason."""
    try:
        status, body = _get(port, "/healthz")
    except (OSError, http.client.HTTPException) as error:
        return f"/healthz does not answer ({type(error).__name__})"
    if status == http.client.OK:
        return None
    try:
        return str(json.loads(body)["reason"])
    except (ValueError, KeyError, TypeError):
        return f"/healthz answers {status}"


class Readings:
    """The samples of several services' /metrics."""

    def __init__(self, ports: Iterable[int]) -> None:
        self._samples: list[tuple[str, Mapping[str, str], float]] = []
        for port in ports:
            try:
                status, body = _get(port, "/metrics")
            except (OSError, http.client.HTTPException):
                continue
            if status == http.client.OK:
                for family in text_string_to_metric_families(body):
                    self._samples += [(sample.name, sample.labels, sample.value) for sample in family.samples]

    def total(self, metric: Metric, **labels: str) -> float:
        """Sum of the metric over all samples with these labels; 0 when there are none."""
        return sum(value for of, value in self._of(metric) if labels.items() <= of.items())

    def by(self, metric: Metric, label: str) -> dict[str, float]:
        """Sums of the metric for each value of a label."""
        sums: dict[str, float] = {}
        for labels, value in self._of(metric):
            sums[labels[label]] = sums.get(labels[label], 0.0) + value
        return sums

    def any(self) -> bool:
        """Whether any service answered."""
        return bool(self._samples)

    def _of(self, metric: Metric) -> list[tuple[Mapping[str, str], float]]:
        return [(labels, value) for name, labels, value in self._samples if name == metric.name]


def _get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_ANSWER_S_MAX)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()
