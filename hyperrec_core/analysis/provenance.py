"""What a measurement was taken with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any


def stamp() -> dict[str, Any]:
    """What a kept result says of when and where it was measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": versions(),
    }


def key_of(decides: Any, length: int) -> str:
    """A name, of so many hexadecimal digits, that changes with all that decides a result.

    Args:
        decides: plain values.
        length: of the name.
    """
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:length]


def versions() -> dict[str, str]:
    """Of the packages that do the arithmetic."""
    packages = ("hyperrec", "torch", "numpy", "scipy", "cornac", "implicit", "optuna")
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
