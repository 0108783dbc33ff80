"""Sizes and numbers beyond which the service refuses."""

from __future__ import annotations

from typing import Any

import pytest
from azure.cosmos import ContainerProxy
from azure.cosmos.exceptions import CosmosHttpResponseError

from tests.contract.cosmos.account import Account, item, refused

MEGABYTE = 1024 * 1024


@pytest.mark.requires("limits")
def test_an_item_over_two_megabytes_is_413(container: ContainerProxy, name: str) -> None:
    container.upsert_item(item(name, text="x" * (2 * MEGABYTE - 4096)))
    with refused(413):
        container.upsert_item(item(name, text="x" * (2 * MEGABYTE)))
    container.delete_item(name, name)


@pytest.mark.requires("limits")
def test_a_patch_cannot_make_an_item_over_two_megabytes(
    container: ContainerProxy, name: str
) -> None:
    container.upsert_item(item(name, text="x" * MEGABYTE))
    with refused(413):
        container.patch_item(name, name, [{"op": "set", "path": "/more", "value": "y" * MEGABYTE}])
    container.delete_item(name, name)


@pytest.mark.requires("limits")
def test_a_batch_over_two_megabytes_is_413(container: ContainerProxy, name: str) -> None:
    half = [
        ("upsert", ({"id": str(i), "item_id": name, "text": "x" * MEGABYTE},)) for i in range(2)
    ]
    with refused(413):
        container.execute_item_batch(half, partition_key=name)
    assert list(container.query_items("SELECT * FROM c", partition_key=name)) == []


@pytest.mark.requires("limits")
def test_a_batch_has_at_most_a_hundred_operations(container: ContainerProxy, name: str) -> None:
    operations = [("upsert", ({"id": str(i), "item_id": name},)) for i in range(101)]
    with refused(400):
        container.execute_item_batch(operations, partition_key=name)
    container.execute_item_batch(operations[:100], partition_key=name)


@pytest.mark.requires("limits")
@pytest.mark.parametrize("character", ["x", "é", "日"])
def test_an_id_has_at_most_1023_bytes(container: ContainerProxy, name: str, character: str) -> None:
    most = 1023 // len(character.encode())
    longest = character * most
    container.upsert_item({"id": longest, "item_id": name})
    assert container.read_item(longest, name)["id"] == longest
    with refused(400):
        container.upsert_item({"id": character * (most + 1), "item_id": name})


@pytest.mark.requires("errors")
@pytest.mark.parametrize("bad", ["a/b", "a\\b", "a?b", "a#b"])
def test_an_id_with_a_forbidden_character_is_refused(container: ContainerProxy, bad: str) -> None:
    # The SDK itself refuses them before they reach the wire.
    with pytest.raises((CosmosHttpResponseError, ValueError)) as caught:
        container.upsert_item(item(bad))
    assert getattr(caught.value, "status_code", 400) == 400


@pytest.mark.requires("limits")
@pytest.mark.parametrize("bad", ["a/b", "a\\b"])
def test_the_service_refuses_a_forbidden_character_by_itself(
    account: Account, documents: str, bad: str
) -> None:
    headers = {"x-ms-documentdb-partitionkey": '["a"]'}
    assert account.send("POST", documents, {"id": bad, "item_id": "a"}, headers).status == 400


@pytest.mark.requires("limits")
def test_a_partition_key_has_at_most_2048_bytes(container: ContainerProxy, name: str) -> None:
    container.upsert_item({"id": name, "item_id": "k" * 2048})
    assert container.read_item(name, "k" * 2048)["id"] == name
    with refused(400):
        container.upsert_item({"id": name, "item_id": "k" * 2049})


def nested(levels: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"x": value} if kind is dict else [value]
    return value


@pytest.mark.requires("limits")
@pytest.mark.parametrize("kind", [dict, list])
def test_an_item_is_at_most_128_levels_deep(
    container: ContainerProxy, name: str, kind: type
) -> None:
    deep = nested(120, kind)
    container.upsert_item(item(name, deep=deep))
    assert container.read_item(name, name)["deep"] == deep
    for levels in (140, 400):
        with refused(400):
            container.upsert_item(item(name, deep=nested(levels, kind)))
    # Many brackets side by side are not deep.
    container.upsert_item(item(name, wide=[{"a": []}] * 500))


@pytest.mark.requires("ttl")
@pytest.mark.requires("limits")
@pytest.mark.parametrize("ttl", [0, -2, "1", 1.5, 2**31, True, None])
def test_a_ttl_is_checked(container: ContainerProxy, name: str, ttl: Any) -> None:
    with refused(400):
        container.create_item(item(name, ttl=ttl))
    container.create_item(item(name, ttl=2**31 - 1))  # nothing of the refused one is left
