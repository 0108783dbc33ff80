"""What hyperrec needs of Cosmos DB, said with the real SDK and, where that is in the way, without.

Without settings the suite runs against the local endpoint and, where it is installed
(`npm ci --prefix tests/contract/witness`), against an independent witness. With COSMOS_ENDPOINT
and COSMOS_KEY it runs against that account or emulator; COSMOS_TARGET says which of
`targets.TARGETS` it is (`account` when absent).
"""

from __future__ import annotations

import os
import time
import urllib.error
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.cosmos import ContainerProxy, DatabaseProxy, PartitionKey

from infra.local.process import free_port, start
from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from tests.contract.cosmos import targets
from tests.contract.cosmos.account import Account

INDEXING = {
    "indexingMode": "consistent",
    "includedPaths": [{"path": "/*"}],
    "excludedPaths": [{"path": "/vector/*"}, {"path": "/hidden/?"}],
    "compositeIndexes": [
        [{"path": "/group", "order": "ascending"}, {"path": "/rank", "order": "descending"}]
    ],
}


def pytest_configure(config: pytest.Config) -> None:
    targets.chosen()  # a wrong setting is told once, before anything is collected
    config.addinivalue_line(
        "markers", "requires(capability): runs against the Cosmos targets that have it"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test once for every target of this run."""
    if "target" not in metafunc.fixturenames:
        return
    metafunc.parametrize("target", targets.chosen(), indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what a target cannot do; say so where it is the only target."""
    for each in list(items):
        name = getattr(each, "callspec", None) and each.callspec.params.get("target")  # type: ignore[attr-defined]
        if name not in targets.TARGETS:
            continue
        needed = {str(mark.args[0]) for mark in each.iter_markers("requires")}
        if missing := sorted(needed - targets.TARGETS[name].capabilities):
            if targets.EXTERNAL:
                each.add_marker(pytest.mark.skip(reason=f"{name} has no {', '.join(missing)}"))
            else:
                items.remove(each)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def account(target: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """The account under test, started where it is one of ours."""
    folder = tmp_path_factory.mktemp(target)
    if targets.EXTERNAL:
        url = targets.EXTERNAL.rstrip("/")
        yield Account(target, url, os.environ.get("COSMOS_KEY", COSMOS_KEY))
    elif target == "local":
        with cosmos_server(folder) as url:
            yield Account(target, url, COSMOS_KEY)
    else:
        with _witness(folder) as account:
            yield account


@contextmanager
def _witness(folder: Path) -> Iterator[Account]:
    port = free_port()
    command = ["node", str(targets.WITNESS / "serve.js"), str(port)]
    process = start(command, folder / "witness.log", dies_with_caller=True)
    account = Account("witness", f"http://127.0.0.1:{port}", COSMOS_KEY)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                account.send("GET", "dbs")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.alive(), (folder / "witness.log").read_text()
                assert time.monotonic() < deadline, "the witness does not answer"
                time.sleep(0.05)
        yield account
    finally:
        process.stop(grace=5)


@pytest.fixture(scope="session")
def database(account: Account) -> Iterator[DatabaseProxy]:
    """A database of this run's own, deleted after it."""
    client = account.connect()
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


@pytest.fixture(scope="session")
def documents(database: DatabaseProxy, container: ContainerProxy) -> str:
    """The path of the items of `container` on the wire."""
    return f"dbs/{database.id}/colls/{container.id}/docs"


@pytest.fixture
def name() -> str:
    """A name no other test uses."""
    return uuid.uuid4().hex[:12]


@pytest.fixture(scope="session")
def catalogue(database: DatabaseProxy, indexing: dict[str, Any]) -> ContainerProxy:
    """Forty items in two groups; every fourth has no rank. No test changes them."""
    container: Any = database.create_container(
        "catalogue", PartitionKey("/item_id"), indexing_policy=indexing
    )
    for i in range(40):
        body: dict[str, Any] = {
            "id": f"i{i:02}",
            "item_id": f"i{i:02}",
            "group": "even" if i % 2 == 0 else "odd",
            "tags": ["x", "y", "z"][: i % 4],
            "nested": {"list": [i, {"deep": i}]},
            "order": i,
            "value": "two" if i == 2 else None,
        }
        container.upsert_item(body | ({"rank": i} if i % 4 else {}))
    return container  # type: ignore[no-any-return]
