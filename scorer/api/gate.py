"""What every request passes: the rate limit before, its count and its latency after.

Rule 1. A request over the limit costs nothing but its refusal: it is answered before anything of it is read.
Rule 2. Every answer has one outcome, by its status; an endpoint may say a nearer one (`say_outcome`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from adapters.telemetry import counter, histogram
from fraud import metrics
from scorer.api.token_buckets import TokenBuckets

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ENDPOINTS: Final = ("/score", "/features", "/healthz", "/openapi.json")
UNLIMITED: Final = "/healthz"
OUTCOMES: Final = {
    200: "answered",
    404: "unknown",
    409: "duplicate",
    413: "too_large",
    429: "rate_limited",
    503: "unavailable",
}
_OUTCOME: Final = "fraudstream.outcome"


def say_outcome(scope: Scope, outcome: str) -> None:
    """Name the outcome of the request that this scope is of."""
    scope[_OUTCOME].append(outcome)


class Gate:
    """The ASGI application around `app`."""

    def __init__(self, app: App, buckets: TokenBuckets, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._buckets = buckets
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        path = str(scope["path"])
        endpoint = next((known for known in ENDPOINTS if path == known or path.startswith(f"{known}/")), "other")
        said: list[str] = []
        scope[_OUTCOME] = said
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            wait_s = 0.0 if endpoint == UNLIMITED else self._buckets.wait_s((scope.get("client") or ("", 0))[0])
            if wait_s:
                await _refuse(wait_s, sent)
            else:
                await self._app(scope, receive, sent)
        finally:
            outcome = said[-1] if said else OUTCOMES.get(status, "refused" if 400 <= status < 500 else "failed")
            counter(metrics.API_REQUESTS_TOTAL).labels(endpoint, outcome).inc()
            histogram(metrics.API_LATENCY_SECONDS).labels(endpoint).observe(self._clock() - began)


async def _refuse(wait_s: float, send: Send) -> None:
    body = msgspec.json.encode({"reason": "RATE_LIMITED", "detail": f"the next request passes in {wait_s:.3f} s"})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(math.ceil(wait_s)).encode()),
    ]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": body})
