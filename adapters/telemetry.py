"""Logs, metrics and health of a service.

Rule 1. A metric object is made from its entry in fraud/metrics.py and from nothing else.
Rule 2. /healthz answers 200 when the service does its work now, 503 with the reason when it does not.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

from adapters.settings import StackSettings
from fraud.metrics import Metric

CLIENT_LOG_SECONDS: Final = 5.0


@cache
def counter(metric: Metric, *labels: str) -> Counter:
    """The process's counter of this catalogue entry; with values for its labels, the child that has them."""
    if labels:
        return counter(metric).labels(*labels)
    assert metric.kind == "counter", metric.name
    return Counter(metric.name, metric.meaning, metric.labels)


@cache
def gauge(metric: Metric, *labels: str) -> Gauge:
    """The process's gauge of this catalogue entry; with values for its labels, the child that has them, which is never removed."""
    if labels:
        return gauge(metric).labels(*labels)
    assert metric.kind == "gauge", metric.name
    return Gauge(metric.name, metric.meaning, metric.labels)


@cache
def histogram(metric: Metric, *labels: str) -> Histogram:
    """The process's histogram of this catalogue entry; with values for its labels, the child that has them."""
    if labels:
        return histogram(metric).labels(*labels)
    assert metric.kind == "histogram", metric.name
    return Histogram(metric.name, metric.meaning, metric.labels, buckets=metric.buckets)


def observe_many(target: Histogram, values: npt.ArrayLike) -> None:
    """Observe each value of a batch, none NaN: what `observe` for each would do, at a hundredth of its cost.

    The client has no call for it, so the counts are added to its buckets.
    """
    observed = np.asarray(values, np.float64)
    counts = np.bincount(np.searchsorted(target._upper_bounds, observed))
    for place in np.flatnonzero(counts).tolist():
        target._buckets[place].inc(int(counts[place]))
    target._sum.inc(float(observed.sum()))


class _Seldom(logging.Filter):
    """Lets a message of one wording pass once in `seconds`: a broker that is away makes a client say the same all the time."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._passed_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        wording, now = (record.name, str(record.msg)), self._clock()
        if now - self._passed_at.get(wording, -self._seconds) < self._seconds:
            return False
        self._passed_at[wording] = now
        return True


def configure_logging(settings: StackSettings, service: str) -> structlog.stdlib.BoundLogger:
    """Send this process's logs, the libraries' included, to stderr in the chosen form; return the service's logger."""
    level = getattr(logging, settings.log_level)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler, seldom = logging.StreamHandler(sys.stderr), _Seldom(CLIENT_LOG_SECONDS)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    handler.addFilter(lambda record: not record.name.startswith(("aiokafka", "kafka")) or seldom.filter(record))
    for noisy in ("kafka", "aiokafka", "faust", "mode", "urllib3"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
    # kafka-python warns of each callback over 0.1 s, which a busy machine causes many times a minute.
    logging.getLogger("kafka.net.selector").setLevel(max(level, logging.ERROR))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(service)
    return logger


def serve_metrics(
    settings: StackSettings,
    health: Callable[[], str | None],
    more: Callable[[BaseHTTPRequestHandler], bool] | None = None,
) -> ThreadingHTTPServer | None:
    """Serve /metrics and /healthz from a daemon thread; `health` returns None when well, else the reason.

    more: answers the service's own requests, on threads beside; False: not its path.
    Returns None when metrics_port is 0. Raises OSError when the port is taken.
    """
    if settings.metrics_port == 0:
        return None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest())
            elif self.path == "/healthz":
                reason = health()
                body = json.dumps({"status": "ok" if reason is None else "unready", "reason": reason}).encode()
                self._answer(200 if reason is None else 503, "application/json", body)
            else:
                self.do_POST()

        def do_POST(self) -> None:
            if more is None or not more(self):
                self._answer(404, "text/plain", b"nothing is here; /metrics and /healthz are\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name in http.server)
            """Scrapes are not worth a line."""

    server = ThreadingHTTPServer((settings.metrics_host, settings.metrics_port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
