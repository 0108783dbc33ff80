"""ETags and expiry: what makes an operation depend on when it comes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.cosmos import ContainerProxy, DatabaseProxy, PartitionKey
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosHttpResponseError,
    CosmosResourceNotFoundError,
)

from tests.contract.cosmos.account import Account, item, select

UNCHANGED: dict[str, Any] = {"match_condition": MatchConditions.IfNotModified}
CHANGED: dict[str, Any] = {"match_condition": MatchConditions.IfModified}


def test_every_write_gives_a_new_etag(container: ContainerProxy, name: str) -> None:
    etags = [container.upsert_item(item(name, n=1))["_etag"] for _ in range(3)]
    assert len(set(etags)) == 3
    assert container.read_item(name, name)["_etag"] == etags[-1]


def test_a_replace_with_an_old_etag_is_412(container: ContainerProxy, name: str) -> None:
    old = container.create_item(item(name, n=1))["_etag"]
    new = container.replace_item(name, item(name, n=2), etag=old, **UNCHANGED)
    with pytest.raises(CosmosAccessConditionFailedError):
        container.replace_item(name, item(name, n=3), etag=old, **UNCHANGED)
    read = container.read_item(name, name)
    assert (read["n"], read["_etag"]) == (2, new["_etag"])


@pytest.mark.requires("etag-delete")
def test_a_delete_with_an_old_etag_is_412(container: ContainerProxy, name: str) -> None:
    old = container.create_item(item(name))["_etag"]
    new = container.upsert_item(item(name, n=2))["_etag"]
    with pytest.raises(CosmosAccessConditionFailedError):
        container.delete_item(name, name, etag=old, **UNCHANGED)
    container.delete_item(name, name, etag=new, **UNCHANGED)
    with pytest.raises(CosmosResourceNotFoundError):
        container.read_item(name, name)


def test_an_upsert_with_an_old_etag_is_412(container: ContainerProxy, name: str) -> None:
    old = container.create_item(item(name, n=1))["_etag"]
    new = container.upsert_item(item(name, n=2), etag=old, **UNCHANGED)["_etag"]
    with pytest.raises(CosmosAccessConditionFailedError):
        container.upsert_item(item(name, n=3), etag=old, **UNCHANGED)
    container.upsert_item(item(name, n=4), etag=new, **UNCHANGED)
    assert container.read_item(name, name)["n"] == 4


@pytest.mark.requires("patch")
def test_a_patch_with_an_old_etag_is_412(container: ContainerProxy, name: str) -> None:
    more = [{"op": "incr", "path": "/n", "value": 1}]
    old = container.create_item(item(name, n=1))["_etag"]
    container.patch_item(name, name, more, etag=old, **UNCHANGED)
    with pytest.raises(CosmosAccessConditionFailedError):
        container.patch_item(name, name, more, etag=old, **UNCHANGED)
    assert container.read_item(name, name)["n"] == 2


@pytest.mark.requires("errors")
def test_a_read_with_the_present_etag_is_304(container: ContainerProxy, name: str) -> None:
    etag = container.create_item(item(name))["_etag"]
    # 304 has no body, and the SDK hands over just that.
    assert not container.read_item(name, name, etag=etag, **CHANGED)
    container.upsert_item(item(name, n=1))
    assert container.read_item(name, name, etag=etag, **CHANGED)["n"] == 1


def test_of_concurrent_replaces_with_one_etag_one_wins(
    account: Account, container: ContainerProxy, database: DatabaseProxy, name: str
) -> None:
    old = container.create_item(item(name, n=0))["_etag"]

    async def race() -> list[Any]:
        async with account.connect_async() as client:
            place = client.get_database_client(database.id).get_container_client(container.id)
            replaces = (
                place.replace_item(name, item(name, n=n), etag=old, **UNCHANGED)
                for n in range(1, 9)
            )
            return await asyncio.gather(*replaces, return_exceptions=True)

    results = asyncio.run(race())
    winners = [result for result in results if not isinstance(result, BaseException)]
    losers = [result for result in results if isinstance(result, BaseException)]
    assert len(winners) == 1
    assert all(isinstance(lost, CosmosHttpResponseError) for lost in losers)
    assert {lost.status_code for lost in losers} == {412}  # type: ignore[attr-defined]
    assert container.read_item(name, name)["n"] == winners[0]["n"]


def test_of_concurrent_creates_one_wins(
    account: Account, container: ContainerProxy, database: DatabaseProxy, name: str
) -> None:
    async def race() -> list[Any]:
        async with account.connect_async() as client:
            place = client.get_database_client(database.id).get_container_client(container.id)
            creates = (place.create_item(item(name, n=n)) for n in range(8))
            return await asyncio.gather(*creates, return_exceptions=True)

    results = asyncio.run(race())
    winners = [result for result in results if not isinstance(result, BaseException)]
    losers = [result for result in results if isinstance(result, CosmosHttpResponseError)]
    assert (len(winners), len(losers)) == (1, 7)
    assert {lost.status_code for lost in losers} == {409}


@pytest.fixture
def kinds_of_expiry(database: DatabaseProxy, name: str) -> dict[str, ContainerProxy]:
    """Containers by their default: none, never, one second."""
    key = PartitionKey("/item_id")
    return {
        "none": database.create_container(f"{name}-none", key),
        "never": database.create_container(f"{name}-never", key, default_ttl=-1),
        "second": database.create_container(f"{name}-second", key, default_ttl=1),
    }


@pytest.mark.requires("ttl")
@pytest.mark.requires("query")
def test_items_expire_by_their_own_time_or_the_default(
    database: DatabaseProxy, kinds_of_expiry: dict[str, ContainerProxy]
) -> None:
    expected = {
        "none": {"absent", "never", "second", "later"},
        "never": {"absent", "never", "later"},
        "second": {"never", "later"},
    }
    times: dict[str, dict[str, int]] = {
        "absent": {}, "never": {"ttl": -1}, "second": {"ttl": 1}, "later": {"ttl": 1000},
    }  # fmt: skip
    for container in kinds_of_expiry.values():
        for each, ttl in times.items():
            container.create_item(item(each, **ttl))

    def alive() -> dict[str, set[str]]:
        return {
            kind: set(select(container, "SELECT VALUE c.id FROM c"))
            for kind, container in kinds_of_expiry.items()
        }

    deadline = time.monotonic() + 30
    while alive() != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive() == expected
    second = kinds_of_expiry["second"]
    with pytest.raises(CosmosResourceNotFoundError):
        second.read_item("absent", "absent")
    with pytest.raises(CosmosResourceNotFoundError):
        second.replace_item("absent", item("absent"))
    second.create_item(item("absent", ttl=-1))  # an expired item's place is free
    assert select(second, "SELECT VALUE COUNT(1) FROM c") == [3]
    for container in kinds_of_expiry.values():
        database.delete_container(container.id)
