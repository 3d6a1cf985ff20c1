"""A real Alertmanager with our configuration: its message reaches the console's webhook in the shape that is read there.

Rule 1. Only the address, the token's file and the waits of the configuration are changed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest
from starlette.datastructures import Headers

from adapters.ports import free_ports
from monitoring.console.guard import WEBHOOK_PATH, Guard
from monitoring.console.system_alerts import SystemAlerts, Webhook
from tests.conftest import ROOT, missing

FOLDER = ROOT / "monitoring" / "alertmanager"
SECONDS_MAX = 90
NAMES = ("prometheus-alertmanager", "alertmanager")


@contextmanager
def receiver() -> Iterator[tuple[int, Queue[tuple[str, dict[str, str], bytes]]]]:
    """A port, and what is posted there: path, headers and body."""
    got: Queue[tuple[str, dict[str, str], bytes]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.put((self.path, dict(self.headers), body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name in http.server)
            """Not worth a line."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def alertmanager(folder: Path, console_port: int) -> Iterator[str]:
    """The address of an Alertmanager with our configuration."""
    program = next((name for name in NAMES if shutil.which(name)), None)
    if program is None:
        missing("promtool", "Alertmanager is not installed (Debian: apt-get install prometheus-alertmanager)")
    told = (FOLDER / "alertmanager.yml").read_text()
    for ours, here in (
        ("http://console:8400", f"http://127.0.0.1:{console_port}"),
        ("/etc/alertmanager/console-token", str(FOLDER / "console-token")),
        ("group_wait: 10s", "group_wait: 100ms"),
    ):
        assert ours in told, ours
        told = told.replace(ours, here)
    (folder / "alertmanager.yml").write_text(told)
    (port,) = free_ports(1)
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program, f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder}",
                f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        _await_ready(f"http://127.0.0.1:{port}/-/ready", folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _await_ready(address: str, folder: Path) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"not ready: {(folder / 'alertmanager.log').read_text()[-2000:]}")


def test_a_real_alertmanagers_message_passes_the_guard_and_is_shown(tmp_path: Path) -> None:
    with receiver() as (port, got), alertmanager(tmp_path, port) as address:
        alert = {
            "labels": {"alertname": "ParityBroken", "severity": "page", "fault": "mismatched"},
            "annotations": {
                "summary": "120 served vectors are mismatched: training and serving do not see the same",
                "runbook": "docs/runbook.md#paritybroken",
            },
        }
        request = urllib.request.Request(
            f"{address}/api/v2/alerts", json.dumps([alert]).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=30).close()
        path, headers, body = got.get(timeout=SECONDS_MAX)
    if kept := os.environ.get("FRAUD_TEST_KEEP_WEBHOOK"):  # how tests/contract/alertmanager/webhook-v4.json was made
        Path(kept).write_bytes(body)
    assert path == WEBHOOK_PATH
    token = (FOLDER / "console-token").read_text().strip()
    guard = Guard(lambda *_: None, ["127.0.0.1"], "page's", token)  # type: ignore[arg-type,return-value]
    assert guard.webhook_refused_because("POST", Headers(headers), "172.18.0.9") is None
    book = SystemAlerts()
    book.take(Webhook.model_validate_json(body))
    (row,) = book.values()["alerts"]
    assert (row["name"], row["status"], row["runbook"]) == ("ParityBroken", "firing", "paritybroken")


def test_compose_gives_the_console_the_token_that_alertmanager_sends() -> None:
    token = (FOLDER / "console-token").read_text().strip()
    assert f"FRAUD_CONSOLE_WEBHOOK_TOKEN: {token}" in (ROOT / "docker-compose.yml").read_text()
