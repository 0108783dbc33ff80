"""What a container may look like: its partition key, indexing and vector policies.

The checks are those of the service.

Source: "Vector search in Azure Cosmos DB for NoSQL" (container vector policies, vector indexing
policies, limits), "Indexing policies in Azure Cosmos DB" and "Service quotas and default limits".
"""

from __future__ import annotations

import re
from typing import Any, Final

from infra.local.cosmos import syntax
from infra.local.cosmos.documents import is_ttl
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
# Options of a vector index: smallest and largest value, None for one that is no number.
_QUANTIZED: Final = {"quantizationByteSize": (1, 512), "vectorIndexShardKey": None}
_VECTOR_OPTIONS: Final[dict[str, dict[str, tuple[int, int] | None]]] = {
    "flat": {},
    "quantizedFlat": _QUANTIZED,
    "diskANN": _QUANTIZED | {"indexingSearchListSize": (10, 500)},
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
    if _object(body, "uniqueKeyPolicy").get("uniqueKeys"):
        raise unsupported("unique keys")
    result: Json = {
        "id": checked_name(body),
        "partitionKey": _partition_key(body.get("partitionKey")),
        "indexingPolicy": _indexing(_object(body, "indexingPolicy")),
        "conflictResolutionPolicy": {
            "mode": "LastWriterWins",
            "conflictResolutionPath": "/_ts",
            "conflictResolutionProcedure": "",
        },
    }
    if (ttl := body.get("defaultTtl")) is not None:
        if not is_ttl(ttl):
            raise bad_request(
                "defaultTtl must be -1 or a positive whole number of seconds up to 2147483647."
            )
        result["defaultTtl"] = ttl
    embeddings = _objects(_object(body, "vectorEmbeddingPolicy"), "vectorEmbeddings")
    if embeddings:
        result["vectorEmbeddingPolicy"] = {"vectorEmbeddings": embeddings}
    dimensions = _vector_dimensions(embeddings)
    for index in result["indexingPolicy"].get("vectorIndexes", []):
        _check_vector_index(index, dimensions)
    if previous is not None:
        _check_unchanged(result, previous)
    return result


def _object(body: Json, key: str) -> Json:
    found = body.get(key)
    if found is not None and not isinstance(found, dict):
        raise bad_request(f"The container's {key} must be a JSON object.")
    return found or {}


def _objects(policy: Json, key: str) -> list[Json]:
    found = policy.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise bad_request(f"The container's {key} must be a list of JSON objects.")
    return found


def _partition_key(definition: Any) -> Json:
    if not isinstance(definition, dict) or not isinstance(definition.get("paths"), list):
        raise bad_request("The container needs a partition key definition with one path.")
    paths = definition["paths"]
    if definition.get("kind", "Hash") != "Hash" or len(paths) != 1:
        raise unsupported("hierarchical partition keys")
    if not isinstance(paths[0], str) or not re.fullmatch(r"(/[^/]+)+", paths[0]):
        raise bad_request(f"The partition key path {paths[0]!r} must have the form /name.")
    # Version 1 tells keys apart by their first 101 bytes alone.
    if definition.get("version", 2) != 2:
        raise unsupported("partition keys of another version than 2")
    return {"paths": paths, "kind": "Hash", "version": 2}


def _indexing(policy: Json) -> Json:
    unknown = set(policy) - _INDEXING_KEYS
    spatial = policy.get("spatialIndexes") or policy.get("fullTextIndexes")
    if spatial or unknown - {"spatialIndexes", "fullTextIndexes"}:
        raise unsupported(f"the indexing policy property {sorted(unknown)[0]!r}")
    mode = str(policy.get("indexingMode", "consistent")).lower()
    if mode not in ("consistent", "none"):
        raise bad_request(f"Unknown indexing mode {mode!r}: use consistent or none.")
    included = _objects(policy, "includedPaths")
    if "includedPaths" not in policy and mode == "consistent":
        included = [{"path": "/*"}]
    excluded = _objects(policy, "excludedPaths")
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
    if composites := policy.get("compositeIndexes"):
        result["compositeIndexes"] = _composites(composites)
    if vectors := _objects(policy, "vectorIndexes"):
        result["vectorIndexes"] = vectors
    return result


def _composites(composites: Any) -> list[list[Json]]:
    if not isinstance(composites, list) or len(composites) > 100:
        raise bad_request("compositeIndexes must be a list of at most 100 indexes.")
    for composite in composites:
        if not isinstance(composite, list) or not 2 <= len(composite) <= 8:
            raise bad_request("A composite index must be a list of 2 to 8 paths.")
        for entry in composite:
            path = entry.get("path") if isinstance(entry, dict) else None
            if not isinstance(path, str) or not re.fullmatch(r"(/[^/*?]+)+", path):
                raise bad_request(f"The composite index path {path!r} must have the form /name.")
            if entry.get("order", "ascending") not in ("ascending", "descending"):
                raise bad_request(f"The order of {path} must be ascending or descending.")
    return composites


def _vector_dimensions(embeddings: list[Json]) -> dict[str, int]:
    """Checks the vector embedding policy; returns the number of dimensions of each path."""
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
    return dimensions


def _check_vector_index(index: Json, dimensions: dict[str, int]) -> None:
    path, kind = index.get("path"), index.get("type")
    if not isinstance(path, str) or path not in dimensions:
        raise bad_request(
            f"The vector index path {path!r} has no matching path in the container's vector "
            "embedding policy."
        )
    if not isinstance(kind, str) or kind not in _MAX_DIMENSIONS:
        raise bad_request(f"The vector index {path} has the unknown type {kind!r}.")
    if dimensions[path] > _MAX_DIMENSIONS[kind]:
        raise bad_request(
            f"The vector index {path} of type {kind} takes at most {_MAX_DIMENSIONS[kind]} "
            f"dimensions, and the policy says {dimensions[path]}. Use quantizedFlat or diskANN."
        )
    for name in sorted(set(index) - {"path", "type"}):
        if name not in _VECTOR_OPTIONS[kind]:
            raise bad_request(f"The vector index {path} of type {kind} does not take {name}.")
        limits, value = _VECTOR_OPTIONS[kind][name], index[name]
        if limits and not (type(value) is int and limits[0] <= value <= limits[1]):
            raise bad_request(
                f"The {name} of the vector index {path} must be {limits[0]} to {limits[1]}."
            )


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


def check_order(container: Container, query: syntax.Query) -> bool:
    """Refuses an ORDER BY that the container's indexes cannot serve.

    Returns:
        Whether items without the property are among the results: an index has them under a path
        that it names (composite indexes do), and not under one that only a wildcard covers.

    Raises:
        CosmosError: 400 for an excluded path, or several paths without a composite index.
    """
    policy = container.body["indexingPolicy"]
    wanted = []
    for expression, falling in query.order:
        assert isinstance(expression, syntax.Path)  # noqa: S101 (the parser lets nothing else pass)
        wanted.append(("/" + "/".join(map(str, expression.keys)), falling))
    if not wanted:
        return True
    if len(wanted) == 1:
        rule = _index_rule(policy, wanted[0][0])
        if rule is None:
            raise bad_request(
                "The index path corresponding to the specified order-by item is excluded."
            )
        return rule.endswith("/?")
    flipped = [(path, not falling) for path, falling in wanted]
    for composite in policy.get("compositeIndexes", []):
        index = [(e["path"], e.get("order", "ascending") == "descending") for e in composite]
        if index in (wanted, flipped):
            return True
    raise bad_request(
        "The order by query does not have a corresponding composite index that it can be "
        "served from."
    )


def _index_rule(policy: Json, path: str) -> str | None:
    """The rule that includes a scalar at `path`, None when it is not indexed.

    The most precise rule wins.
    """
    if policy["indexingMode"] == "none":
        return None
    if path in ("/id", "/_ts"):
        return f"{path}/?"
    best, found = -1, None
    for key in ("includedPaths", "excludedPaths"):
        for entry in policy[key]:
            rule = str(entry["path"]).replace('"', "")
            covers = rule == f"{path}/?" or (
                rule.endswith("/*") and f"{path}/".startswith(rule[:-1])
            )
            if covers and len(rule) > best:
                best, found = len(rule), rule if key == "includedPaths" else None
    return found
