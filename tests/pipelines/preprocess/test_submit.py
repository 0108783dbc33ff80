"""A submitted application and who submitted it, with a spark-submit that starts no Java."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import PipelineError, StorageUnavailableError, UsageError
from pipelines.preprocess.submit import submit
from tests.support import wait_until

TELLING = "import logging, os, signal, sys\nfrom pipelines.preprocess.submit import told\n"
# As the real one: settings before the application, its words after it; all its output in one.
SPARK_SUBMIT = """#!/bin/sh
while [ "$1" = --conf ]; do shift 2; done
exec "$PYSPARK_DRIVER_PYTHON" "$@" 2>&1
"""


@pytest.fixture(autouse=True)
def spark_home(monkeypatch, tmp_path):
    script = tmp_path / "spark" / "bin" / "spark-submit"
    script.parent.mkdir(parents=True)
    script.write_text(SPARK_SUBMIT)
    script.chmod(0o755)
    monkeypatch.setenv("SPARK_HOME", str(tmp_path / "spark"))
    monkeypatch.setenv("HYPERREC_HOME", str(tmp_path / "home"))
    return script


def application(folder: Path, lines: str) -> Path:
    path = folder / "application.py"
    path.write_text(TELLING + lines)
    return path


def failure(folder: Path, lines: str) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        submit(application(folder, lines), [], 0)
    assert "\n" not in str(caught.value)
    return caught.value


def test_its_log_is_our_log(tmp_path, caplog):
    lines = """
with told():
    logging.getLogger("pipelines.preprocess.job").info("Read %d rows.", 7)
    logging.getLogger("pipelines.preprocess.job").warning("Two\\nlines: %s", sys.argv[1:])
    print("what a library prints")
    logging.getLogger("py4j").info("not asked for")
"""
    with caplog.at_level(logging.DEBUG, logger="pipelines"):
        submit(application(tmp_path, lines), ["run", "az://runs"], 0)
    assert [(r.name, r.levelno, r.message) for r in caplog.records] == [
        ("pipelines.preprocess.job", logging.INFO, "Read 7 rows."),
        ("pipelines.preprocess.job", logging.WARNING, "Two\nlines: ['run', 'az://runs']"),
        ("pipelines.preprocess.submit", logging.DEBUG, "spark-submit: what a library prints"),
    ]


@pytest.mark.parametrize("kind", [UsageError, StorageUnavailableError, PipelineError])
def test_its_failure_is_raised_as_itself(kind, tmp_path):
    error = failure(
        tmp_path,
        f"""
from pipelines.errors import {kind.__name__}
with told():
    raise {kind.__name__}("The store is away; bring it back.")
""",
    )
    assert (type(error), str(error)) == (kind, "The store is away; bring it back.")


def test_a_subclass_that_the_parent_does_not_know_is_the_nearest_that_it_does(tmp_path):
    lines = """
from pipelines.preprocess.formats import UnreadableFileError
with told():
    raise UnreadableFileError("a.csv: it is empty")
"""
    assert type(failure(tmp_path, lines)) is PipelineError


def test_a_fault_of_ours_is_a_sentence_too(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, logger="pipelines"):
        error = failure(tmp_path, "with told():\n    [][0]\n")
    assert str(error) == "unexpected IndexError: list index out of range"
    # The whole report is there with --debug.
    assert "Traceback" in caplog.text


def test_an_application_that_does_not_start(tmp_path):
    message = str(failure(tmp_path, "import nothing_of_that_name\n"))
    assert message.startswith("spark-submit ended with exit code 1 (ModuleNotFoundError: No module")
    assert message.endswith("run `hyperrec doctor`.")


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL, as it is when memory runs"),
        ("sys.exit(143)", "was ended by SIGTERM"),
        ("sys.exit(52)", "ended because its memory ran out"),
    ],
)
def test_an_application_that_is_killed(end, how, tmp_path):
    message = str(failure(tmp_path, f"with told():\n    {end}\n"))
    assert message.startswith(f"spark-submit {how}")
    assert "give the same command again, which resumes" in message


def test_nothing_secret_is_among_its_arguments(tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_KEY", "c2VjcmV0")
    lines = """
with told():
    shell = open(f"/proc/{os.getpid()}/cmdline").read()
    assert "c2VjcmV0" not in shell
    assert os.environ["AZURE_STORAGE_KEY"] == "c2VjcmV0", "it signs in by its environment"
    assert os.environ["HYPERREC_SPARK"] == "local"
"""
    submit(application(tmp_path, lines), [], 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_who_submitted_it(number, tmp_path):
    """Interrupted, a caller ends it; terminated or killed, the kernel does."""
    mark = tmp_path / "pid"
    lines = f"""
import pathlib, time
with told():
    pathlib.Path({str(mark)!r} + ".new").write_text(str(os.getpid()))
    os.rename({str(mark)!r} + ".new", {str(mark)!r})
    time.sleep(600)
"""
    call = "import sys, pathlib; from pipelines.preprocess.submit import submit\n"
    call += "submit(pathlib.Path(sys.argv[1]), [], 0)"
    parent = subprocess.Popen(
        [sys.executable, "-c", call, application(tmp_path, lines)], stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: mark.exists() or parent.poll() is not None, "it does not start")
        child = int(mark.read_text())
        parent.send_signal(number)
        parent.wait(120)
        wait_until(lambda: not Path(f"/proc/{child}/cmdline").exists(), "it runs on", seconds=20)
    finally:
        parent.kill()
        parent.wait()
