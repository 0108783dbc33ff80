"""The Spark session, wherever `HYPERREC_SPARK` has it run, and Spark's failures as one sentence.

The result of a job does not depend on the place, so the place is no part of a profile or a run.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.sql import SparkSession

from pipelines import errors
from pipelines.errors import PipelineError, SparkError
from pipelines.preprocess.java import require_java, stderr_of_the_jvm
from pipelines.settings import Environment, patience_seconds, pin_local_services

# spark-submit, and platforms that start Python themselves, hand their JVM over by this variable.
_GIVEN_JVM = "PYSPARK_GATEWAY_PORT"


LARGE_BYTES = 32 << 20
"""Raw input from which on the JVM's second compiler pays: below, the JVM has hardly warmed up when
the job is done. Half a million rows take 45 s of CPU without it and 62 with it; 3.5 million, 157
and 124."""


def spark_session(input_bytes: int = 0) -> SparkSession:
    """The running Spark session, or a new one where `HYPERREC_SPARK` says.

    A JVM that this process starts ends with it, also when it is killed. Python workers of this
    machine inherit this process's environment as it is now, and with it the way to the blob
    account; those of a cluster sign in from their own environment.

    Args:
        input_bytes: of the raw input that a new session is for.

    Raises:
        UsageError: there is no Java, or one too old for Spark.
        PipelineError: Spark does not start, or the cluster does not answer.
    """
    pin_local_services()
    if _is_running():
        running = SparkSession.builder.getOrCreate()
        _tell_workers(running)
        return running
    place = Environment().hyperrec_spark
    if place.startswith("sc://"):
        return _connect(place)
    require_java()
    builder = SparkSession.builder.appName("hyperrec")
    if _GIVEN_JVM in os.environ:
        # Whoever started it has chosen the master, the memory and the addresses.
        settings = _sql_settings()
    else:
        # On a cluster Python may lie elsewhere than here.
        if not is_cluster(place) or "PYSPARK_PYTHON" not in os.environ:
            os.environ["PYSPARK_PYTHON"] = sys.executable
        settings = session_settings(place, input_bytes)
    for name, value in settings.items():
        builder = builder.config(name, value)
    with stderr_of_the_jvm() as said:
        try:
            session = builder.getOrCreate()
        except (PySparkRuntimeError, Py4JError, OSError) as error:
            raise PipelineError(
                f"Spark did not start ({said() or error}): run `hyperrec doctor`."
            ) from error
    session.sparkContext.setLogLevel("OFF")
    # When the JVM dies, the thread that takes its counters would print a traceback.
    session.sparkContext._accumulatorServer.handle_error = _nothing  # type: ignore[assignment]
    _tell_workers(session)
    return session


@contextlib.contextmanager
def session(input_bytes: int = 0) -> Iterator[SparkSession]:
    """A Spark session for a block: the running one, or a new one whose JVM ends with the block.

    `SparkSession.stop` alone would leave the JVM, and its memory, to the end of the process.

    Args:
        input_bytes: as in `spark_session`.

    Raises:
        UsageError: there is no Java, or one too old for Spark.
        PipelineError: Spark does not start, or the cluster does not answer.
    """
    borrowed = _is_running()
    spark = spark_session(input_bytes)
    try:
        yield spark
    finally:
        if not borrowed:
            (_end if _is_running() else _disconnect)(spark)


def _nothing(*_: object) -> None:
    pass


def is_cluster(place: str) -> bool:
    """Whether a value of `HYPERREC_SPARK` is the address of a Spark master."""
    return "://" in place and not place.startswith("sc://")


def _is_running() -> bool:
    # Not getActiveSession, which knows only of the calling thread's.
    return SparkContext._active_spark_context is not None


def _end(spark: SparkSession) -> None:
    gateway = SparkContext._gateway
    with contextlib.suppress(Py4JError, OSError):
        spark.stop()
    # A JVM that was given ends by itself, after this process.
    if gateway is not None and gateway.proc is not None:
        with contextlib.suppress(Py4JError, OSError):
            gateway.shutdown()
        # The JVM ends when its standard input does.
        gateway.proc.stdin.close()
        gateway.proc.wait()
    # A JVM that died cannot be told to stop, and PySpark would go on believing in it.
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = SparkSession._activeSession = None


def _connect(address: str) -> SparkSession:
    """A session of a Spark Connect server; what runs there, and with what memory, is its own."""
    from pyspark.sql.connect.client.retries import DefaultPolicy  # noqa: PLC0415  imports gRPC

    # Warnings that would stand beside our lines: the vocabulary is numbered in one partition.
    for text in (r"\[RETRIES_EXCEEDED\]", "WARN WindowExpression"):
        warnings.filterwarnings("ignore", message=text)
    # Without options nothing is sent yet, and the client would be patient for ten minutes.
    spark = SparkSession.builder.remote(address).create()
    patience = DefaultPolicy(max_retries=3 + round(patience_seconds()), max_backoff=1000)
    spark.client.set_retry_policies([patience])
    try:
        for name, value in _sql_settings().items():
            spark.conf.set(name, value)
    except PySparkException as error:
        _disconnect(spark)
        # The address may hold a token after its semicolon.
        raise PipelineError(
            f"Spark Connect at {address.partition(';')[0]} did not answer ({_summary(str(error))}):"
            " see that its server runs, or set HYPERREC_SPARK to another place."
        ) from error
    return spark


def _disconnect(spark: SparkSession) -> None:
    # The server forgets a session that nobody releases.
    spark.client.set_retry_policies([])
    spark.stop()


def _tell_workers(spark: SparkSession) -> None:
    """Give workers this process's addresses, which may be newer than their session; no keys."""
    for name in ("HYPERREC_HOME", "HYPERREC_PATIENCE_SECONDS", "AZURE_STORAGE_ACCOUNT_URL"):
        # An empty variable counts as none.
        spark.sparkContext.environment[name] = os.environ.get(name, "")


