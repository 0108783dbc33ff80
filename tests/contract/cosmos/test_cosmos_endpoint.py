"""The account, its databases, containers, policies and throughput."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from typing import Any

import pytest
from azure.cosmos import ContainerProxy, CosmosClient, DatabaseProxy, PartitionKey
from azure.cosmos.exceptions import (
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

VECTORS = {
    "vectorEmbeddings": [
        {
            "path": "/vector",
            "dataType": "float32",
            "distanceFunction": "dotproduct",
            "dimensions": 3,
        }
    ]
}


def connect(endpoint: str, key: str, **options: Any) -> CosmosClient:
    return CosmosClient(endpoint, key, enable_endpoint_discovery=False, **options)


def item(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "item_id": name, **fields}


def select(container: ContainerProxy, text: str, **options: Any) -> list[Any]:
    return list(container.query_items(text, enable_cross_partition_query=True, **options))


@pytest.mark.requires("auth")
def test_a_wrong_key_is_401(endpoint: str) -> None:
    wrong = base64.b64encode(b"0" * 64).decode()
    with pytest.raises(CosmosHttpResponseError) as caught:
        list(connect(endpoint, wrong).list_databases())
    assert caught.value.status_code == 401
    assert wrong not in str(caught.value)


@pytest.mark.requires("auth")
def test_a_request_without_a_signature_is_401(endpoint: str, database: DatabaseProxy) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{endpoint.rstrip('/')}/dbs/{database.id}")  # noqa: S310
    assert caught.value.code == 401


@pytest.mark.requires("local")
def test_the_account_names_the_endpoint_the_caller_used(endpoint: str, key: str) -> None:
    other_name = endpoint.replace("127.0.0.1", "localhost")
    account: Any = connect(other_name, key).get_database_account()
    assert account.WritableLocations[0]["databaseAccountEndpoint"] == f"{other_name}/"
    assert account.ConsistencyPolicy["defaultConsistencyLevel"] == "Session"


def test_a_database_exists_once(endpoint: str, key: str, database: DatabaseProxy) -> None:
    client = connect(endpoint, key)
    with pytest.raises(CosmosResourceExistsError):
        client.create_database(database.id)
    assert client.create_database_if_not_exists(database.id).id == database.id
    assert database.id in {each["id"] for each in client.list_databases()}


def test_a_missing_database_or_container_is_404(
    endpoint: str, key: str, database: DatabaseProxy, name: str
) -> None:
    with pytest.raises(CosmosResourceNotFoundError):
        connect(endpoint, key).get_database_client(name).read()
    with pytest.raises(CosmosResourceNotFoundError):
        database.get_container_client(name).read()
    with pytest.raises(CosmosResourceNotFoundError):
        database.get_container_client(name).upsert_item(item(name))


def test_a_container_keeps_its_policies(database: DatabaseProxy, container: ContainerProxy) -> None:
    properties = container.read()
    assert properties["partitionKey"]["paths"] == ["/item_id"]
    assert properties["defaultTtl"] == -1
    excluded = [entry["path"] for entry in properties["indexingPolicy"]["excludedPaths"]]
    assert {"/vector/*", "/hidden/?"} < set(excluded)
    assert "items" in {each["id"] for each in database.list_containers()}
    with pytest.raises(CosmosResourceExistsError):
        database.create_container("items", PartitionKey("/item_id"))


def test_a_container_created_again_is_another(database: DatabaseProxy, name: str) -> None:
    first = database.create_container(name, PartitionKey("/item_id"))
    first.upsert_item(item("a"))
    database.delete_container(name)
    again = database.create_container(name, PartitionKey("/item_id"))
    # The old proxy still has the old resource id and must find its way to the new container.
    with pytest.raises(CosmosResourceNotFoundError):
        first.read_item("a", "a")
    assert select(again, "SELECT * FROM c") == []
    database.delete_container(name)


@pytest.mark.parametrize(
    ("index", "dimensions", "allowed"),
    [
        ("flat", 505, True),
        ("flat", 506, False),
        ("quantizedFlat", 506, True),
        ("diskANN", 4097, False),
    ],
)
@pytest.mark.requires("vector")
def test_vector_indexes_have_limits(
    database: DatabaseProxy,
    indexing: dict[str, Any],
    name: str,
    index: str,
    dimensions: int,
    allowed: bool,
) -> None:
    embedding = VECTORS["vectorEmbeddings"][0] | {"dimensions": dimensions}
    policy = indexing | {"vectorIndexes": [{"path": "/vector", "type": index}]}

    def create() -> dict[str, Any]:
        return database.create_container(
            name,
            PartitionKey("/item_id"),
            indexing_policy=policy,
            vector_embedding_policy={"vectorEmbeddings": [embedding]},
        ).read()

    if allowed:
        assert create()["vectorEmbeddingPolicy"]["vectorEmbeddings"] == [embedding]
        database.delete_container(name)
        return
    with pytest.raises(CosmosHttpResponseError) as caught:
        create()
    assert caught.value.status_code == 400


@pytest.mark.requires("vector")
def test_a_vector_index_needs_a_policy_for_its_path(
    database: DatabaseProxy, indexing: dict[str, Any], name: str
) -> None:
    with pytest.raises(CosmosHttpResponseError) as caught:
        database.create_container(
            name,
            PartitionKey("/item_id"),
            indexing_policy=indexing | {"vectorIndexes": [{"path": "/other", "type": "flat"}]},
            vector_embedding_policy=VECTORS,
        )
    assert caught.value.status_code == 400


@pytest.mark.requires("offers")
def test_throughput_is_kept(database: DatabaseProxy, name: str) -> None:
    container = database.create_container(name, PartitionKey("/item_id"), offer_throughput=800)
    assert container.get_throughput().offer_throughput == 800
    container.replace_throughput(1000)
    assert container.get_throughput().offer_throughput == 1000
    database.delete_container(name)
