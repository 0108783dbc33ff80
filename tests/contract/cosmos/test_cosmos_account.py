"""The account, its databases, containers, policies and throughput."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from typing import Any

import pytest
from azure.cosmos import ContainerProxy, DatabaseProxy, PartitionKey
from azure.cosmos.exceptions import CosmosResourceExistsError, CosmosResourceNotFoundError

from tests.contract.cosmos.account import Account, item, parameters, refused, select

KEY = PartitionKey("/item_id")


@pytest.mark.requires("auth")
def test_a_wrong_key_is_401(account: Account) -> None:
    wrong = base64.b64encode(b"0" * 64).decode()
    with refused(401) as caught:
        list(account.connect(key=wrong).list_databases())
    assert wrong not in str(caught.value)


@pytest.mark.requires("auth")
def test_a_request_without_a_signature_is_401(account: Account, database: DatabaseProxy) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{account.url}/dbs/{database.id}")  # noqa: S310
    assert caught.value.code == 401


@pytest.mark.requires("auth")
def test_a_signature_is_for_its_own_date(account: Account, database: DatabaseProxy) -> None:
    headers = {"x-ms-date": "Thu, 01 Jan 2015 00:00:00 GMT"}
    assert account.send("GET", f"dbs/{database.id}", headers=headers).status == 401


@pytest.mark.requires("auth")
def test_a_signature_lasts_fifteen_minutes(account: Account, database: DatabaseProxy) -> None:
    path = f"dbs/{database.id}"
    assert account.send("GET", path, seconds_ago=10 * 60).status == 200
    assert account.send("GET", path, seconds_ago=30 * 60).status == 403


@pytest.mark.requires("local")
def test_the_account_names_the_endpoint_the_caller_used(account: Account) -> None:
    other = Account("local", account.url.replace("127.0.0.1", "localhost"), account.key)
    found: Any = other.connect().get_database_account()
    assert found.WritableLocations[0]["databaseAccountEndpoint"] == f"{other.url}/"
    assert found.ConsistencyPolicy["defaultConsistencyLevel"] == "Session"


def test_a_database_exists_once(account: Account, database: DatabaseProxy) -> None:
    client = account.connect()
    with pytest.raises(CosmosResourceExistsError):
        client.create_database(database.id)
    assert client.create_database_if_not_exists(database.id).id == database.id


@pytest.mark.requires("feeds")
def test_databases_and_containers_are_listed(
    account: Account, database: DatabaseProxy, container: ContainerProxy
) -> None:
    assert database.id in {each["id"] for each in account.connect().list_databases()}
    assert container.id in {each["id"] for each in database.list_containers()}
    found = database.query_containers(
        "SELECT * FROM c WHERE c.id = @id", parameters=parameters(id=container.id)
    )
    assert [each["id"] for each in found] == [container.id]


def test_a_missing_database_or_container_is_404(
    account: Account, database: DatabaseProxy, name: str
) -> None:
    with pytest.raises(CosmosResourceNotFoundError):
        account.connect().get_database_client(name).read()
    with pytest.raises(CosmosResourceNotFoundError):
        database.get_container_client(name).read()
    with pytest.raises(CosmosResourceNotFoundError):
        database.get_container_client(name).upsert_item(item(name))


def test_a_container_keeps_its_key_and_expiry(container: ContainerProxy) -> None:
    properties = container.read()
    assert properties["partitionKey"]["paths"] == ["/item_id"]
    assert properties["defaultTtl"] == -1


@pytest.mark.requires("indexing")
def test_a_container_keeps_its_indexing_policy(container: ContainerProxy) -> None:
    policy = container.read()["indexingPolicy"]
    excluded = [entry["path"] for entry in policy["excludedPaths"]]
    assert {"/vector/*", "/hidden/?"} < set(excluded)
    assert [entry["path"] for entry in policy["compositeIndexes"][0]] == ["/group", "/rank"]


def test_a_container_exists_once(database: DatabaseProxy, container: ContainerProxy) -> None:
    with pytest.raises(CosmosResourceExistsError):
        database.create_container(container.id, KEY)
    assert database.create_container_if_not_exists(container.id, KEY).id == container.id


@pytest.mark.requires("errors")
def test_a_container_created_again_is_another(database: DatabaseProxy, name: str) -> None:
    first = database.create_container(name, KEY)
    first.upsert_item(item("a"))
    database.delete_container(name)
    again = database.create_container(name, KEY)
    # The old proxy still has the old resource id and must find its way to the new container.
    with pytest.raises(CosmosResourceNotFoundError):
        first.read_item("a", "a")
    assert list(again.read_all_items()) == []
    database.delete_container(name)


def test_a_deleted_container_is_gone(database: DatabaseProxy, name: str) -> None:
    database.create_container(name, KEY)
    database.delete_container(name)
    with pytest.raises(CosmosResourceNotFoundError):
        database.delete_container(name)


@pytest.mark.requires("limits")
@pytest.mark.parametrize("bad", ["a/b", "a#b", "a?b", "x" * 256])
def test_names_that_have_no_address_are_refused(
    account: Account, database: DatabaseProxy, bad: str
) -> None:
    body = {"id": bad, "partitionKey": {"paths": ["/item_id"], "kind": "Hash", "version": 2}}
    assert account.send("POST", f"dbs/{database.id}/colls", body).status == 400


@pytest.mark.requires("replace-container")
def test_a_replaced_container_keeps_its_items(database: DatabaseProxy, name: str) -> None:
    container = database.create_container(name, KEY)
    container.upsert_item(item("a", n=1))
    database.replace_container(name, KEY, default_ttl=3600)
    assert container.read()["defaultTtl"] == 3600
    assert container.read_item("a", "a")["n"] == 1
    database.delete_container(name)


@pytest.mark.requires("replace-container")
def test_a_partition_key_is_for_ever(database: DatabaseProxy, name: str) -> None:
    database.create_container(name, KEY)
    with refused(400):
        database.replace_container(name, PartitionKey("/other"))
    database.delete_container(name)


@pytest.mark.requires("query")
def test_the_ranges_of_a_container_can_be_read(container: ContainerProxy) -> None:
    assert len(list(container.read_feed_ranges())) >= 1


@pytest.mark.requires("indexing")
@pytest.mark.parametrize(
    "policy",
    [
        {"includedPaths": [{"path": "/a/?"}], "excludedPaths": []},
        {"includedPaths": [{"path": "a"}]},
        {"includedPaths": [{"path": "/*"}], "compositeIndexes": [[{"path": "/a"}]]},
        {
            "includedPaths": [{"path": "/*"}],
            "compositeIndexes": [[{"path": "/a/*"}, {"path": "/b"}]],
        },
    ],
)
def test_an_indexing_policy_is_checked(
    database: DatabaseProxy, name: str, policy: dict[str, Any]
) -> None:
    with refused(400):
        database.create_container(name, KEY, indexing_policy=policy)


@pytest.mark.requires("limits")
@pytest.mark.parametrize("ttl", [0, -2, 2**31])
def test_a_default_expiry_is_checked(
    account: Account, database: DatabaseProxy, name: str, ttl: int
) -> None:
    body = {
        "id": name,
        "partitionKey": {"paths": ["/item_id"], "kind": "Hash", "version": 2},
        "defaultTtl": ttl,
    }
    assert account.send("POST", f"dbs/{database.id}/colls", body).status == 400


@pytest.mark.requires("offers")
def test_throughput_is_kept(database: DatabaseProxy, name: str) -> None:
    container = database.create_container(name, KEY, offer_throughput=800)
    assert container.get_throughput().offer_throughput == 800
    container.replace_throughput(1000)
    assert container.get_throughput().offer_throughput == 1000
    database.delete_container(name)


@pytest.mark.requires("offers")
@pytest.mark.parametrize("units", [100, 450])
def test_throughput_is_at_least_400_in_hundreds(
    database: DatabaseProxy, name: str, units: int
) -> None:
    with refused(400):
        database.create_container(name, KEY, offer_throughput=units)


@pytest.mark.requires("local")
def test_a_throughput_bucket_is_one_of_five(container: ContainerProxy, name: str) -> None:
    container.upsert_item(item(name), throughput_bucket=2)
    with refused(400):
        container.upsert_item(item(name), throughput_bucket=6)


@pytest.mark.requires("query")
def test_a_new_container_is_empty(database: DatabaseProxy, name: str) -> None:
    container = database.create_container(name, KEY)
    assert select(container, "SELECT VALUE COUNT(1) FROM c") == [0]
    database.delete_container(name)
