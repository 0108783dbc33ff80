"""What a measurement was taken with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path


def versions() -> dict[str, str]:
    """Of the packages that do the arithmetic."""
    packages = ("hyperrec", "torch", "numpy", "scipy", "implicit", "optuna")
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in packages}}


def hardware() -> str:
    """The processor and how many cores of it there are."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text("utf-8").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = named[0] if named else name
    return f"{name}, {os.cpu_count()} cores"
