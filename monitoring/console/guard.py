"""What stands between a browser and the console.

Rule 1. Only the names of FRAUD_CONSOLE_NAMES are answered: a foreign page that lets its name point here is refused.
Rule 2. A change is a POST that comes from the console's own page (Origin) and carries the session's token.
Rule 3. No script, style or connection but the console's own: `default-src 'self'`.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER: Final = "x-console-token"
BODY_BYTES_MAX: Final = 64 * 1024
POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "img-src 'self' data:"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_READING: Final = frozenset({"GET", "HEAD"})


class Guard:
    """An ASGI application around another. names: under which it may be opened, without port."""

    def __init__(self, app: ASGIApp, names: Sequence[str], token: str) -> None:
        self._app = app
        self._names = frozenset(name.strip().lower() for name in names)
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with a reason."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self.refused_because(scope["method"], headers)
        if refusal is None:
            await self._app(scope, receive, with_headers)
        else:
            await _refuse(with_headers, *refusal)

    def refused_because(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason; None when it may pass."""
        host = headers.get("host", "")
        if _name(host) not in self._names:
            return 421, f"the console is not opened as {host!r}: FRAUD_CONSOLE_NAMES lists the names that it answers to"
        if method in _READING:
            return None
        if method != "POST":
            return 405, "a change is a POST"
        if headers.get("origin", "").partition("://")[2] != host:
            return 403, "this change does not come from the console's own page"
        if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self._token.encode()):
            return 403, "the console was started again since this page was loaded: reload the page"
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            return 413, f"a request has at most {BODY_BYTES_MAX} bytes"
        return None


def new_token() -> str:
    """A secret of this process."""
    return secrets.token_urlsafe(32)


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    name = urlsplit(f"//{host}").hostname or ""
    return f"[{name}]" if ":" in name else name


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
