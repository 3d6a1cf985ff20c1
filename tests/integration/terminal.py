"""A person's terminal: commands of fraudstream in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.backends.ladder import local_description
from adapters.backends.server import BackendMissingError
from cli.services import CODE_FOLDER
from cli.stack_state import StackFolder, StackState
from tests.conftest import missing


@dataclass(frozen=True)
class Terminal:
    """A person's terminal in a folder."""

    folder: Path

    def fraudstream(
        self, *arguments: str, timeout_s: float = 300, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            check=False,
            cwd=self.folder,
            env={**clean, "PYTHONPATH": str(CODE_FOLDER), "FRAUD_BACKEND": "local", **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.fraudstream("status", "--json").stdout)
        return found

    def state(self) -> StackState:
        state = StackFolder(self.folder / ".fraudstream").read()
        assert state is not None
        return state


@contextmanager
def stack_up(folder: Path, **variables: str) -> Iterator[Terminal]:
    """A terminal with a running stack on local servers, ended at exit; or the skip with its reason."""
    for name in ("kafka", "redis"):
        try:
            local_description(name)
        except BackendMissingError as error:
            missing(name, str(error))
    terminal = Terminal(folder)
    up = terminal.fraudstream("up", **variables)
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        assert "Apache Kafka" in up.stdout
        yield terminal
    finally:
        terminal.fraudstream("down")
