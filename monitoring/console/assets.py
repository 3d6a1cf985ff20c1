"""The console's own files: read once, compressed once, answered from memory.

Rule 1. What is not in static/ at the start is not served: no path of a request ever reaches the disk.
Rule 2. A file is known by its hash: a browser that has it gets 304.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Request, Response

STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file. compressed: by gzip."""

    content: bytes
    compressed: bytes
    media_type: str
    tag: str

    def answer(self, request: Request) -> Response:
        """The file, or that the browser has it."""
        headers = {"etag": self.tag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            return Response(self.compressed, headers=headers, media_type=self.media_type)
        return Response(self.content, headers=headers, media_type=self.media_type)


def read_assets(root: Path = STATIC) -> dict[str, Asset]:
    """Every file below a folder that a browser may have, by its path there."""
    return {
        path.relative_to(root).as_posix(): _asset(path) for path in sorted(root.rglob("*")) if path.suffix in _TYPES
    }


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return Asset(content, gzip.compress(content, 9, mtime=0), _TYPES[path.suffix], tag)
