"""Every query of every dashboard and rule, asked of a real Prometheus that scrapes every metric of the catalogue.

Rule 1. An answer must hold at least one number: a query with a wrong name or label answers successfully with nothing.
Rule 2. What is scraped is made from the catalogue, each label with the values that the services give it.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fraud.metrics import (
    CATALOGUE,
    CHALLENGER_QUALITY,
    DELIVERED_QUALITY,
    DRIFT_DISTANCE,
    ESTIMATED_QUALITY,
    PATH_QUALITY,
    PROMISED_QUALITY,
    Metric,
)
from monitoring.grafana.__main__ import FOLDER
from tests.conftest import missing

RULES = Path(__file__).parents[2] / "monitoring" / "prometheus" / "rules"
READY_S, ANSWER_S = 30.0, 60.0
VALUES: dict[str, tuple[str, ...]] = {
    "stage": ("card", "labels", "terminal", "scorer"),
    "scored_by": ("challenger", "champion"),
    "outcome": ("accepted", "duplicate", "dead_letter", "refused", "failed", "saved", "judged"),
    "topic": ("transactions", "features"),
    "partition": ("0",),
    "reason": ("NOT_JSON",),
    "decision": ("approve", "review", "decline"),
    "version": ("v1", "v2"),
    "role": ("champion",),
    "column": ("score", "card_count_1h"),
    "of": ("expected", "observed"),
    "path": ("streaming", "batch"),
    "class": ("fraud", "genuine", "censored"),
    "quantile": ("0.5", "0.9"),
    "scenario": ("card_testing",),
    "feature": ("card_count_1h",),
    "fault": ("mismatched", "missing"),
    "endpoint": ("score", "features"),
    "entity": ("card", "terminal"),
    "switch": ("wall-clock",),
}
MEASURES = {
    DRIFT_DISTANCE.name: ("psi", "jensen_shannon", "ks", "null_share", "out_of_range_share"),
    ESTIMATED_QUALITY.name: ("precision", "recall"),
    DELIVERED_QUALITY.name: ("auc", "ap", "card_precision", "precision", "recall"),
    PROMISED_QUALITY.name: ("auc", "ap", "card_precision"),
    CHALLENGER_QUALITY.name: ("auc", "ap", "card_precision", "precision", "recall"),
    PATH_QUALITY.name: ("ap", "card_precision", "precision", "recall"),
}


def label_sets(metric: Metric) -> list[tuple[str, ...]]:
    values = [MEASURES[metric.name] if label == "measure" else VALUES[label] for label in metric.labels]
    return list(itertools.product(*values))


class Exporter:
    """Serves every metric; at each scrape counters have grown and gauges have moved."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        kinds = {"counter": Counter, "gauge": Gauge}
        self._metrics: list[tuple[Metric, Any]] = [
            (
                m,
                Histogram(m.name, m.meaning, m.labels, buckets=m.buckets, registry=self._registry)
                if m.kind == "histogram"
                else kinds[m.kind](m.name, m.meaning, m.labels, registry=self._registry),
            )
            for m in CATALOGUE
        ]
        self.move()  # a label without values fails here, by its name, and not as a scrape that answers nothing
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter.move()
                body = generate_latest(exporter._registry)
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE_LATEST)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name in http.server)
                """Scrapes are not worth a line."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def move(self) -> None:
        """Let every series go on."""
        for metric, parent in self._metrics:
            for labels in label_sets(metric):
                child = parent.labels(*labels) if metric.labels else parent
                if metric.kind == "histogram":
                    child.observe(0.02)
                elif metric.name.endswith(("_up", "_info", "_raised")):
                    child.set(1)
                else:
                    child.inc(2)


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    address: str

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer. Raises OSError."""
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def numbers(self, query: str) -> list[float]:
        """The numbers that a query answers now, without NaN."""
        found = self.get("/api/v1/query", query=query)["result"]
        values = [float(series["value"][1]) for series in found]
        return [value for value in values if not math.isnan(value)]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with the stack's rules that scrapes the exporter every second."""
    binary = shutil.which("prometheus")
    if binary is None:
        missing("promtool", "prometheus is not installed (Debian: apt-get install prometheus)")
    folder, exporter = tmp_path_factory.mktemp("prometheus"), Exporter()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "*.yml")],
        "scrape_configs": [
            {"job_name": "all", "static_configs": [{"targets": [f"127.0.0.1:{exporter.server.server_port}"]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until_ready(process, address, folder / "log")
        yield Prometheus(address)
    finally:
        process.kill()
        process.wait(10)
        exporter.server.shutdown()


def wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.1)


def queries() -> dict[str, str]:
    """Every query of every dashboard, by the board's and the panel's title."""
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                found[f"{path.stem}: {panel['title']} {target['refId']}"] = target["expr"]
    return found


def silent(prometheus: Prometheus, asked: dict[str, str], seconds: float) -> dict[str, str]:
    """The queries that answer no number within so many seconds."""
    deadline = time.monotonic() + seconds
    left = dict(asked)
    while left and time.monotonic() < deadline:
        left = {name: query for name, query in left.items() if not prometheus.numbers(query)}
        if left:
            time.sleep(0.5)
    return left


def test_every_query_of_every_dashboard_answers(prometheus: Prometheus) -> None:
    asked = queries()
    assert len(asked) > 50
    assert silent(prometheus, asked, ANSWER_S) == {}


def test_every_recording_rule_records_and_no_rule_has_an_error(prometheus: Prometheus) -> None:
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    recorded = {rule["record"]: rule["record"] for rule in rules if "record" in rule}
    assert silent(prometheus, recorded, ANSWER_S) == {}
    loaded = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert len(loaded) == len(rules)
    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}


def test_a_wrong_name_and_a_wrong_label_are_found(prometheus: Prometheus) -> None:
    wrong = {
        "name": "sum(rate(fraud_score_total[1m]))",
        "label": 'fraud_delivered_quality{measure="average_precision"}',
        "join": "fraud_delivered_quality / on (path) fraud_promised_quality{version='v1',measure='ap'}",
    }
    assert silent(prometheus, {**wrong, "right": "fraud_delivered_quality"}, 3) == wrong
