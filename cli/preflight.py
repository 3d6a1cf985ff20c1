"""What must hold before a stack is started: a folder that can be written, room on the disk, nothing left of an earlier one.

Rule 1. Each refusal names the setting and the remedy.
Rule 2. Leftovers are processes that an earlier runner wrote down, told from all others by pid and start time.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from adapters.backends.docker_server import docker
from adapters.backends.server import Say
from cli.failure import CommandError
from cli.stack_state import StackFolder

FREE_BYTES_MIN: Final = 1_000_000_000
LEFTOVER_S_MAX: Final = 5.0


def check_folder(path: Path) -> None:
    """Make the state folder; raise CommandError when it cannot be written or the disk is full."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise CommandError(
            f"the state folder {path} cannot be written ({error.strerror}): set FRAUD_STATE_DIR to another", 2
        ) from None
    free = shutil.disk_usage(path).free
    if free < FREE_BYTES_MIN:
        raise CommandError(
            f"only {free / 1e9:.1f} GB are free where {path} is, {FREE_BYTES_MIN / 1e9:.0f} GB are needed: "
            "make room, or set FRAUD_STATE_DIR to a folder on another disk",
            2,
        )


def end_leftovers(folder: StackFolder, say: Say) -> None:
    """End what an earlier runner that died has left running."""
    state = folder.read()
    if state is None:
        return
    for name, identity in state.leftovers():
        if identity.end(LEFTOVER_S_MAX):
            say(f"ended {name} (pid {identity.pid}), left over from a runner that died")
    for container in state.left_containers():
        if docker("rm", "--force", container).stdout.strip():
            say(f"removed container {container}, left over from a runner that died")
