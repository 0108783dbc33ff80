"""Java that is not there or too old, and errors of workers, as one sentence each."""

from __future__ import annotations

import os
import stat

import pytest

from pipelines.errors import PipelineError, StorageUnavailableError, UsageError
from pipelines.preprocess.java import require_java
from pipelines.preprocess.session import spark_failures


def java(folder, script):
    path = folder / "bin" / "java"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_no_java_at_all(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UsageError, match="Spark needs Java and none is on the PATH: install Java 17"
    ):
        require_java()


def test_a_java_home_without_java(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"JAVA_HOME is .*, which has no bin/java"):
        require_java()


@pytest.mark.parametrize(("version", "said"), [("1.8.0_392", "Java 8"), ("11.0.22", "Java 11")])
def test_java_too_old(monkeypatch, tmp_path, version, said):
    monkeypatch.setenv("JAVA_HOME", java(tmp_path, f"echo 'openjdk version \"{version}\"' >&2"))
    with pytest.raises(UsageError, match=f"is {said}, too old for Spark"):
        require_java()


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.1", "25-ea"])
def test_java_new_enough(monkeypatch, tmp_path, version):
    monkeypatch.setenv("JAVA_HOME", java(tmp_path, f"echo 'openjdk version \"{version}\"' >&2"))
    require_java()


def test_an_error_of_our_code_on_a_worker_comes_back_as_itself(spark):
    def away(batches):
        yield from batches
        raise StorageUnavailableError("Blob storage did not answer within 1 s; bring it back.")

    told = r"^Blob storage did not .*; bring it back\.$"
    with pytest.raises(StorageUnavailableError, match=told), spark_failures():
        spark.range(3).mapInArrow(away, "id long").collect()


def test_a_worker_that_dies_is_one_sentence(spark):
    def die(batches):
        os._exit(9)

    with pytest.raises(PipelineError) as caught, spark_failures():
        spark.range(3).mapInArrow(die, "id long").collect()
    assert "\n" not in str(caught.value)
    assert "The Spark job failed: Python worker exited unexpectedly" in str(caught.value)
    assert spark.range(3).count() == 3
