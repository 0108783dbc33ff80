"""What a stage was done with, for its manifest: code, packages, machine and memory."""

from __future__ import annotations

import platform
import resource
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

_PACKAGES = ("hyperrec", "numpy", "torch", "pyspark", "pyarrow", "prefect", "azure-cosmos")


def packages() -> dict[str, str]:
    """Versions of the packages that decide the result; `absent` where one is not installed."""
    return {name: _version(name) for name in _PACKAGES}


def machine() -> str:
    """The kind of machine, its system and Python."""
    return f"{platform.machine()} {platform.system()} Python {platform.python_version()}"


@lru_cache(maxsize=1)
def code_version() -> str:
    """The package's version, with the git revision when it runs from a checkout."""
    version = _version("hyperrec")
    folder = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+{answer.stdout.strip()}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def peak_memory_bytes() -> int:
    """Largest resident set of this process or of any child that has ended, in bytes."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return 1024 * max(own, children)
