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

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkContext
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
    pin_local_services()
    if _is_running():
        running = SparkSession.builder.getOrCreate()
        _tell_workers(running)
        return running
    require_java()
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
    _tell_workers(session)
    return session


@contextlib.contextmanager
def session() -> Iterator[SparkSession]:
    """A Spark session for a block: the running one, or a new one whose JVM ends with the block.

    `SparkSession.stop` alone would leave the JVM, and its memory, to the end of the process.

    Raises:
        UsageError: there is no Java, or one too old for Spark.
    """
    borrowed = _is_running()
    spark = spark_session()
    try:
        yield spark
    finally:
        if not borrowed:
            _end(spark)


def _is_running() -> bool:
    # Not getActiveSession, which knows only of the calling thread's.
    return SparkContext._active_spark_context is not None


def _end(spark: SparkSession) -> None:
    gateway = SparkContext._gateway
    with contextlib.suppress(Py4JError, OSError):
        spark.stop()
    if gateway is not None:
        with contextlib.suppress(Py4JError, OSError):
            gateway.shutdown()
        # The JVM ends when its standard input does.
        gateway.proc.stdin.close()
        gateway.proc.wait()
    # A JVM that died cannot be told to stop, and PySpark would go on believing in it.
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = SparkSession._activeSession = None


def _tell_workers(spark: SparkSession) -> None:
    """Give workers this process's addresses, which may be newer than their session; no keys."""
    for name in ("HYPERREC_HOME", "HYPERREC_PATIENCE_SECONDS", "AZURE_STORAGE_ACCOUNT_URL"):
        # An empty variable counts as none.
        spark.sparkContext.environment[name] = os.environ.get(name, "")


def _settings() -> dict[str, str]:
    return {
        "spark.driver.memory": f"{_driver_memory_megabytes()}m",
        # A cold JVM is most of a small night: C1 alone takes 45 s of CPU for half a million rows
        # where C2 takes 62.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -Duser.timezone=UTC",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.TZ": "UTC",
        "spark.sql.session.timeZone": "UTC",
        # Every shuffle of this job names its partitions; this is for the few it leaves to Spark.
        "spark.sql.shuffle.partitions": "4",
        # With its plans left open, a cached frame forgets how it is partitioned and the histories
        # would be shuffled again.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
    }


def _driver_memory_megabytes() -> int:
    """Half of the machine's memory, between 1 and 4 GB: training runs in the same process."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return max(1024, min(4096, total // 2))


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


@contextlib.contextmanager
def _stderr_of_the_jvm() -> Iterator[Callable[[], str]]:
    """Start a child with its stderr in an unnamed file, away from the command's own output.

    Yields:
        A function that returns the line that says what went wrong.
    """
    with tempfile.TemporaryFile() as log:

        def reason() -> str:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            return next((line for line in lines if "rror" in line), lines[-1] if lines else "")

        sys.stderr.flush()
        ours = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield reason
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
    except (PySparkException, Py4JJavaError) as error:
        raise _from_worker(str(error)) or PipelineError(
            f"The Spark job failed: {_summary(str(error))}; give the same command again to resume, "
            "with --debug for the whole report."
        ) from error
    except (Py4JError, ConnectionError) as error:
        raise PipelineError(
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
    """The innermost cause in a report that says something, without the class that names it."""
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    named = re.compile(r"(?:Caused by: )?[\w.$]+(?:Error|Exception): (.+)")
    causes = [found[1] for line in lines if (found := named.match(line))]
    return (causes[-1:] or lines[:1] or ["no reason given"])[0].rstrip(".")
