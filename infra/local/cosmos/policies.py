"""What a container may look like: its partition key, indexing and vector policies.

The checks are those of the service.

Source: "Vector search in Azure Cosmos DB for NoSQL" (container vector policies, vector indexing
policies, limits) and "Indexing policies in Azure Cosmos DB".
"""

from __future__ import annotations

import re
from typing import Any, Final

from infra.local.cosmos import syntax
from infra.local.cosmos.errors import bad_request, unsupported
from infra.local.cosmos.store import Container, Json

_KNOWN: Final = {
    "id",
    "partitionKey",
    "indexingPolicy",
    "defaultTtl",
    "vectorEmbeddingPolicy",
    "uniqueKeyPolicy",
    "conflictResolutionPolicy",
}
_SYSTEM: Final = {"_rid", "_self", "_etag", "_ts", "_docs", "_sprocs", "_triggers", "_udfs"}
_MAX_DIMENSIONS: Final = {"flat": 505, "quantizedFlat": 4096, "diskANN": 4096}
_DATA_TYPES: Final = ("float32", "float16", "uint8", "int8")
_DISTANCES: Final = ("euclidean", "cosine", "dotproduct")
_VECTOR_INDEX_KEYS: Final = {
    "path",
    "type",
    "quantizationByteSize",
    "indexingSearchListSize",
    "vectorIndexShardKey",
}
_INDEXING_KEYS: Final = {
    "indexingMode",
    "automatic",
    "includedPaths",
    "excludedPaths",
    "compositeIndexes",
    "vectorIndexes",
}


def checked_name(body: Any) -> str:
    """The id of a database or container to be made."""
    name = body.get("id") if isinstance(body, dict) else None
    if not isinstance(name, str) or not name.strip() or len(name) > 255:
        raise bad_request("The resource needs an id of 1 to 255 characters.")
    if any(character in name for character in "/\\?#"):
        raise bad_request("The id contains one of the characters / \\ ? # that it must not.")
    return name


def checked_container(body: Any, previous: Container | None = None) -> Json:
    """The container document to store: defaults filled in, everything checked.

    Args:
        body: what the caller sent.
        previous: the container to be replaced, whose partition key and vectors are fixed.

    Raises:
        CosmosError: 400 for what the service refuses and for features not in the subset.
    """
    if not isinstance(body, dict):
        raise bad_request("A container must be a JSON object.")
    unknown = {key for key, value in body.items() if value is not None} - _KNOWN - _SYSTEM
    if unknown:
        raise unsupported(f"the container property {sorted(unknown)[0]!r}")
    if (body.get("uniqueKeyPolicy") or {}).get("uniqueKeys"):
        raise unsupported("unique keys")
    result: Json = {
        "id": checked_name(body),
        "partitionKey": _partition_key(body.get("partitionKey")),
        "indexingPolicy": _indexing(body.get("indexingPolicy") or {}),
        "conflictResolutionPolicy": {
            "mode": "LastWriterWins",
            "conflictResolutionPath": "/_ts",
            "conflictResolutionProcedure": "",
        },
    }
    if (ttl := body.get("defaultTtl")) is not None:
        if type(ttl) is not int or ttl == 0 or ttl < -1:
            raise bad_request("defaultTtl must be -1 or a positive number of seconds.")
        result["defaultTtl"] = ttl
    embeddings = (body.get("vectorEmbeddingPolicy") or {}).get("vectorEmbeddings") or []
    if embeddings:
        result["vectorEmbeddingPolicy"] = {"vectorEmbeddings": embeddings}
    _check_vectors(embeddings, result["indexingPolicy"].get("vectorIndexes", []))
    if previous is not None:
        _check_unchanged(result, previous)
    return result


def _partition_key(definition: Any) -> Json:
    if not isinstance(definition, dict) or not isinstance(definition.get("paths"), list):
        raise bad_request("The container needs a partition key definition with one path.")
    paths = definition["paths"]
    if definition.get("kind", "Hash") != "Hash" or len(paths) != 1:
        raise unsupported("hierarchical partition keys")
    if not isinstance(paths[0], str) or not re.fullmatch(r"(/[^/]+)+", paths[0]):
        raise bad_request(f"The partition key path {paths[0]!r} must have the form /name.")
    if definition.get("version", 2) not in (1, 2):
        raise bad_request("The partition key version must be 1 or 2.")
    return {"paths": paths, "kind": "Hash", "version": definition.get("version", 2)}


