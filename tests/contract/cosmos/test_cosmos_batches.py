"""Transactional batches."""

from __future__ import annotations

from typing import Any

import pytest
from azure.cosmos import ContainerProxy
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosResourceNotFoundError

from tests.contract.cosmos.account import Account

pytestmark = pytest.mark.requires("batch")


def part(name: str, item_id: str, **fields: Any) -> dict[str, Any]:
    """One of several items of one partition."""
    return {"id": item_id, "item_id": name, **fields}


def ids(container: ContainerProxy, name: str) -> list[str]:
    found: Any = container.query_items("SELECT VALUE c.id FROM c", partition_key=name)
    return sorted(found)


def test_a_batch_is_done_whole(container: ContainerProxy, name: str) -> None:
    results = container.execute_item_batch(
        [
            ("create", (part(name, "a"),)),
            ("upsert", (part(name, "b", n=1),)),
            ("patch", ("b", [{"op": "incr", "path": "/n", "value": 1}])),
            ("read", ("b",)),
            ("replace", ("b", part(name, "b", n=9))),
            ("delete", ("a",)),
        ],
        partition_key=name,
    )
    assert [result["statusCode"] for result in results] == [201, 201, 200, 200, 200, 204]
    assert results[3]["resourceBody"]["n"] == 2
    assert results[4]["eTag"] == container.read_item("b", name)["_etag"]
    assert ids(container, name) == ["b"]


def test_a_batch_that_fails_does_nothing(container: ContainerProxy, name: str) -> None:
    container.create_item(part(name, "there"))
    with pytest.raises(CosmosBatchOperationError) as caught:
        container.execute_item_batch(
            [
                ("create", (part(name, "new"),)),
                ("create", (part(name, "there"),)),
                ("read", ("there",)),
            ],
            partition_key=name,
        )
    assert caught.value.error_index == 1
    codes = [response["statusCode"] for response in caught.value.operation_responses]
    assert codes == [424, 409, 424]
    with pytest.raises(CosmosResourceNotFoundError):
        container.read_item("new", name)


def test_a_batch_undoes_deletes_and_patches(container: ContainerProxy, name: str) -> None:
    for each in ("a", "b"):
        container.create_item(part(name, each, n=1))
    with pytest.raises(CosmosBatchOperationError) as caught:
        container.execute_item_batch(
            [
                ("delete", ("a",)),
                ("patch", ("b", [{"op": "set", "path": "/n", "value": 2}])),
                ("replace", ("absent", part(name, "absent"))),
            ],
            partition_key=name,
        )
    assert caught.value.error_index == 2
    assert caught.value.operation_responses[2]["statusCode"] == 404
    assert ids(container, name) == ["a", "b"]
    assert container.read_item("b", name)["n"] == 1


@pytest.mark.requires("batch-etag")
def test_a_batch_checks_etags(container: ContainerProxy, name: str) -> None:
    old = container.create_item(part(name, "x"))["_etag"]
    new = container.upsert_item(part(name, "x", n=1))["_etag"]

    def replace(etag: str) -> Any:
        operation = ("replace", ("x", part(name, "x", n=2)), {"if_match_etag": etag})
        return container.execute_item_batch([operation], partition_key=name)

    with pytest.raises(CosmosBatchOperationError) as caught:
        replace(old)
    assert caught.value.status_code == 412
    assert container.read_item("x", name)["n"] == 1
    assert replace(new)[0]["statusCode"] == 200


@pytest.mark.requires("batch-etag")
def test_a_batch_checks_the_condition_of_a_patch(container: ContainerProxy, name: str) -> None:
    container.create_item(part(name, "x", n=1))
    more = [{"op": "incr", "path": "/n", "value": 1}]
    with pytest.raises(CosmosBatchOperationError) as caught:
        container.execute_item_batch(
            [
                ("patch", ("x", more)),
                ("patch", ("x", more), {"filter_predicate": "FROM c WHERE c.n = 1"}),
            ],
            partition_key=name,
        )
    assert (caught.value.error_index, caught.value.status_code) == (1, 412)
    assert container.read_item("x", name)["n"] == 1


@pytest.mark.requires("limits")
def test_a_batch_is_of_one_partition(container: ContainerProxy, name: str) -> None:
    with pytest.raises(CosmosBatchOperationError) as caught:
        container.execute_item_batch(
            [("create", (part(name, "a"),)), ("create", (part("another", "b"),))],
            partition_key=name,
        )
    assert (caught.value.error_index, caught.value.status_code) == (1, 400)
    assert ids(container, name) == []


@pytest.mark.requires("limits")
@pytest.mark.parametrize(
    "body", [[], {}, [{}], [{"operationType": "Destroy", "id": "a"}], ["Create"]]
)
def test_what_is_no_batch_is_400(account: Account, documents: str, name: str, body: Any) -> None:
    headers = {
        "x-ms-cosmos-is-batch-request": "true",
        "x-ms-cosmos-batch-atomic": "true",
        "x-ms-cosmos-batch-ordered": "true",
        "x-ms-documentdb-partitionkey": f'["{name}"]',
    }
    assert account.send("POST", documents, body, headers).status == 400
