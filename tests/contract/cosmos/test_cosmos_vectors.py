# ruff: noqa: S608 (the texts are Cosmos SQL, put together from constants)
"""Vector policies and vector search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from azure.cosmos import ContainerProxy, DatabaseProxy, PartitionKey
from azure.cosmos.exceptions import CosmosHttpResponseError

from tests.contract.cosmos.account import item, parameters, refused, select

pytestmark = pytest.mark.requires("vector")

KEY = PartitionKey("/item_id")
EMBEDDING = {
    "path": "/vector",
    "dataType": "float32",
    "distanceFunction": "dotproduct",
    "dimensions": 3,
}
PLAIN: dict[str, Any] = {
    "indexingMode": "consistent",
    "includedPaths": [{"path": "/*"}],
    "excludedPaths": [{"path": "/vector/*"}],
}


def create(database: DatabaseProxy, name: str, *, index: Any = None, **changes: Any) -> Any:
    """A container whose /vector has a vector policy with these changes and this index."""
    indexes = [{"path": "/vector", "type": "flat"} | (index or {})]
    return database.create_container(
        name,
        KEY,
        indexing_policy=PLAIN | {"vectorIndexes": indexes},
        vector_embedding_policy={"vectorEmbeddings": [EMBEDDING | changes]},
    )


@pytest.fixture(scope="module")
def vectors(database: DatabaseProxy) -> ContainerProxy:
    container: ContainerProxy = create(database, "vectors")
    for i in range(12):
        container.upsert_item(
            item(f"v{i:02}", live=i % 3 > 0, tags=[f"t{i % 2}"], vector=[i / 8, 1.0, -i / 4])
        )
    container.upsert_item(item("short", live=True, tags=["t0"], vector=[1.0]))
    container.upsert_item(item("none", live=True, tags=["t0"]))
    container.upsert_item(item("text", live=True, tags=["t0"], vector="1, 2, 3"))
    return container


def test_the_largest_product_comes_first(vectors: ContainerProxy) -> None:
    found = select(
        vectors,
        "SELECT TOP 3 c.id, VectorDistance(c.vector, @q) AS score FROM c WHERE c.live = true "
        "ORDER BY VectorDistance(c.vector, @q)",
        parameters=parameters(q=[1.0, 0.5, 0.0]),
    )
    assert [each["id"] for each in found] == ["v11", "v10", "v08"]
    assert found[0]["score"] == pytest.approx(11 / 8 + 0.5, rel=1e-6)


def test_a_search_may_be_filtered_as_any_query(vectors: ContainerProxy) -> None:
    found = select(
        vectors,
        "SELECT TOP @top c.id FROM c WHERE c.live = true AND ARRAY_CONTAINS(c.tags, @tag) "
        "ORDER BY VectorDistance(c.vector, @q)",
        parameters=parameters(top=2, tag="t0", q=[1.0, 0.0, 0.0]),
    )
    assert [each["id"] for each in found] == ["v10", "v08"]


def test_an_item_without_a_whole_vector_is_not_found(vectors: ContainerProxy) -> None:
    found = select(
        vectors, "SELECT TOP 50 VALUE c.id FROM c ORDER BY VectorDistance(c.vector, [0, 1, 0])"
    )
    assert sorted(found) == [f"v{i:02}" for i in range(12)]


def test_a_search_of_nothing_is_empty(vectors: ContainerProxy) -> None:
    query = "ORDER BY VectorDistance(c.vector, [1, 0, 0])"
    assert select(vectors, f"SELECT TOP 5 VALUE c.id FROM c WHERE c.id = 'absent' {query}") == []


def test_a_search_needs_a_limit(vectors: ContainerProxy) -> None:
    order = "ORDER BY VectorDistance(c.vector, [1, 0, 0])"
    with pytest.raises(ValueError, match="TOP or LIMIT"):
        select(vectors, f"SELECT c.id FROM c {order}")
    windowed = select(vectors, f"SELECT VALUE c.id FROM c {order} OFFSET 1 LIMIT 2")
    assert windowed == ["v10", "v09"]


@pytest.mark.parametrize("function", ["cosine", "euclidean", "dotproduct"])
def test_the_most_similar_comes_first_by_each_function(
    database: DatabaseProxy, name: str, function: str
) -> None:
    points = {"a": [3.0, 0.1, 0.0], "b": [0.9, 0.3, 0.1], "c": [-1.0, 0.0, 0.5], "d": [1.2, 0, 0]}
    query = [1.0, 0.0, 0.0]
    container = create(database, name, distanceFunction=function)
    for each, vector in points.items():
        container.upsert_item(item(each, vector=vector))
    found = select(
        container,
        "SELECT TOP 4 c.id, VectorDistance(c.vector, @q) AS score FROM c "
        "ORDER BY VectorDistance(c.vector, @q)",
        parameters=parameters(q=query),
    )

    def score(vector: list[float]) -> float:
        a, b = np.array(vector), np.array(query)
        if function == "euclidean":
            return float(np.linalg.norm(a - b))
        product = float(a @ b)
        return product if function == "dotproduct" else product / float(np.linalg.norm(a))

    scores = {each: score(vector) for each, vector in points.items()}
    expected = sorted(scores, key=lambda each: scores[each], reverse=function != "euclidean")
    assert [each["id"] for each in found] == expected
    for each in found:
        assert each["score"] == pytest.approx(scores[each["id"]], rel=1e-5, abs=1e-6)
    database.delete_container(name)


@pytest.mark.requires("vector-limits")
@pytest.mark.parametrize(
    ("index", "dimensions"),
    [("flat", 505), ("quantizedFlat", 506), ("quantizedFlat", 4096), ("diskANN", 4096)],
)
def test_a_vector_may_have_so_many_dimensions(
    database: DatabaseProxy, name: str, index: str, dimensions: int
) -> None:
    found = create(database, name, index={"type": index}, dimensions=dimensions).read()
    assert found["vectorEmbeddingPolicy"]["vectorEmbeddings"] == [
        EMBEDDING | {"dimensions": dimensions}
    ]
    database.delete_container(name)


@pytest.mark.requires("vector-limits")
@pytest.mark.parametrize(
    ("index", "changes"),
    [
        ({"type": "flat"}, {"dimensions": 506}),
        ({"type": "quantizedFlat"}, {"dimensions": 4097}),
        ({"type": "diskANN"}, {"dimensions": 4097}),
        ({"type": "flat"}, {"dimensions": 0}),
        ({"type": "hnsw"}, {}),
        ({"path": "/other"}, {}),
        ({"type": "diskANN", "quantizationByteSize": 0}, {}),
        ({"type": "diskANN", "indexingSearchListSize": 9}, {}),
        ({"type": "diskANN", "indexingSearchListSize": 501}, {}),
        ({}, {"dataType": "float64"}),
        ({}, {"distanceFunction": "manhattan"}),
        ({}, {"path": "/vector/*"}),
    ],
)
def test_a_vector_policy_is_checked(
    database: DatabaseProxy, name: str, index: dict[str, Any], changes: dict[str, Any]
) -> None:
    with refused(400):
        create(database, name, index=index, **changes)


@pytest.mark.requires("vector-limits")
@pytest.mark.requires("offers")
def test_shared_throughput_has_no_vectors(database: DatabaseProxy, name: str, account: Any) -> None:
    shared = account.connect().create_database(name, offer_throughput=400)
    try:
        with refused(400):
            create(shared, "vectors")
    finally:
        account.connect().delete_database(name)


@pytest.mark.requires("local")
@pytest.mark.parametrize(
    "order",
    [
        "VectorDistance(c.vector, [1, 0])",
        "VectorDistance(c.vector, [1, 0, 'x'])",
        "VectorDistance(c.other, [1, 0, 0])",
        "VectorDistance(c.vector, [1, 0, 0]) DESC",
        "VectorDistance(c.vector, [1, 0, 0], 1)",
        "VectorDistance(c.vector, [1, 0, 0], true, {'distanceFunction': 'cosine'})",
        "VectorDistance(c.vector)",
    ],
)
def test_a_search_that_does_not_fit_the_policy_is_400(vectors: ContainerProxy, order: str) -> None:
    with pytest.raises(CosmosHttpResponseError) as caught:
        select(vectors, f"SELECT TOP 1 c.id FROM c ORDER BY {order}")
    assert caught.value.status_code == 400


@pytest.mark.requires("local")
def test_a_container_without_a_vector_policy_has_no_vector_search(
    container: ContainerProxy,
) -> None:
    with refused(400):
        select(container, "SELECT TOP 1 c.id FROM c ORDER BY VectorDistance(c.vector, [1, 0, 0])")
