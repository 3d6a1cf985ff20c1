"""`fraudstream score FILE`: ask the running API for the score of each transaction of a file, one JSON object a line.

Rule 1. Nothing is written to the stream: it asks what the stream would say if the transaction arrived now.
Rule 2. Answers stand on standard output in the order of the lines; a refused line is an answer with its reason, and in the
        end exit code 1.
Rule 3. A client that is told to wait (429, 503) waits as long as it is told, RETRIES_MAX times a line.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cli.failure import CommandError
from cli.up import running_stack

ANSWER_S_MAX: Final = 10.0
RETRIES_MAX: Final = 20
_REFUSED: Final = (409, 413, 422)


def score(file: str, api: str | None, with_features: bool) -> int:
    """Score every line of the file, `-` for standard input; return the exit code."""
    refused = 0
    with _lines(file) as lines, _connected(api or _running_api()) as connection:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            status, told = _asked(connection, line.strip(), with_features)
            if status == http.client.OK:
                print(json.dumps(told), flush=True)
            elif status in _REFUSED:
                refused += 1
                print(json.dumps({"line": number, "status": status, **told}), flush=True)
            else:
                raise CommandError(f"line {number}: the API answers {status} ({told.get('detail', '')})")
    return 1 if refused else 0


def _running_api() -> str:
    service = running_stack().services.get("scorer_api")
    if service is None or not service.address:
        raise CommandError(
            "the running stack has no API: start it again with `fraudstream up`, or name one with --api URL"
        )
    return service.address


@contextmanager
def _lines(file: str) -> Iterator[Iterable[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        lines = Path(file).read_bytes().splitlines()
    except OSError as error:
        raise CommandError(
            f"{file} cannot be read ({error.strerror}): name a file of one transaction a line, or -", 2
        ) from None
    yield lines


@contextmanager
def _connected(api: str) -> Iterator[http.client.HTTPConnection]:
    parts = urlsplit(api)
    if parts.scheme != "http" or not parts.hostname:
        raise CommandError(f"--api is {api!r}: an address as http://127.0.0.1:8090 is needed", 2)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=ANSWER_S_MAX)
    try:
        yield connection
    finally:
        connection.close()


def _asked(connection: http.client.HTTPConnection, body: bytes, with_features: bool) -> tuple[int, dict[str, object]]:
    for _ in range(RETRIES_MAX):
        try:
            connection.request("POST", f"/score?features={str(with_features).lower()}", body)
            answer = connection.getresponse()
            told = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CommandError(
                f"the API at {connection.host}:{connection.port} does not answer ({error!r}): "
                "`fraudstream status` shows whether it runs"
            ) from None
        wait_s = answer.headers.get("Retry-After")
        if wait_s is None:
            break
        time.sleep(float(wait_s))
    return answer.status, told
