"""The database and its containers: the one definition of names, keys and policies.

Terraform makes the containers of an account (a data-plane identity cannot), so what it declares
must equal `definitions`; emulators and tests get them from `create_missing`; a publish looks at
them with `check` before it writes anything.
"""

from __future__ import annotations

from typing import Any

from azure.cosmos import CosmosClient, DatabaseProxy, PartitionKey
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from serving_export.client import Credential, sync_client
from serving_export.errors import ExportError, MissingContainerError
from serving_export.retry import persist

DATABASE = "hyperrec"
CONTROL = "control"
SLOTS = ("a", "b", "c")

# Limits of the service: a flat index, and any vector index at all.
FLAT_DIMENSIONS = 505
MOST_DIMENSIONS = 4096

# Up to so many vectors a partition the service advises quantizedFlat, and diskANN beyond.
QUANTIZED_ITEMS = 50_000


def item_container(slot: str) -> str:
    """The name of a slot's container."""
    return f"item-embeddings-{slot}"


def vector_policy(dimensions: int) -> dict[str, Any]:
    """The vector embedding policy of an item container.

    Args:
        dimensions: numbers in a vector, d+1 for the hyperboloid.
    """
    return {
        "vectorEmbeddings": [
            {
                "path": "/vector",
                "dataType": "float32",
                "distanceFunction": "dotproduct",
                "dimensions": dimensions,
            }
        ]
    }


def vector_index(dimensions: int, items: int | None) -> str:
    """The type of vector index for so many vectors: flat, quantizedFlat or diskANN.

    Flat, which is exact, as far as the service has it; beyond, quantizedFlat, which looks at all
    vectors in a compressed form, as long as they are few, and else diskANN, a graph.

    Args:
        dimensions: numbers in a vector.
        items: vectors in a container; None when not known, which is taken for many.
    """
    if dimensions <= FLAT_DIMENSIONS:
        return "flat"
    few = items is not None and items <= QUANTIZED_ITEMS
    return "quantizedFlat" if few else "diskANN"


def indexing_policy(dimensions: int, items: int | None = None) -> dict[str, Any]:
    """The indexing policy of an item container: what queries filter and order by, and no more.

    Vectors are kept out of the ordinary index, where every number of every vector would be an
    entry paid for at each write.

    Args:
        dimensions: numbers in a vector.
        items: vectors in a container, as many as are expected; None when not known.

    Raises:
        ExportError: more dimensions than the service can index.
    """
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ExportError(
            f"Vectors of {dimensions} numbers cannot be indexed by Cosmos DB "
            f"(1 to {MOST_DIMENSIONS}); train a model of a fitting dimension."
        )
    return {
        "indexingMode": "consistent",
        "automatic": True,
        "includedPaths": [
            {"path": "/item_id/?"},
            {"path": "/version/?"},
            {"path": "/count/?"},
            {"path": "/is_live/?"},
            {"path": "/category/[]/?"},
        ],
        "excludedPaths": [{"path": "/*"}, {"path": "/vector/*"}, {"path": "/context/*"}],
        "vectorIndexes": [{"path": "/vector", "type": vector_index(dimensions, items)}],
    }


def definitions(dimensions: int, items: int | None = None) -> list[dict[str, Any]]:
    """Every container: id, partition key path and, for the item containers, the two policies."""
    slots = [
        {
            "id": item_container(slot),
            "partition_key": "/item_id",
            "indexing_policy": indexing_policy(dimensions, items),
            "vector_embedding_policy": vector_policy(dimensions),
        }
        for slot in SLOTS
    ]
    return [{"id": CONTROL, "partition_key": "/id"}, *slots]


def create_missing(
    endpoint: str,
    credential: Credential,
    dimensions: int,
    *,
    items: int | None = None,
    database: str = DATABASE,
    patience: float = 60.0,
) -> None:
    """Make the database and the containers that are not there: for emulators and tests.

    Containers that exist are left as they are; `check` says whether they fit.

    Args:
        endpoint: the account's address.
        credential: key or token credential.
        dimensions: numbers in a vector.
        items: vectors in a container, as many as are expected; None when not known.
        database: the database's name.
        patience: seconds to keep trying when the service does not answer.

    Raises:
        ExportError: the service refused, or was not available for `patience` seconds.
    """
    with sync_client(endpoint, credential, patience=patience) as client:

        def create() -> None:
            place = client.create_database_if_not_exists(database)
            for container in definitions(dimensions, items):
                policies = {k: v for k, v in container.items() if k.endswith("_policy")}
                place.create_container_if_not_exists(
                    container["id"], PartitionKey(container["partition_key"]), **policies
                )

        persist(create, endpoint=endpoint, doing="creating containers", patience=patience)


def check(client: CosmosClient, database: str, dimensions: int | None, *, patience: float) -> None:
    """Refuse to go on when a container is missing or cannot hold these vectors.

    Args:
        client: an open connection.
        database: the database's name.
        dimensions: numbers in a vector; None when only the containers' presence matters.
        patience: seconds to keep trying when the service does not answer.

    Raises:
        MissingContainerError: one is not there.
        ExportError: names the container and what is wrong with it.
    """
    place = client.get_database_client(database)
    endpoint = client.client_connection.url_connection

    def look() -> None:
        for wanted in definitions(dimensions or 1):
            found = _read(place, wanted["id"], endpoint)
            path = found["partitionKey"]["paths"]
            if path != [wanted["partition_key"]]:
                raise ExportError(
                    f"Container {wanted['id']} of database {database} is partitioned by "
                    f"{', '.join(path)} and must be by {wanted['partition_key']}; "
                    "delete it and make it again."
                )
            if dimensions is not None and "vector_embedding_policy" in wanted:
                _check_vectors(wanted["id"], database, found, dimensions)

    persist(look, endpoint=endpoint, doing="looking at the containers", patience=patience)


def _read(place: DatabaseProxy, name: str, endpoint: str) -> dict[str, Any]:
    try:
        return place.get_container_client(name).read()
    except CosmosResourceNotFoundError:
        raise MissingContainerError(
            f"Container {name} of database {place.id} is missing at {endpoint}; "
            "make it with Terraform (or create_missing on an emulator) and run again."
        ) from None


def _check_vectors(name: str, database: str, found: dict[str, Any], dimensions: int) -> None:
    embeddings = (found.get("vectorEmbeddingPolicy") or {}).get("vectorEmbeddings", [])
    policy = next((e for e in embeddings if e.get("path") == "/vector"), None)
    wanted = vector_policy(dimensions)["vectorEmbeddings"][0]
    if policy is None:
        raise ExportError(
            f"Container {name} of database {database} has no vector policy on /vector; "
            "delete it and make it again with one."
        )
    for field, value in wanted.items():
        if policy.get(field) != value:
            raise ExportError(
                f"Container {name} of database {database} takes vectors with {field} "
                f"{policy.get(field)} and the model has {value}; publish a model that fits, or "
                "make the containers again."
            )
    indexes = (found.get("indexingPolicy") or {}).get("vectorIndexes") or []
    if not any(index.get("path") == "/vector" for index in indexes):
        raise ExportError(
            f"Container {name} of database {database} has no vector index on /vector, so every "
            "search would read all of it; delete it and make it again with one."
        )
