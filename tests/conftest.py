"""Fixtures and settings of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# The machine's speed is not what a property is about, and a failure must come again.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("suite")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes by their length: packed ones hold the time, and all processes must name them alike."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first, so that no process is left waiting for another's at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The product's own session, tuned for frames of a few rows: compiling costs more than it wins.

    Its workers learn of the addresses in the environment whenever `spark_session` is called.
    """
    from pipelines.preprocess.session import session  # noqa: PLC0415  only tests of Spark pay

    quick = (
        "--conf spark.sql.codegen.wholeStage=false --conf spark.sql.codegen.factoryMode=NO_CODEGEN"
    )
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"{quick} pyspark-shell"
    with session() as running:
        yield running
