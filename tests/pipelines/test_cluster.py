"""The same command on a cluster and over Spark Connect: the outputs of a session here, bit for bit.

The daemons are those of PySpark's jars, on loopback ports of this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pyspark
import pytest

from infra.local.process import Process, free_port, is_free, start
from pipelines.runs import Manifest, Run
from pipelines.stages.preprocess import run_preprocess
from pipelines.start import start_run
from pipelines.storage import Folder
from pipelines.synthesise import CatalogueConfig
from pipelines.synthesise.write import write_catalogue
from tests.support import Place, run_id_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.heavy]  # five more Java processes

LAST_DAY = date(2024, 6, 30)
_BIN = Path(pyspark.__file__).parent / "bin"
# Loopback alone, and as little as does: compiling costs more than it wins.
_DAEMON = (
    "env",
    "SPARK_LOCAL_IP=127.0.0.1",
    "SPARK_DAEMON_MEMORY=128m",
    "SPARK_DAEMON_JAVA_OPTS=-XX:TieredStopAtLevel=1 -Dspark.master.rest.enabled=false",
    f"PYSPARK_PYTHON={sys.executable}",
    "TZ=UTC",
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small shop with dirt: a line that is none and a file that cannot be read."""
    folder = Folder(tmp_path_factory.mktemp("raw"))
    shop = CatalogueConfig(
        users=150, items=120, interactions=4000, days=14, last_day=LAST_DAY, seed=5
    )
    write_catalogue(shop, folder)
    folder.write("interactions/dt=2024-06-20/lines.jsonl", b'{"user_id"\n')
    folder.write("interactions/dt=2024-06-20/truncated.parquet", b"PAR1")
    return folder.url


@pytest.fixture(scope="module")
def here(spark: Any, raw: str, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """What a local session makes of it."""
    run = start_run(source=raw, as_of=LAST_DAY, runs=str(tmp_path_factory.mktemp("runs")))
    return run_preprocess(run)


def preprocess(place: Place, raw: str) -> Manifest:
    """What a command makes of it, in a process of its own."""
    words = ("--input", raw, "--as-of", LAST_DAY.isoformat())
    done = place.hyperrec("preprocess", *words, "--runs", str(place.home / "runs"))
    assert "Traceback" not in done.err
    return Run.open(Folder(place.home / "runs"), run_id_of(done)).require("preprocess")


def outputs(manifest: Manifest) -> dict[str, tuple[str, int | None]]:
    return {output.name: (output.sha256, output.rows) for output in manifest.outputs}


@contextmanager
def daemon(log: Path, port: int, *command: str) -> Iterator[Process]:
    process = start([*_DAEMON, *command], log, dies_with_caller=True)
    try:
        wait_until(lambda: not is_free(port) or not process.alive(), f"nothing listens: {command}")
        assert process.alive(), log.read_text()
        yield process
    finally:
        process.stop(grace=10)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[str]:
    """A standalone master with two workers of one core each."""
    port, log = free_port(), tmp_path / "master.log"
    address = f"spark://127.0.0.1:{port}"
    spark_class = str(_BIN / "spark-class")
    words = ("--host", "127.0.0.1", "--webui-port", "0")
    workers: list[Process] = []
    main = "org.apache.spark.deploy.master.Master"
    with daemon(log, port, spark_class, main, *words, "--port", str(port)):
        try:
            for number in ("0", "1"):
                main = "org.apache.spark.deploy.worker.Worker"
                limits = ("--cores", "1", "--memory", "600m", "--work-dir", str(tmp_path / number))
                command = (*_DAEMON, spark_class, main, *words, *limits, address)
                log_of_worker = tmp_path / f"worker-{number}.log"
                workers.append(start(command, log_of_worker, dies_with_caller=True))
            wait_until(
                lambda: log.read_text().count("Registering worker") == 2, "a worker is missing"
            )
            yield address
        finally:
            for worker in workers:
                worker.stop(grace=10)


def test_a_cluster_of_two_workers_gives_equal_bytes(
    master: str, here: Manifest, raw: str, tmp_path: Path
) -> None:
    place = Place.make(tmp_path / "place").with_settings(
        HYPERREC_SPARK=master, HYPERREC_SPARK_MEMORY="600m", SPARK_LOCAL_IP="127.0.0.1"
    )
    there = preprocess(place, raw)
    assert outputs(there) == outputs(here)
    assert there.metrics == here.metrics
    for worker in ("0", "1"):
        assert list((tmp_path / worker).glob("app-*/*")), f"worker {worker} had no executor"
    wait_until(lambda: not place.processes(), "processes of the command are left")


def test_spark_connect_gives_equal_bytes(here: Manifest, raw: str, tmp_path: Path) -> None:
    port = free_port()
    server = (
        # As the memory of a server, it is the daemon's.
        *("env", "SPARK_DAEMON_MEMORY=700m"),
        *(str(_BIN / "spark-submit"), "--master", "local[2,2]"),
        *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
        *("--conf", "spark.connect.grpc.binding.address=127.0.0.1"),
        *("--conf", f"spark.connect.grpc.binding.port={port}"),
        *("--conf", "spark.ui.enabled=false"),
        *("--conf", "spark.driver.extraJavaOptions=-XX:TieredStopAtLevel=1"),
        *("--conf", "spark.sql.codegen.wholeStage=false"),
        *("--conf", "spark.sql.codegen.factoryMode=NO_CODEGEN"),
    )
    place = Place.make(tmp_path / "place").with_settings(HYPERREC_SPARK=f"sc://127.0.0.1:{port}")
    with daemon(tmp_path / "connect.log", port, *server):
        there = preprocess(place, raw)
    assert outputs(there) == outputs(here)
    assert there.metrics == here.metrics
