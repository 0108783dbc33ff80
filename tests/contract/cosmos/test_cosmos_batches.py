"""Partial updates and transactional batches."""

from __future__ import annotations

from typing import Any

import pytest
from azure.cosmos import ContainerProxy
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceNotFoundError,
)


def item(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "item_id": name, **fields}


def test_patch_changes_parts_of_an_item(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name, n=1, list=[1, 3], gone=True, old="kept"))
    patched = container.patch_item(
        name,
        name,
        [
            {"op": "incr", "path": "/n", "value": 4},
            {"op": "add", "path": "/list/1", "value": 2},
            {"op": "add", "path": "/list/-", "value": 4},
            {"op": "remove", "path": "/gone"},
            {"op": "set", "path": "/new", "value": {"a": 1}},
            {"op": "replace", "path": "/new/a", "value": 2},
            {"op": "move", "from": "/old", "path": "/moved"},
        ],
    )
    expected = item(name, n=5, list=[1, 2, 3, 4], new={"a": 2}, moved="kept")
    assert {key: value for key, value in patched.items() if key[0] != "_"} == expected
    assert container.read_item(name, name)["_etag"] == patched["_etag"]


def test_a_patch_that_fails_changes_nothing(container: ContainerProxy, name: str) -> None:
    before = container.create_item(item(name, n=1))
    add: dict[str, Any] = {"op": "add", "path": "/x", "value": 1}
    refused: list[list[dict[str, Any]]] = [
        [add, {"op": "replace", "path": "/absent", "value": 1}],
        [add, {"op": "set", "path": "/id", "value": "other"}],
        [add, {"op": "set", "path": "/item_id", "value": "other"}],
        [add] * 11,
    ]
    for operations in refused:
        with pytest.raises(CosmosHttpResponseError) as caught:
            container.patch_item(name, name, operations)
        assert caught.value.status_code == 400
    with pytest.raises(CosmosAccessConditionFailedError):
        container.patch_item(name, name, [add], filter_predicate="FROM c WHERE c.n = 2")
    assert container.read_item(name, name)["_etag"] == before["_etag"]
    container.patch_item(name, name, [add], filter_predicate="FROM c WHERE c.n = 1")


def test_a_batch_is_done_whole(container: ContainerProxy, name: str) -> None:
    results = container.execute_item_batch(
        [
            ("create", ({"id": "a", "item_id": name},)),
            ("upsert", ({"id": "b", "item_id": name, "n": 1},)),
            ("patch", ("b", [{"op": "incr", "path": "/n", "value": 1}])),
            ("read", ("b",)),
            ("delete", ("a",)),
        ],
        partition_key=name,
    )
    assert [result["statusCode"] for result in results] == [201, 201, 200, 200, 204]
    assert results[3]["resourceBody"]["n"] == 2
    kept: Any = container.query_items("SELECT VALUE c.id FROM c", partition_key=name)
    assert list(kept) == ["b"]


def test_a_batch_that_fails_does_nothing(container: ContainerProxy, name: str) -> None:
    container.create_item({"id": "there", "item_id": name})
    with pytest.raises(CosmosBatchOperationError) as caught:
        container.execute_item_batch(
            [
                ("create", ({"id": "new", "item_id": name},)),
                ("create", ({"id": "there", "item_id": name},)),
                ("read", ("there",)),
            ],
            partition_key=name,
        )
    assert caught.value.error_index == 1
    codes = [response["statusCode"] for response in caught.value.operation_responses]
    assert codes == [424, 409, 424]
    with pytest.raises(CosmosResourceNotFoundError):
        container.read_item("new", name)


@pytest.mark.requires("batch-etag")
def test_a_batch_checks_etags(container: ContainerProxy, name: str) -> None:
    old = container.create_item({"id": "x", "item_id": name})["_etag"]
    container.upsert_item({"id": "x", "item_id": name, "n": 1})
    with pytest.raises(CosmosBatchOperationError) as caught:
        container.execute_item_batch(
            [("replace", ("x", {"id": "x", "item_id": name}), {"if_match_etag": old})],
            partition_key=name,
        )
    assert caught.value.status_code == 412


def test_a_batch_has_at_most_a_hundred_operations(container: ContainerProxy, name: str) -> None:
    operations = [("upsert", ({"id": str(i), "item_id": name},)) for i in range(101)]
    with pytest.raises(CosmosHttpResponseError) as caught:
        container.execute_item_batch(operations, partition_key=name)
    assert caught.value.status_code == 400
    container.execute_item_batch(operations[:100], partition_key=name)
