"""What a command says when it cannot do its work.

Rule 1. The message names what is wrong and the remedy; no traceback is shown for it.
"""

from __future__ import annotations


class CommandError(Exception):
    """An expected fault. code: the exit code, 1 unless the request itself was impossible (2)."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
