# ruff: noqa: S608 (the texts are Cosmos SQL, put together from constants)
"""Vector search."""

from __future__ import annotations

from typing import Any

import pytest
from azure.cosmos import ContainerProxy, DatabaseProxy, PartitionKey
from azure.cosmos.exceptions import (
    CosmosHttpResponseError,
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


def item(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "item_id": name, **fields}


def select(container: ContainerProxy, text: str, **options: Any) -> list[Any]:
    return list(container.query_items(text, enable_cross_partition_query=True, **options))


@pytest.fixture(scope="module")
def vectors(database: DatabaseProxy, indexing: dict[str, Any]) -> ContainerProxy:
    container = database.create_container(
        "vectors",
        PartitionKey("/item_id"),
        indexing_policy=indexing | {"vectorIndexes": [{"path": "/vector", "type": "flat"}]},
        vector_embedding_policy=VECTORS,
    )
    for i in range(12):
        container.upsert_item(item(f"v{i:02}", live=i % 3 > 0, vector=[i / 8, 1.0, -i / 4]))
    container.upsert_item(item("short", live=True, vector=[1.0]))
    return container


@pytest.mark.requires("vector")
def test_vector_search_puts_the_largest_product_first(vectors: ContainerProxy) -> None:
    found = select(
        vectors,
        "SELECT TOP 3 c.id, VectorDistance(c.vector, @q) AS score FROM c WHERE c.live = true "
        "ORDER BY VectorDistance(c.vector, @q)",
        parameters=[{"name": "@q", "value": [1.0, 0.5, 0.0]}],
    )
    assert [each["id"] for each in found] == ["v11", "v10", "v08"]
    assert found[0]["score"] == pytest.approx(11 / 8 + 0.5, rel=1e-6)


@pytest.mark.requires("vector")
def test_vector_search_needs_a_limit(vectors: ContainerProxy) -> None:
    order = "ORDER BY VectorDistance(c.vector, [1, 0, 0])"
    with pytest.raises(ValueError, match="TOP or LIMIT"):
        select(vectors, f"SELECT c.id FROM c {order}")
    windowed = select(vectors, f"SELECT VALUE c.id FROM c {order} OFFSET 1 LIMIT 2")
    assert windowed == ["v10", "v09"]


@pytest.mark.requires("local")
def test_vector_search_refuses_what_the_policy_does_not_have(
    vectors: ContainerProxy, container: ContainerProxy
) -> None:
    for target, query in (
        (vectors, "VectorDistance(c.vector, [1, 0])"),
        (vectors, "VectorDistance(c.other, [1, 0, 0])"),
        (container, "VectorDistance(c.vector, [1, 0, 0])"),
        (vectors, "VectorDistance(c.vector, [1, 0, 0]) DESC"),
    ):
        with pytest.raises(CosmosHttpResponseError) as caught:
            select(target, f"SELECT TOP 1 c.id FROM c ORDER BY {query}")
        assert caught.value.status_code == 400
