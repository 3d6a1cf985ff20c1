"""Making a peer runnable: a virtual environment of its requirements.txt, or a jar that Maven builds of its pom.xml.

Rule 1. Made on demand below the harness' folder, once per content of what it is made of; nothing is written beside the sources.
Rule 2. A half-made environment is made again: the file `whole` comes last. Two runs that need one at once make it once.
Rule 3. What is missing (Java, Maven, a package) is a PeerMissingError that names it and the remedy.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from adapters.backends.java import JAVA_MIN, find_java
from adapters.backends.server import Say
from benchmarks.harness.peers import PEERS_FOLDER, Peer

INSTALL_S_MAX: Final = 900
REQUIREMENTS: Final = "requirements.txt"
POM: Final = "pom.xml"
_TOLD_CHARACTERS: Final = 800


class PeerMissingError(RuntimeError):
    """A peer's environment could not be made; the message has the installer's last words."""


def program_of(peer: Peer, folder: Path, say: Say, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The command that runs the peer, its environment made below `folder` when it is not there. Raises PeerMissingError."""
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder / f"{peer.folder}.lock"):
        if (PEERS_FOLDER / peer.folder / POM).exists():
            return _by_maven(peer, folder, say, environment)
        return _by_python(peer, folder, say)


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _by_python(peer: Peer, folder: Path, say: Say) -> tuple[str, ...]:
    source = PEERS_FOLDER / peer.folder
    requirements = source / REQUIREMENTS
    home = folder / f"{peer.folder}-{_digest([requirements], sys.version)}"
    python = str(home / "bin" / "python")
    if not (home / "whole").exists():
        say(f"{peer.name}: making its environment (once)")
        shutil.rmtree(home, ignore_errors=True)
        installer = _uv()
        if installer is not None:
            _run(peer, [installer, "venv", "--quiet", "--python", sys.executable, str(home)])
            _run(peer, [installer, "pip", "install", "--quiet", "--python", python, "-r", str(requirements)])
        else:
            _run(peer, [sys.executable, "-m", "venv", str(home)])
            _run(peer, [python, "-m", "pip", "install", "--quiet", "-r", str(requirements)])
        (home / "whole").touch()
    return (python, *(str(source / word) if word.endswith(".py") else word for word in peer.command))


def _by_maven(peer: Peer, folder: Path, say: Say, environment: Mapping[str, str]) -> tuple[str, ...]:
    source = PEERS_FOLDER / peer.folder
    java = find_java(environment)
    if java is None:
        raise PeerMissingError(
            f"{peer.name}: there is no Java of at least {JAVA_MIN} (JAVA_HOME, PATH): install a JDK "
            "(`apt-get install openjdk-17-jdk-headless`)"
        )
    files = [source / POM, *sorted(path for path in (source / "src").rglob("*") if path.is_file())]
    home = folder / f"{peer.folder}-{_digest(files, str(java.version))}"
    if not (home / "whole").exists():
        maven = shutil.which("mvn", path=environment.get("PATH"))
        if maven is None:
            raise PeerMissingError(
                f"{peer.name}: there is no Maven (mvn) on the PATH: `apt-get install maven`, or leave the peer out with --peers"
            )
        say(f"{peer.name}: building its jar with Maven (once; the first time it fetches 110 MB of libraries)")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for path in files:
            target = home / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        _run(peer, [maven, "--quiet", "--batch-mode", "--file", str(home / POM), "package"])
        (home / "whole").touch()
    return (str(java.path), *peer.command, "-jar", str(home / "target" / "peer.jar"))


def _digest(files: Sequence[Path], made_by: str) -> str:
    told = hashlib.sha256(made_by.encode())
    for path in files:
        told.update(path.name.encode() + b"\0" + path.read_bytes())
    return told.hexdigest()[:12]


def _run(peer: Peer, command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_S_MAX
        )
    except subprocess.TimeoutExpired as error:
        raise PeerMissingError(
            f"{peer.name}: its environment was not made within {INSTALL_S_MAX} s: {command[0]}"
        ) from error
    if done.returncode:
        told = (done.stdout + done.stderr).strip()  # Maven's errors are in its output
        raise PeerMissingError(f"{peer.name}: its environment cannot be made: {told[-_TOLD_CHARACTERS:]}")


def _uv() -> str | None:
    beside = Path(sys.prefix).resolve().parent / ".venv-uv" / "bin" / "uv"
    return shutil.which("uv") or (str(beside) if beside.exists() else None)
