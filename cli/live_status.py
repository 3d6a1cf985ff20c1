"""The status line of the demo: how fast, how far behind, how good.

Rule 1. Rates are differences of two readings of the counters; a service that was restarted counts from zero again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from cli.alert_feed import AlertFeed
from cli.alert_table import event_time
from cli.alerts import precision_words
from cli.service_pages import Readings
from fraud import metrics

_READ_EVERY_S: Final = 1.0
_RATE_READINGS: Final = 10


class LiveStatus:
    """Reads the metrics at most once a second. ports: of the services and the producer."""

    def __init__(self, ports: list[int], feed: AlertFeed, clock: Callable[[], float] = time.monotonic) -> None:
        self._ports = ports
        self._feed = feed
        self._clock = clock
        self._scored: deque[tuple[float, float]] = deque(maxlen=_RATE_READINGS)
        self._line = ""

    def line(self, note: str = "") -> str:
        """The line of now. note: what else a person must know."""
        now_s = self._clock()
        if not self._scored or now_s - self._scored[-1][0] >= _READ_EVERY_S:
            self._line = self._read(now_s)
        return f"{self._line}; {note}" if note else self._line

    def _read(self, now_s: float) -> str:
        read = Readings(self._ports)
        scored = read.total(metrics.SCORES_TOTAL)
        if self._scored and scored < self._scored[-1][1]:
            self._scored.clear()
        self._scored.append((now_s, scored))
        simulated_s = read.total(metrics.SIMULATED_TIME_SECONDS)
        lags = ", ".join(
            f"{stage} {count:,.0f}" for stage, count in sorted(read.by(metrics.LAG_RECORDS, "stage").items())
        )
        versions = [version for version, value in read.by(metrics.MODEL_INFO, "version").items() if value]
        return "; ".join(
            (
                f"simulated {event_time(int(simulated_s * 1000))}" if simulated_s else "simulated time: not yet",
                f"{self._rate():,.0f} tx/s",
                f"lag {lags or '-'}",
                f"alerts {self._feed.alerts:,}",
                precision_words(self._feed),
                f"model {versions[0] if versions else '-'}",
            )
        )

    def _rate(self) -> float:
        (first_s, first), (last_s, last) = self._scored[0], self._scored[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0
