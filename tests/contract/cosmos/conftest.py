"""What hyperrec needs of Cosmos DB, said with the real SDK.

Without settings the suite starts the local endpoint. With COSMOS_ENDPOINT and COSMOS_KEY it runs
against that account or emulator; COSMOS_CAPABILITIES then names, with commas, what the target has
beyond the basics: `auth`, `batch-etag`, `large`, `offers`, `ttl`, `vector` (an account has all of
these, the official Linux emulator `ttl,vector`). `local` marks what only the local endpoint does.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from azure.cosmos import ContainerProxy, CosmosClient, DatabaseProxy, PartitionKey

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server

EXTERNAL = os.environ.get("COSMOS_ENDPOINT")
CAPABILITIES = (
    set(os.environ.get("COSMOS_CAPABILITIES", "").split(","))
    if EXTERNAL
    else {"auth", "batch-etag", "large", "offers", "ttl", "vector", "local"}
)
INDEXING = {
    "indexingMode": "consistent",
    "includedPaths": [{"path": "/*"}],
    "excludedPaths": [{"path": "/vector/*"}, {"path": "/hidden/?"}],
    "compositeIndexes": [
        [{"path": "/group", "order": "ascending"}, {"path": "/rank", "order": "descending"}]
    ],
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requires(capability): skip where the Cosmos target lacks it"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        if mark.args[0] not in CAPABILITIES:
            pytest.skip(f"the Cosmos target has no {mark.args[0]}")


@pytest.fixture(scope="session")
def key() -> str:
    return os.environ["COSMOS_KEY"] if EXTERNAL else COSMOS_KEY


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if EXTERNAL:
        yield EXTERNAL
        return
    with cosmos_server(tmp_path_factory.mktemp("cosmos")) as url:
        yield url


@pytest.fixture(scope="session")
def database(endpoint: str, key: str) -> Iterator[DatabaseProxy]:
    """A database of this run's own, deleted after it."""
    client = CosmosClient(endpoint, key, enable_endpoint_discovery=False)
    database: Any = client.create_database(f"contract-{uuid.uuid4().hex[:8]}")
    yield database
    client.delete_database(database.id)


@pytest.fixture(scope="session")
def indexing() -> dict[str, Any]:
    """An indexing policy with an excluded property and one composite index."""
    return INDEXING


@pytest.fixture(scope="session")
def container(database: DatabaseProxy, indexing: dict[str, Any]) -> ContainerProxy:
    container: Any = database.create_container(
        "items", PartitionKey("/item_id"), indexing_policy=indexing, default_ttl=-1
    )
    return container  # type: ignore[no-any-return]


@pytest.fixture
def name() -> str:
    """A name no other test uses."""
    return uuid.uuid4().hex[:12]
