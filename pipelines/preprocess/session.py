"""The Spark session, and Spark's failures as one sentence."""

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

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.sql import SparkSession

from pipelines import errors
from pipelines.errors import PipelineError, UsageError
from pipelines.settings import pin_local_services

_OLDEST_JAVA = 17
_INSTALL_JAVA = (
    f"install Java {_OLDEST_JAVA} or newer (Debian: apt install openjdk-17-jre-headless) or point "
    "JAVA_HOME at one."
)


def spark_session() -> SparkSession:
    """The running Spark session, or a new one on all cores of this machine.

    The JVM ends with this process, also when this process is killed. Python workers inherit this
    process's environment as it is now, and with it the way to the blob account.

    Raises:
        UsageError: there is no Java, or one too old for Spark.
    """
    if (active := SparkSession.getActiveSession()) is not None:
        return active
    _require_java()
    pin_local_services()
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.appName("hyperrec").master("local[*]")
    for name, value in _settings().items():
        builder = builder.config(name, value)
    with _stderr_of_the_jvm() as said:
        try:
            session = builder.getOrCreate()
        except (PySparkRuntimeError, Py4JError, OSError) as error:
            raise PipelineError(
                f"Spark did not start ({said() or error}): run `hyperrec doctor`."
            ) from error
    session.sparkContext.setLogLevel("OFF")
    return session


def _settings() -> dict[str, str]:
    return {
        "spark.driver.memory": f"{_driver_memory_megabytes()}m",
        # C1 alone: the job is over before C2's code would pay for its compilation.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -Duser.timezone=UTC",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.TZ": "UTC",
        "spark.sql.session.timeZone": "UTC",
        # Every shuffle of this job names its partitions; this is for the few it leaves to Spark.
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
    }


def _driver_memory_megabytes() -> int:
    """Half of the machine's memory, between 1 and 4 GB: training runs in the same process."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return max(1024, min(4096, total // 2))


def _require_java() -> None:
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


@contextlib.contextmanager
def _stderr_of_the_jvm() -> Iterator[Callable[[], str]]:
    """Start a child with its stderr in an unnamed file, away from the command's own output.

    Yields:
        A function that returns the last line the child wrote so far.
    """
    with tempfile.TemporaryFile() as log:

        def last_line() -> str:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""

        sys.stderr.flush()
        ours = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield last_line
        finally:
            os.dup2(ours, 2)
            os.close(ours)


@contextlib.contextmanager
def spark_failures() -> Iterator[None]:
    """Turn what Spark raises into one of our errors with one sentence.

    An error that our code raised on a worker comes back as itself.
    """
    try:
        yield
    except PySparkException as error:
        raise _from_worker(str(error)) or PipelineError(
            f"The Spark job failed: {_summary(str(error))}; give the same command again to resume, "
            "with --debug for the whole report."
        ) from error
    except (Py4JError, ConnectionError) as error:
        raise _from_worker(str(error)) or PipelineError(
            "Spark's Java process ended in the middle of the job, as it does when memory runs "
            "out: give the same command again, which resumes."
        ) from error


def _from_worker(report: str) -> PipelineError | None:
    found = re.findall(r"^pipelines\.errors\.(\w+): (.+)$", report, flags=re.MULTILINE)
    if not found:
        return None
    name, message = found[-1]
    kind = getattr(errors, name, PipelineError)
    return kind(message) if issubclass(kind, PipelineError) else None


def _summary(report: str) -> str:
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    return lines[-1 if "Traceback" in report else 0].rstrip(".") if lines else "no reason given"
