"""A real console process, and the metrics page of services that are not there.

Rule 1. Every wait has a deadline; the process ends with the test, by its own id.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
READY_S_MAX = 90.0
_T = TypeVar("_T")


def until(what: str, look: Callable[[], _T | None], seconds: float = READY_S_MAX) -> _T:
    """What `look` gives as soon as it is something true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class ConsoleProcess:
    """`python -m monitoring console` on a port; it can be ended and started again."""

    def __init__(self, port: int, state: Path, **environment: str) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"
        self.log = state / "console.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
        self._environment = {
            **inherited, "PYTHONPATH": str(ROOT), "FRAUD_STATE_DIR": str(state), "FRAUD_CONSOLE_PORT": str(port), **environment,
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it answers."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "monitoring", "console"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        until(f"the console answers; its log is {self.log}", lambda: self.get("/api/session")[0] == 200)

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def end(self) -> int:
        """End by SIGTERM; return its exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body; 0 when nobody answers."""
        return self.ask("GET", path, headers)

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of one request; 0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def _page(began_s: float) -> str:
    """Metrics as services tell them, with counters that rise."""
    passed = int((time.monotonic() - began_s) * 180) + 40_000
    lines = [
        f'fraud_scores_total{{decision="approve"}} {passed}',
        f'fraud_produced_total{{topic="transactions"}} {passed}',
        f'fraud_archived_rows_total{{topic="features"}} {passed}',
        'fraud_model_info{version="20240502T090000-46b2ee"} 1',
        "fraud_state_store_up 1",
        "fraud_state_store_memory_bytes 8.4e7",
        "fraud_parity_compared 5000",
        'fraud_parity_rounds_total{outcome="holds"} 3',
        'fraud_parity_wrong_rows{fault="mismatched"} 0',
        "fraud_snapshot_age_seconds 40800",
        "fraud_snapshot_seconds 1.4",
        f'fraud_batch_path_rows_total{{outcome="joined"}} {passed - 2_000}',
        'fraud_batch_path_rows_total{outcome="missing"} 2000',
        f'fraud_path_cpu_seconds_total{{path="streaming"}} {passed * 11e-6}',
        f'fraud_path_cpu_seconds_total{{path="batch"}} {passed * 24e-6}',
        'fraud_switch_from_offset{switch="float-sums",stage="card",partition="0"} 1234',
        'fraud_dead_letters_total{topic="transactions",reason="NOT_JSON"} 2',
    ]
    for stage in ("card", "terminal", "scorer"):
        lines += [
            f'fraud_transactions_total{{stage="{stage}",outcome="accepted"}} {passed}',
            f'fraud_lag_seconds{{stage="{stage}",topic="x",partition="0"}} 0',
            f'fraud_lag_records{{stage="{stage}",topic="x",partition="0"}} 0',
            f'fraud_watermark_offset{{stage="{stage}",partition="0"}} {passed}',
            f'fraud_event_time_seconds{{stage="{stage}",partition="0"}} 1714985000',
        ]
        for bound, part in (("0.002", 0.4), ("0.004", 0.9), ("0.01", 0.99), ("+Inf", 1)):
            lines.append(f'fraud_stage_latency_seconds_bucket{{stage="{stage}",le="{bound}"}} {int(passed * part)}')
    for bound, part in (("0.008", 0.5), ("0.015", 0.93), ("0.03", 0.985), ("0.1", 1), ("+Inf", 1)):
        lines.append(f'fraud_event_to_score_seconds_bucket{{le="{bound}"}} {int(passed * part)}')
    return "\n".join(sorted(lines)) + "\n"


@contextmanager
def metrics_page() -> Iterator[str]:
    """The address of a page with the metrics of all services."""
    began_s = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = _page(began_s).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name in http.server)
            """Not worth a line."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