def _indexing(policy: Json) -> Json:
    unknown = set(policy) - _INDEXING_KEYS
    spatial = policy.get("spatialIndexes") or policy.get("fullTextIndexes")
    if spatial or unknown - {"spatialIndexes", "fullTextIndexes"}:
        raise unsupported(f"the indexing policy property {sorted(unknown)[0]!r}")
    mode = str(policy.get("indexingMode", "consistent")).lower()
    if mode not in ("consistent", "none"):
        raise bad_request(f"Unknown indexing mode {mode!r}: use consistent or none.")
    included = policy.get("includedPaths", [{"path": "/*"}] if mode == "consistent" else [])
    excluded = policy.get("excludedPaths", [])
    for entry in [*included, *excluded]:
        path = entry.get("path")
        if not isinstance(path, str) or not re.fullmatch(r'/"?_etag"?/\?|(/[^/]+)*/[?*]', path):
            raise bad_request(f"The index path {path!r} must start with / and end in ? or *.")
    paths = [entry["path"] for entry in [*included, *excluded]]
    if mode == "consistent" and "/*" not in paths:
        raise bad_request(
            "The special mandatory indexing path '/*' is not provided in any of the path type "
            "sets. Please provide it in one of the sets."
        )
    if not any("_etag" in path for path in paths):
        excluded = [*excluded, {"path": '/"_etag"/?'}]
    result = {
        "indexingMode": mode,
        "automatic": policy.get("automatic", mode == "consistent"),
        "includedPaths": included,
        "excludedPaths": excluded,
    }
    for key in ("compositeIndexes", "vectorIndexes"):
        if policy.get(key):
            result[key] = policy[key]
    return result


def _check_vectors(embeddings: list[Json], indexes: list[Json]) -> None:
    dimensions: dict[str, int] = {}
    for embedding in embeddings:
        path, size = embedding.get("path"), embedding.get("dimensions")
        if not isinstance(path, str) or not re.fullmatch(r"(/[^/*?\[\]]+)+", path):
            raise bad_request(f"The vector embedding path {path!r} must have the form /name.")
        if path in dimensions:
            raise bad_request(f"The vector embedding path {path!r} is given twice.")
        if type(size) is not int or not 1 <= size <= 4096:
            raise bad_request(
                f"The vector embedding {path} has {size!r} dimensions; allowed are 1 to 4096."
            )
        if embedding.get("dataType") not in _DATA_TYPES:
            raise bad_request(f"The vector embedding {path} needs a dataType of {_DATA_TYPES}.")
        if embedding.get("distanceFunction") not in _DISTANCES:
            raise bad_request(
                f"The vector embedding {path} needs a distanceFunction, {_DISTANCES}."
            )
        dimensions[path] = size
    for index in indexes:
        path, kind = index.get("path"), index.get("type")
        if path not in dimensions:
            raise bad_request(
                f"The vector index path {path!r} has no matching path in the container's vector "
                "embedding policy."
            )
        if kind not in _MAX_DIMENSIONS:
            raise bad_request(f"The vector index {path} has the unknown type {kind!r}.")
        if dimensions[path] > _MAX_DIMENSIONS[kind]:
            raise bad_request(
                f"The vector index {path} of type {kind} takes at most {_MAX_DIMENSIONS[kind]} "
                f"dimensions, and the policy says {dimensions[path]}. Use quantizedFlat or diskANN."
            )
        if set(index) - (_VECTOR_INDEX_KEYS if kind != "flat" else {"path", "type"}):
            raise bad_request(f"The vector index {path} has a property that {kind} does not take.")


def _check_unchanged(new: Json, previous: Container) -> None:
    old = previous.body
    if new["id"] != old["id"] or new["partitionKey"] != old["partitionKey"]:
        raise bad_request("The id and the partition key of a container cannot be changed.")
    if new.get("vectorEmbeddingPolicy") != old.get("vectorEmbeddingPolicy") or new[
        "indexingPolicy"
    ].get("vectorIndexes") != old["indexingPolicy"].get("vectorIndexes"):
        raise bad_request(
            "The vector embedding policy and vector indexes cannot be changed. "
            "Create another container."
        )


def check_order(container: Container, query: syntax.Query) -> None:
    """Refuses an ORDER BY that the container's indexes cannot serve.

    Raises:
        CosmosError: 400 for an excluded path, or several paths without a composite index.
    """
    policy = container.body["indexingPolicy"]
    wanted = []
    for expression, falling in query.order:
        assert isinstance(expression, syntax.Path)  # noqa: S101 (the parser lets nothing else pass)
        wanted.append(("/" + "/".join(map(str, expression.keys)), falling))
    if len(wanted) == 1:
        if not _indexed(policy, wanted[0][0]):
            raise bad_request(
                "The index path corresponding to the specified order-by item is excluded."
            )
    elif wanted:
        flipped = [(path, not falling) for path, falling in wanted]
        for composite in policy.get("compositeIndexes", []):
            index = [(e["path"], e.get("order", "ascending") == "descending") for e in composite]
            if index in (wanted, flipped):
                return
        raise bad_request(
            "The order by query does not have a corresponding composite index that it can be "
            "served from."
        )


def _indexed(policy: Json, path: str) -> bool:
    """Whether a scalar at `path` is indexed: the most precise rule wins."""
    if policy["indexingMode"] == "none":
        return False
    if path in ("/id", "/_ts"):
        return True
    best, indexed = -1, False
    for key, includes in (("includedPaths", True), ("excludedPaths", False)):
        for entry in policy[key]:
            rule = str(entry["path"]).replace('"', "")
            covers = rule == f"{path}/?" or (
                rule.endswith("/*") and f"{path}/".startswith(rule[:-1])
            )
            if covers and len(rule) > best:
                best, indexed = len(rule), includes
    return indexed
