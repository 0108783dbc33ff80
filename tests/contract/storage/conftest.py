"""A blob account for the storage tests, and how long a store may be away in them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from infra.local import services
from infra.local.published_keys import AZURITE_KEY
from pipelines.settings import BlobAccount, blob_account, patience_seconds
from pipelines.storage import open_storage


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlobAccount]:
    if "AZURE_STORAGE_CONNECTION_STRING" in os.environ:
        yield blob_account()
    elif not services.azurite_installed():
        pytest.skip("Node or infra/local/node_modules is missing")
    else:
        with services.azurite_server(tmp_path_factory.mktemp("azurite")) as endpoint:
            yield BlobAccount(endpoint, AZURITE_KEY)


@pytest.fixture(scope="session")
def container(account: BlobAccount) -> Iterator[str]:
    """The URL of a container that is not there until somebody writes."""
    name = f"hyperrec-test-{uuid.uuid4().hex[:12]}"
    yield f"az://{name}"
    storage = open_storage(f"az://{name}", account=account)
    for blob in list(storage.list()):
        storage.delete(blob.name)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets how long a store may be away, in seconds."""

    def set_to(seconds: str) -> None:
        monkeypatch.setenv("HYPERREC_PATIENCE_SECONDS", seconds)
        patience_seconds.cache_clear()

    yield set_to
    monkeypatch.undo()
    patience_seconds.cache_clear()
