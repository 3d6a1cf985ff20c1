"""Where the services' metrics pages are.

Rule 1. What the settings name wins; else it is what the runner says in stack.json, asked again at every look, for a service
        may be started again elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from monitoring.settings import ConsoleSettings

STACK_FILE: Final = (
    "stack.json"  # the runner writes it; its name and the field `services` are the contract between the two
)
_PRODUCER: Final = ("producer", "127.0.0.1:9105")  # started by a person or the demo, on this port when it is free


class _Service(msgspec.Struct):
    port: int
    state: str = ""
    detail: str = ""
    restarts: int = 0


class _Stack(msgspec.Struct):
    services: dict[str, _Service] = {}


class TargetsError(ValueError):
    """FRAUD_CONSOLE_TARGETS cannot be read; the message says what is expected."""


def parse_targets(text: str) -> dict[str, str]:
    """Addresses by service. Raises TargetsError.

    >>> parse_targets("scorer=scorer:9102, watch=watch:9107")
    {'scorer': 'scorer:9102', 'watch': 'watch:9107'}
    """
    found: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, address = part.partition("=")
        host, _, port = address.rpartition(":")
        if not (name and equals and host and port.isdecimal()):
            raise TargetsError(f"FRAUD_CONSOLE_TARGETS: {part!r} is not name=host:port")
        found[name] = address
    return found


class Targets:
    """The pages of one stack."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._given = parse_targets(settings.console_targets)
        self._file: Path = settings.state_dir / STACK_FILE

    def now(self) -> dict[str, str]:
        """Addresses by service, as of now."""
        if self._given:
            return self._given
        try:
            stack = msgspec.json.decode(self._file.read_bytes(), type=_Stack)
        except (OSError, msgspec.DecodeError):
            return {}
        return {name: f"127.0.0.1:{one.port}" for name, one in stack.services.items()} | dict([_PRODUCER])
