"""The containers as declared."""

from __future__ import annotations

import pytest

from serving_export import containers
from serving_export.errors import ExportError


def test_four_containers_and_their_keys() -> None:
    keys = {each["id"]: each["partition_key"] for each in containers.definitions(51)}
    assert keys == {
        "control": "/id",
        "item-embeddings-a": "/item_id",
        "item-embeddings-b": "/item_id",
        "item-embeddings-c": "/item_id",
    }


@pytest.mark.parametrize(
    ("dimensions", "items", "kind"),
    [
        (51, 132_399, "flat"),
        (505, None, "flat"),
        (506, 50_000, "quantizedFlat"),
        (506, 50_001, "diskANN"),
        (4096, None, "diskANN"),
    ],
)
def test_the_index_fits_the_size_and_number_of_vectors(
    dimensions: int, items: int | None, kind: str
) -> None:
    policy = containers.indexing_policy(dimensions, items)
    assert policy["vectorIndexes"] == [{"path": "/vector", "type": kind}]
    assert {"path": "/vector/*"} in policy["excludedPaths"]
    embedding = containers.vector_policy(dimensions)["vectorEmbeddings"][0]
    assert embedding["dimensions"] == dimensions
    assert embedding["distanceFunction"] == "dotproduct"


@pytest.mark.parametrize("dimensions", [0, 4097])
def test_dimensions_beyond_the_service_are_refused(dimensions: int) -> None:
    with pytest.raises(ExportError, match="cannot be indexed"):
        containers.indexing_policy(dimensions)