def session_settings(place: str, input_bytes: int) -> dict[str, str]:
    """Spark's settings for a new session.

    Args:
        place: a value of `HYPERREC_SPARK`, but not of Spark Connect, whose server has its own.
        input_bytes: as in `spark_session`.
    """
    if is_cluster(place):
        where = {"spark.master": place}
        if (memory := Environment().hyperrec_spark_memory) is not None:
            where["spark.executor.memory"] = memory
    else:
        where = {
            # A task is tried twice: its Python worker may have been killed.
            "spark.master": "local[*,2]",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
    java = "-Duser.timezone=UTC"
    if input_bytes < LARGE_BYTES:
        java += " -XX:TieredStopAtLevel=1"
    options = {f"spark.{role}.extraJavaOptions": java for role in ("driver", "executor")}
    return where | options | _settings()


def _settings() -> dict[str, str]:
    return {
        "spark.driver.memory": _driver_memory(),
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


def _sql_settings() -> dict[str, str]:
    """What a session that somebody else has started lets one set."""
    return {name: value for name, value in _settings().items() if name.startswith("spark.sql.")}


def _driver_memory() -> str:
    """Unless it is set, half of the machine's memory, between 1 and 4 GB.

    Training runs in the same process.
    """
    if (memory := Environment().hyperrec_spark_memory) is not None:
        return memory
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return f"{max(1024, min(4096, total // 2))}m"


@contextlib.contextmanager
def spark_failures() -> Iterator[None]:
    """Turn what Spark raises into one of our errors with one sentence.

    An error that our code raised on a worker comes back as itself.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise _from_worker(str(error)) or SparkError(
            f"The Spark job failed: {_summary(str(error))}; give the same command again to resume, "
            "with --debug for the whole report."
        ) from error
    # EOFError: it ended while it sent rows.
    except (Py4JError, ConnectionError, EOFError) as error:
        raise SparkError(
            "Spark's Java process ended in the middle of the job, as it does when memory runs "
            "out: give the same command again, which resumes; HYPERREC_SPARK_MEMORY gives it more."
        ) from error


def named_error(name: str, message: str) -> PipelineError:
    """One of our errors by the name of its class; a plain `PipelineError` for any other name."""
    kind = getattr(errors, name, PipelineError)
    found: PipelineError = (kind if issubclass(kind, PipelineError) else PipelineError)(message)
    return found


def _from_worker(report: str) -> PipelineError | None:
    found = re.findall(r"^pipelines\.errors\.(\w+): (.+)$", report, flags=re.MULTILINE)
    return named_error(*found[-1]) if found else None


def _summary(report: str) -> str:
    """The innermost cause in a report that says something, without the class that names it."""
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    named = re.compile(r'(?:Caused by: )?[\w.$]+(?:Error|Exception): (.+)|details = "(.+)"')
    causes = [found[1] or found[2] for line in lines if (found := named.match(line))]
    return (causes[-1:] or lines[:1] or ["no reason given"])[0].rstrip(".")
