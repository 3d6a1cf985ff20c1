"""What stands between a browser and the console.

Rule 1. Only the names of FRAUD_CONSOLE_NAMES are answered: a foreign page that lets its name point here is refused.
Rule 2. A change is a POST that comes from the console's own page (Origin) and carries the session's token.
Rule 3. Alertmanager's webhook is no page: it comes without an Origin, as JSON, and either with FRAUD_CONSOLE_WEBHOOK_TOKEN or,
        where none is set, from this machine. All that it can do is to be shown.
Rule 4. No script, style or connection but the console's own: `default-src 'self'`.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER: Final = "x-console-token"
BODY_BYTES_MAX: Final = 64 * 1024
WEBHOOK_PATH: Final = "/api/alertmanager"
WEBHOOK_BYTES_MAX: Final = 512 * 1024
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
    """An ASGI application around another. names: under which it may be opened, without port. webhook_token: empty for none."""

    def __init__(self, app: ASGIApp, names: Sequence[str], token: str, webhook_token: str = "") -> None:
        self._webhook_token = webhook_token
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
        if scope["path"] == WEBHOOK_PATH:
            refusal = self.webhook_refused_because(scope["method"], headers, (scope.get("client") or ("",))[0])
        else:
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
        return _too_long(headers, BODY_BYTES_MAX)

    def webhook_refused_because(self, method: str, headers: Headers, client: str) -> tuple[int, str] | None:
        """Status and reason for a message of Alertmanager from an address; None when it may pass."""
        if method != "POST":
            return 405, "the webhook is a POST"
        if "origin" in headers or "sec-fetch-site" in headers:
            return 403, "a browser is not Alertmanager"
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return 415, "the webhook is JSON"
        if self._webhook_token:
            given = headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self._webhook_token}".encode()):
                return 401, "the webhook needs `Authorization: Bearer` with FRAUD_CONSOLE_WEBHOOK_TOKEN"
        elif not _is_loopback(client) or _name(headers.get("host", "")) not in self._names:
            return (
                401,
                "the webhook from another machine needs FRAUD_CONSOLE_WEBHOOK_TOKEN, here and in Alertmanager's receiver",
            )
        return _too_long(headers, WEBHOOK_BYTES_MAX)


def new_token() -> str:
    """A secret of this process."""
    return secrets.token_urlsafe(32)


def _too_long(headers: Headers, bytes_max: int) -> tuple[int, str] | None:
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdecimal() or int(length) > bytes_max:
        return 413, f"a request has at most {bytes_max} bytes"
    return None


def _is_loopback(client: str) -> bool:
    try:
        return ipaddress.ip_address(client).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    name = urlsplit(f"//{host}").hostname or ""
    return f"[{name}]" if ":" in name else name


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
