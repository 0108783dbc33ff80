"""From blobs to blobs: workers find the account by themselves, and say so when it is away."""

from __future__ import annotations

import os
import uuid

import pytest

from infra.local.services import azurite_installed, azurite_server
from pipelines.errors import StorageUnavailableError
from pipelines.preprocess.config import PreprocessConfig
from pipelines.preprocess.job import preprocess
from pipelines.preprocess.session import spark_session
from pipelines.settings import patience_seconds
from pipelines.storage import open_storage
from tests.pipelines.preprocess.support import AS_OF, at, attempt_in, event, put_days, run_job

ROWS = [
    event(f"u{user}", f"i{(n + user) % 5}", at(n, day=n + 1)) for user in range(3) for n in range(5)
]
CONFIG = PreprocessConfig(split="leave_last_out")


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setenv("HYPERREC_PATIENCE_SECONDS", "1")
    patience_seconds.cache_clear()
    yield
    monkeypatch.undo()
    patience_seconds.cache_clear()


@pytest.mark.skipif(not azurite_installed(), reason="Node or infra/local/node_modules is missing")
@pytest.mark.skipif("AZURE_STORAGE_CONNECTION_STRING" in os.environ, reason="needs its own store")
def test_from_blobs_to_blobs_until_the_store_goes_away(spark, tmp_path, monkeypatch, patience):
    folder = f"az://hyperrec-tests/{uuid.uuid4().hex}"
    with azurite_server(tmp_path) as endpoint:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_URL", endpoint)
        assert spark_session() is spark
        source, runs = open_storage(f"{folder}/raw"), open_storage(f"{folder}/runs")
        put_days(source, ROWS)
        metrics, tables, _ = run_job(spark, source, runs, CONFIG)
        assert (metrics["rows_kept"], metrics["labels"]["test"]) == (15, 3)
        assert tables["histories/test/part-00000.parquet"].num_rows
        listing = list(source.list())
        attempt = attempt_in(runs, source)
    with pytest.raises(StorageUnavailableError, match="did not answer for 1 s; bring it back"):
        preprocess(spark, source.url, listing, AS_OF, CONFIG, 1, attempt)
