"""Parts of Spark killed in the middle of a task: it is tried again, or told and resumed from.

One file of the input is a named pipe: the task that reads it is in the middle of its work for as
long as nobody has closed the other end.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.runs import Manifest, Run
from pipelines.stages.preprocess import run_preprocess
from pipelines.start import start_run
from pipelines.storage import Folder
from pipelines.synthesise import CatalogueConfig
from pipelines.synthesise.write import write_catalogue
from tests.faults.conftest import LAST_DAY
from tests.support import Child, Place, run_id_of, wait_until

pytestmark = pytest.mark.slow

SHOP = CatalogueConfig(users=60, items=50, interactions=1200, days=14, last_day=LAST_DAY, seed=3)


class Shop:
    """A folder in the raw layout that is read no further than a test lets it.

    Attributes:
        job: words after `hyperrec preprocess`.
        runs: where its run is kept.
        pipe: the file that holds its reader.
    """

    def __init__(self, folder: Path) -> None:
        raw = Folder(folder / "raw")
        write_catalogue(SHOP, raw)
        self.pipe = folder / "raw" / "interactions" / f"dt={LAST_DAY}" / "pipe.csv"
        os.mkfifo(self.pipe)
        self.runs = Folder(folder / "runs")
        self.job = ("--input", raw.url, "--as-of", str(LAST_DAY), "--runs", self.runs.url)

    @contextlib.contextmanager
    def reader(self, place: Place, child: Child) -> Iterator[int]:
        """The worker in the middle of a task, by its process id; it reads on after the block."""
        with contextlib.ExitStack() as held:

            def is_read() -> bool:
                assert child.running(), child.done().err
                with contextlib.suppress(OSError):  # nobody reads yet
                    held.callback(os.close, os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
                    return True
                return False

            wait_until(is_read, "nobody reads the pipe")
            # Woken, the reader still has to be given its end.
            readers: list[int] = []
            wait_until(lambda: readers.extend(self._readers(place)) or readers, "who reads?")
            yield readers[0]

    def _readers(self, place: Place) -> list[int]:
        found = []
        for pid in pids(place, "pyspark"):
            with contextlib.suppress(OSError):  # ended meanwhile
                if self.pipe in [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]:
                    found.append(pid)
        return found

    def let_through(self, child: Child) -> None:
        """Let every reader go on, until the command ends."""

        def ended() -> bool:
            with contextlib.suppress(OSError):
                os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
            return not child.running()

        wait_until(ended, "the command does not end")

    def is_done(self) -> bool:
        return any(blob.name.endswith("/manifest.json") for blob in self.runs.list())


def words_of(pid: int, file: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().split(b"\0")
    except OSError:
        return []  # another's, or ended meanwhile


def pids(place: Place, word: str) -> list[int]:
    """Processes that the commands of a place started, with a word in their command line."""
    mark = f"HYPERREC_HOME={place.settings['HYPERREC_HOME']}".encode()
    numbers = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    ours = [pid for pid in numbers if mark in words_of(pid, "environ")]
    return [pid for pid in ours if word.encode() in b" ".join(words_of(pid, "cmdline"))]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def undisturbed(folder: Path) -> Manifest:
    """What a session of this process makes of the same shop without the pipe, which is empty."""
    raw = Folder(folder / "same")
    write_catalogue(SHOP, raw)
    return run_preprocess(start_run(source=raw.url, as_of=LAST_DAY, runs=str(folder / "expected")))


def outputs(manifest: Manifest) -> dict[str, str]:
    # Quarantine is in no order, and the report names its run's folder.
    other = ("quarantine/", "report.")
    return {o.name: o.sha256 for o in manifest.outputs if not o.name.startswith(other)}


def kill(*victims: int) -> None:
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def fails_when(place: Place, shop: Shop, victims: Callable[[int], list[int]]) -> str:
    """Kill something while a worker, of the given pid, is in a task; what the command says."""
    with place.started("preprocess", *shop.job) as child:
        with shop.reader(place, child) as worker:
            kill(*victims(worker))
        done = child.done()
    assert done.code == 1
    assert "Traceback" not in done.err
    wait_until(lambda: not place.processes(), "processes of the command are left")
    assert not shop.is_done()
    return done.said


def test_in_a_session_of_the_command(spark: object, shop: Shop, tmp_path: Path) -> None:
    place = Place.make(tmp_path / "place")

    said = fails_when(place, shop, lambda worker: pids(place, "SparkSubmit"))

    assert said.startswith("hyperrec: Spark's Java process ended in the middle of the job")
    with place.started("preprocess", *shop.job) as child:
        with shop.reader(place, child) as worker:
            kill(worker)
        shop.let_through(child)
        done = child.done()
    assert done.code == 0, done.err
    manifest = Run.open(shop.runs, run_id_of(done)).require("preprocess")
    assert outputs(manifest) == outputs(undisturbed(tmp_path))


@pytest.mark.heavy
def test_in_a_submitted_child(spark: object, shop: Shop, tmp_path: Path) -> None:
    place = Place.make(tmp_path / "place").with_settings(
        HYPERREC_SPARK="submit", HYPERREC_SPARK_MEMORY="1g", SPARK_CONF_DIR=str(tmp_path)
    )
    # Compiling costs more than it wins.
    (tmp_path / "spark-defaults.conf").write_text(
        "spark.sql.codegen.wholeStage false\nspark.sql.codegen.factoryMode NO_CODEGEN\n"
    )

    said = fails_when(place, shop, lambda worker: pids(place, "SparkSubmit"))

    assert said.startswith("hyperrec: spark-submit was ended by SIGKILL")
    with place.started("preprocess", *shop.job) as child, shop.reader(place, child):
        child.process.kill()
        wait_until(lambda: not place.processes(), "processes of a killed command are left")
    assert not shop.is_done()
    with place.started("preprocess", *shop.job) as child:
        with shop.reader(place, child):
            [java] = pids(place, "SparkSubmit")
            assert b"-Xmx1g" in words_of(java, "cmdline")
        shop.let_through(child)
        done = child.done()
    assert done.code == 0, done.err
    assert "Wrote the histories" in done.err, "the child's log is the command's"
    manifest = Run.open(shop.runs, run_id_of(done)).require("preprocess")
    assert outputs(manifest) == outputs(undisturbed(tmp_path))
