"""Where Kafka's jars are: an unpacked Kafka, its tarball, our cache, or Maven.

Rule 1. A folder of jars is whole or absent: it is filled under another name and renamed.
Rule 2. Two processes that need the jars at once fetch them once.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from adapters.backends.child import last_lines
from adapters.backends.server import BackendMissingError, Say, quietly

VERSION: Final = "4.3.1"
POM: Final = Path(__file__).with_name("kafka_pom.xml")
FETCH_S_MAX: Final = 900.0
REMEDIES: Final = (
    f"install Maven (`apt-get install maven`, `brew install maven`), or unpack Kafka {VERSION} and set KAFKA_HOME to its folder, "
    "or set FRAUD_KAFKA_TARBALL to its .tgz, or set FRAUD_KAFKA_BOOTSTRAP to a running broker"
)


def find_jars(environment: Mapping[str, str] = os.environ, say: Say = quietly) -> Path:
    """The folder with Kafka's jars, fetched when need be. Raises BackendMissingError with the remedies."""
    if home := environment.get("KAFKA_HOME"):
        return _checked(Path(home) / "libs", "KAFKA_HOME")
    if tarball := environment.get("FRAUD_KAFKA_TARBALL"):
        return _filled(lambda folder: _unpack(Path(tarball), folder), environment, say, f"unpacking {tarball}")
    cached = _cache(environment)
    if cached.is_dir():
        return cached
    maven = _maven(environment)
    return _filled(
        lambda folder: _fetch(maven, folder), environment, say, f"fetching Kafka {VERSION} with Maven, 55 MB, once"
    )


def planned_version(environment: Mapping[str, str] = os.environ) -> str:
    """The Kafka version that find_jars would give, nothing fetched. Raises BackendMissingError with the remedies."""
    if home := environment.get("KAFKA_HOME"):
        return jars_version(_checked(Path(home) / "libs", "KAFKA_HOME"))
    if not environment.get("FRAUD_KAFKA_TARBALL") and not _cache(environment).is_dir():
        _maven(environment)
    return VERSION


def _maven(environment: Mapping[str, str]) -> str:
    maven = shutil.which("mvn", path=environment.get("PATH"))
    if maven is None:
        raise BackendMissingError(f"neither Kafka nor Maven is here: {REMEDIES}")
    return maven


def jars_version(folder: Path) -> str:
    """The Kafka version of a folder of jars."""
    found = next(iter(folder.glob("kafka_2.1*.jar")), None)
    named = re.fullmatch(r"kafka_[\d.]+-([\d.]+)\.jar", found.name) if found else None
    return named.group(1) if named else "unknown"


def _cache(environment: Mapping[str, str]) -> Path:
    root = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "fraudstream" / f"kafka-{VERSION}" / "libs"


def _checked(folder: Path, setting: str) -> Path:
    if jars_version(folder) == "unknown":
        raise BackendMissingError(f"{setting} leads to {folder}, which has no kafka_2.13-*.jar: {REMEDIES}")
    return folder


def _filled(fill: Callable[[Path], None], environment: Mapping[str, str], say: Say, doing: str) -> Path:
    """The cache folder, filled by `fill` unless it is there."""
    target = _cache(environment)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(target.parent / "fetching.lock"):
        if target.is_dir():
            return target
        say(doing)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="half-") as half:
            folder = Path(half) / "libs"
            folder.mkdir()
            fill(folder)
            _checked(folder, "the download")
            folder.rename(target)
    return target


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(maven: str, folder: Path) -> None:
    log = folder.parent / "maven.log"
    command = [maven, "--batch-mode", "--file", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=FETCH_S_MAX
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    if code:
        told = "\n  ".join(last_lines(log, 8))
        raise BackendMissingError(
            f"Maven could not fetch Kafka {VERSION} (code {code}):\n  {told}\nInstead: {REMEDIES}"
        )


def _unpack(tarball: Path, folder: Path) -> None:
    try:
        with tarfile.open(tarball) as archive:
            for member in archive:
                path = Path(member.name)
                if member.isfile() and path.parent.name == "libs" and path.suffix == ".jar":
                    source = archive.extractfile(member)
                    assert source is not None, member.name
                    with source, (folder / path.name).open("wb") as jar:
                        shutil.copyfileobj(source, jar)
    except (OSError, tarfile.TarError) as error:
        raise BackendMissingError(f"FRAUD_KAFKA_TARBALL={tarball} cannot be unpacked ({error}): {REMEDIES}") from error
