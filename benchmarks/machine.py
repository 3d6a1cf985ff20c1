"""The machine that a benchmark ran on, for the line under its numbers."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def machine(*packages: str) -> str:
    """The processor, its CPUs, and the versions of Python and of these packages."""
    versions = [f"{name} {version(name)}" for name in packages]
    return ", ".join([processor(), f"{os.cpu_count()} CPUs", f"Python {platform.python_version()}", *versions])


def processor() -> str:
    """Its name as Linux has it, else what Python knows of it."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
