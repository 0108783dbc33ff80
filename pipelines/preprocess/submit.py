"""Work in a child process of its own: spark-submit, which ends when its caller does.

The memory of Spark is then the child's alone, and what the child is given is what a cluster would
be given. The child speaks over its standard output, one JSON object a line: a line of its log
(`logger`, `level`, `message`), how far it is (`doing`, `done`, `total`, `note`), or the one
sentence that it failed with (`error`, `message`). All else that comes there is Spark's or Java's
and goes to our log at level DEBUG.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyspark.find_spark_home import _find_spark_home

from pipelines import errors
from pipelines.errors import PipelineError, SparkError
from pipelines.preprocess.java import complaint, require_java
from pipelines.preprocess.session import named_error, session_settings
from pipelines.progress import Moved, listening, tell
from pipelines.settings import pin_local_services

log = logging.getLogger(__name__)

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
# Time for Spark to remove its temporary files.
_GRACE_SECONDS = 10.0
# What Spark's JVM ends with when its memory has run out.
_OUT_OF_MEMORY = 52


def submit(application: Path, words: Sequence[str], input_bytes: int) -> None:
    """Run a Python application under spark-submit, to its end.

    However this process ends, the child, its JVM and its Python workers end with it.

    Args:
        application: the file to run; what it does is inside `told`.
        words: its arguments, which anybody on the machine can read: no keys.
        input_bytes: of the raw input.

    Raises:
        UsageError: there is no Java, or one too old for Spark.
        PipelineError: the application failed, with the class and the sentence it failed with; or
            the child was killed.
    """
    pin_local_services()
    require_java()
    settings = [
        word
        for name, value in session_settings("local", input_bytes).items()
        for word in ("--conf", f"{name}={value}")
    ]
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            [Path(_find_spark_home(), "bin", "spark-submit"), *settings, application, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=os.environ | _environment(),
            # A process group of its own, so that Ctrl-C is ours to pass on.
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
        )
        assert child.stdout is not None  # noqa: S101  a pipe was asked for
        try:
            failure, other = _listen(child.stdout)
            code = child.wait()
        finally:
            _end(child)
        if failure is not None:
            raise failure
        if code:
            raise SparkError(_why_it_ended(code, other or complaint(complaints)))


@contextlib.contextmanager
def told() -> Iterator[None]:
    """In an application: its log and its failure go to who submitted it, its end with it.

    Leaves the process with the failure's exit code.
    """
    _die_with_parent()
    logging.basicConfig(handlers=[_Lines()], format="%(message)s")
    logging.getLogger("pipelines").setLevel(logging.DEBUG)
    try:
        with listening(lambda moved: _say(**asdict(moved))):
            yield
    except PipelineError as error:
        traceback.print_exc()
        _say(error=_name_of(error), message=str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        traceback.print_exc()
        _say(error="PipelineError", message=f"unexpected {type(error).__name__}: {error}")
        sys.exit(1)


def _environment() -> dict[str, str]:
    return {
        # In the child it is the session of the process.
        "HYPERREC_SPARK": "local",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        # The application's folder would otherwise come before all libraries.
        "PYTHONSAFEPATH": "1",
    }


def _die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends, however it does."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(lines: Iterable[bytes]) -> tuple[PipelineError | None, str]:
    """Log what the child says, until it says no more.

    Returns:
        The failure that it told, if any, and the last line that is not of ours.
    """
    failure, other = None, ""
    for line in lines:
        match _parse(line):
            case {"error": str(name), "message": str(message)}:
                failure = named_error(name, message)
            case {"logger": str(name), "level": int(level), "message": str(message)}:
                logging.getLogger(name).log(level, "%s", message)
            case {"doing": str(doing), "done": int(done), "total": int(total), "note": str(note)}:
                tell(Moved(doing, done, total, note))
            case _:
                other = line.decode(errors="replace").rstrip() or other
                log.debug("spark-submit: %s", other)
    return failure, other


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _end(child: subprocess.Popen[bytes]) -> None:
    """End what is left of the child's group; its Python workers end with their JVM."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _why_it_ended(code: int, said: str) -> str:
    # A shell's way to tell a signal, and Java's.
    number = -code if code < 0 else code - 128
    if code == _OUT_OF_MEMORY:
        how = "ended because its memory ran out"
    elif number in set(signal.Signals):
        how = f"was ended by {signal.Signals(number).name}, as it is when memory runs out"
    else:
        return (
            f"spark-submit ended with exit code {code} ({said or 'it does not say why'}): run "
            "`hyperrec doctor`."
        )
    return (
        f"spark-submit {how}: give the same command again, which resumes; HYPERREC_SPARK_MEMORY "
        "gives it more."
    )


def _name_of(error: PipelineError) -> str:
    """The nearest of the classes that a parent knows."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _say(logger=record.name, level=record.levelno, message=self.format(record))


def _say(**words: str | int) -> None:
    # One write, so that what a worker prints meanwhile cannot come between.
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()
