"""The trainer's own HTTP, on its metrics port: see the runs, watch them, ask for one.

    GET  /runs?limit=50       {"runs": [...]}, newest first; fields as adapters.run_history.TrainingRun
    GET  /runs/events         server-sent events: one `data:` line with a run as JSON whenever one changes, the newest first
                              at the beginning; a comment every 15 s. A console shows a bar by it:
                              new EventSource("/runs/events").onmessage = e => show(JSON.parse(e.data))  // .stage .percent .detail
    POST /retrain             body {} or {"as_of_ms": 1533686400000, "why": "..."}; 202 with the run, 409 with it when refused

Rule 1. A page of another site cannot ask: a POST needs `Content-Type: application/json`, a Host that is this machine's
        loopback, and no Origin but its own. Whoever comes from elsewhere, or by another name, needs FRAUD_TRAINER_TOKEN.
Rule 2. What is asked for is done by the service's thread (TrainService.ask); this one only waits for the answer.
Rule 3. An event stream ends when its reader goes; EVENT_READERS_MAX at once.
"""

from __future__ import annotations

import hmac
import http
import ipaddress
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from adapters.run_history import TrainingRun, read_runs
from fraud.control import Retrain, parse_control_request
from fraud.dead_letters import BadMessageError

BODY_MAX: Final = 4096
ANSWER_S_MAX: Final = 10.0
LIMIT_MAX: Final = 1000
EVENT_READERS_MAX: Final = 16
EVENT_RUNS: Final = 20
EVENT_LOOK_S: Final = 0.5
EVENT_COMMENT_S: Final = 15.0
_LOCAL_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /retrain`."""

    as_of_ms: int | None = None
    why: str = ""


class RefusedError(Exception):
    """A request that is not served: status and reason."""

    def __init__(self, status: http.HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Door:
    """Answers requests. ask: hands a training in. token: empty for none."""

    def __init__(
        self,
        history: Path,
        ask: Callable[[Retrain], Future[TrainingRun]],
        token: str,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._history = history
        self._ask = ask
        self._token = token
        self._wall_ms = wall_ms
        self._readers = threading.Semaphore(EVENT_READERS_MAX)

    def __call__(self, request: BaseHTTPRequestHandler) -> bool:
        """Answer a request; False when it is for none of the door's paths."""
        url = urlsplit(request.path)
        served = {
            "/runs": ("GET", self._runs),
            "/runs/events": ("GET", self._events),
            "/retrain": ("POST", self._retrain),
        }
        if url.path not in served:
            return False
        method, serve = served[url.path]
        try:
            if request.command != method:
                raise RefusedError(http.HTTPStatus.METHOD_NOT_ALLOWED, f"{url.path} is asked with {method}")
            self._admit(request)
            serve(request, parse_qs(url.query))
        except RefusedError as error:
            _answer(request, error.status, {"error": str(error)})
        return True

    def _admit(self, request: BaseHTTPRequestHandler) -> None:
        given = request.headers.get("Authorization", "")
        if self._token and hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return
        host = urlsplit(f"//{request.headers.get('Host', '')}")
        origin = request.headers.get("Origin")
        if not ipaddress.ip_address(request.client_address[0]).is_loopback or host.hostname not in _LOCAL_NAMES:
            raise RefusedError(
                http.HTTPStatus.UNAUTHORIZED,
                "from another machine, or by another name, `Authorization: Bearer` with FRAUD_TRAINER_TOKEN is needed",
            )
        if request.command == "POST" and self._token:
            raise RefusedError(
                http.HTTPStatus.UNAUTHORIZED, "`Authorization: Bearer` with FRAUD_TRAINER_TOKEN is needed"
            )
        if origin is not None and urlsplit(origin).netloc != host.netloc:
            raise RefusedError(http.HTTPStatus.FORBIDDEN, f"a page of {origin} may not ask this trainer")

    def _runs(self, request: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        text = query.get("limit", ["50"])[-1]
        if not text.isdecimal() or not 1 <= int(text) <= LIMIT_MAX:
            raise RefusedError(http.HTTPStatus.BAD_REQUEST, f"limit is {text!r}, 1 .. {LIMIT_MAX} is expected")
        _answer(request, http.HTTPStatus.OK, {"runs": read_runs(self._history, int(text))})

    def _retrain(self, request: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        if request.headers.get_content_type() != "application/json":
            raise RefusedError(http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send `Content-Type: application/json`")
        try:
            size = int(request.headers.get("Content-Length", ""))
        except ValueError:
            raise RefusedError(http.HTTPStatus.LENGTH_REQUIRED, "send Content-Length") from None
        if not 0 <= size <= BODY_MAX:
            raise RefusedError(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {BODY_MAX} bytes")
        try:
            asked = msgspec.json.decode(request.rfile.read(size) or b"{}", type=Asked)
            retrain = Retrain(f"http-{uuid.uuid4().hex[:12]}", self._wall_ms(), asked.as_of_ms, "person", asked.why)
            parse_control_request(retrain.to_json())
        except (msgspec.DecodeError, BadMessageError) as error:
            raise RefusedError(http.HTTPStatus.BAD_REQUEST, f"no request for a training: {error}") from None
        try:
            run = self._ask(retrain).result(ANSWER_S_MAX)
        except TimeoutError:
            raise RefusedError(http.HTTPStatus.SERVICE_UNAVAILABLE, "the trainer does not answer: ask again") from None
        _answer(request, http.HTTPStatus.CONFLICT if run.state == "failed" else http.HTTPStatus.ACCEPTED, run)

    def _events(self, request: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        if not self._readers.acquire(blocking=False):
            raise RefusedError(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{EVENT_READERS_MAX} readers watch already")
        try:
            request.send_response(http.HTTPStatus.OK)
            request.send_header("Content-Type", "text/event-stream")
            request.send_header("Cache-Control", "no-store")
            request.end_headers()
            self._stream(request)
        except OSError:
            pass  # the reader has gone
        finally:
            self._readers.release()

    def _stream(self, request: BaseHTTPRequestHandler) -> None:
        told: dict[str, TrainingRun] = {}
        said_s, pause = time.monotonic(), threading.Event()
        while True:
            runs = read_runs(self._history, EVENT_RUNS)
            news = [run for run in reversed(runs) if told.get(run.request_id) != run]
            told = {run.request_id: run for run in runs}
            for run in news:
                request.wfile.write(b"data: " + msgspec.json.encode(run) + b"\n\n")
            if not news and time.monotonic() - said_s > EVENT_COMMENT_S:
                request.wfile.write(b": still here\n\n")
            if news or time.monotonic() - said_s > EVENT_COMMENT_S:
                request.wfile.flush()
                said_s = time.monotonic()
            pause.wait(EVENT_LOOK_S)


def _answer(request: BaseHTTPRequestHandler, status: http.HTTPStatus, content: Any) -> None:
    body = msgspec.json.encode(content)
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
