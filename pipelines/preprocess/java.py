"""Java: whether Spark can start, and why it did not."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pipelines.errors import UsageError

_OLDEST_JAVA = 17
_INSTALL_JAVA = (
    f"install Java {_OLDEST_JAVA} or newer (Debian: apt install openjdk-17-jre-headless) or point "
    "JAVA_HOME at one."
)


def require_java() -> str:
    """See that Spark can start.

    Returns:
        What Java says of its version.

    Raises:
        UsageError: there is no Java, or one too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None or not Path(java).exists():
        where = f"JAVA_HOME is {home}, which has no bin/java" if home else "none is on the PATH"
        raise UsageError(f"Spark needs Java and {where}: {_INSTALL_JAVA}")
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    if version is None:
        raise UsageError(f"{java} does not say its version as Java does: {_INSTALL_JAVA}")
    if int(version[1]) < _OLDEST_JAVA:
        raise UsageError(f"{java} is Java {version[1]}, too old for Spark: {_INSTALL_JAVA}")
    return answer.stderr.splitlines()[0]


def complaint(log: IO[bytes]) -> str:
    """The line of a JVM's stderr that says what went wrong; empty when it said nothing."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return next((line for line in lines if "rror" in line), lines[-1] if lines else "")


@contextlib.contextmanager
def stderr_of_the_jvm() -> Iterator[Callable[[], str]]:
    """Start a child with its stderr in an unnamed file, away from the command's own output.

    Yields:
        A function that returns the line that says what went wrong.
    """
    with tempfile.TemporaryFile() as log:
        sys.stderr.flush()
        ours = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield lambda: complaint(log)
        finally:
            os.dup2(ours, 2)
            os.close(ours)
