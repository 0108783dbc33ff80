"""Partial document update: the operations add, set, replace, remove, incr and move.

Source: "Partial document update in Azure Cosmos DB".
"""

from __future__ import annotations

from typing import Any, Final

from infra.local.cosmos import evaluate, sql
from infra.local.cosmos.errors import CosmosError, bad_request
from infra.local.cosmos.store import Container, Json

_MAX_OPERATIONS: Final = 10
_SYSTEM: Final = {"_rid", "_self", "_etag", "_attachments", "_ts"}


def patched(container: Container, document: Json, request: Json) -> Json:
    """Applies a patch request to a document, which it may alter in place.

    Args:
        container: where the item lives; its policies hold in the condition, too.
        document: the item's content.
        request: `{"operations": [...], "condition": "FROM c WHERE ..."}`.

    Raises:
        CosmosError: 400 for an operation that cannot be applied, 412 for a condition not met.
    """
    condition = request.get("condition")
    if condition is not None:
        query = sql.parse(f"SELECT * {condition}", {})
        if query.where is None:
            raise bad_request("A patch condition has the form FROM c WHERE ….")
        if evaluate.compiled(query.where, container)(document) is not True:
            raise CosmosError(412, "The condition of the patch is not met by the item.")
    operations = request.get("operations")
    if not isinstance(operations, list) or not 1 <= len(operations) <= _MAX_OPERATIONS:
        raise bad_request("A patch must have between 1 and 10 operations.")
    for operation in operations:
        _apply(document, operation)
    return document


def _apply(document: Json, operation: Any) -> None:
    if not isinstance(operation, dict):
        raise bad_request("A patch operation must be a JSON object with op and path.")
    kind, path = operation.get("op"), _checked_path(operation.get("path"))
    if kind == "remove":
        _take(document, path)
        return
    if kind == "move":
        source = _checked_path(operation.get("from"))
        if path.startswith(f"{source}/"):
            raise bad_request(f"The patch cannot move {source} into itself, to {path}.")
        _put(document, path, _take(document, source), "set")
        return
    if "value" not in operation:
        raise bad_request(f"The patch operation on {path} has no value.")
    value = operation["value"]
    if kind in ("incr", "increment"):
        parent, name = _parent(document, path)
        present = parent.get(name, 0) if isinstance(parent, dict) else _element(parent, name, path)
        if not _is_number(present) or not _is_number(value):
            raise bad_request(f"The patch cannot increment {path}: it is not a number.")
        _put(document, path, present + value, "set")
    elif kind in ("add", "set", "replace"):
        _put(document, path, value, kind)
    else:
        raise bad_request(f"Unknown patch operation {kind!r}: use add, set, replace, remove, incr.")


def _checked_path(path: Any) -> str:
    if not isinstance(path, str) or not path.startswith("/"):
        raise bad_request("A patch operation needs a path (to move, also from) that starts with /.")
    if path.split("/")[1] in _SYSTEM | {"id"}:
        raise bad_request(f"A patch cannot change {path}: the property belongs to the system.")
    return path


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parent(document: Json, path: str) -> tuple[Any, str]:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    here: Any = document
    for part in parts[:-1]:
        here = here.get(part) if isinstance(here, dict) else _element(here, part, path)
        if not isinstance(here, dict | list):
            raise bad_request(f"The patch path {path} does not exist in the item.")
    return here, parts[-1]


def _element(parent: list[Any], name: str, path: str) -> Any:
    index = _index(parent, name, path)
    if index >= len(parent):
        raise bad_request(f"The patch path {path} is beyond the end of the array.")
    return parent[index]


def _index(parent: list[Any], name: str, path: str) -> int:
    if name == "-":
        return len(parent)
    if not name.isdecimal() or int(name) > len(parent):
        raise bad_request(f"The patch path {path} is no valid position in the array.")
    return int(name)


def _take(document: Json, path: str) -> Any:
    parent, name = _parent(document, path)
    if isinstance(parent, dict):
        if name not in parent:
            raise bad_request(f"The patch path {path} does not exist in the item.")
        return parent.pop(name)
    _element(parent, name, path)
    return parent.pop(int(name))


def _put(document: Json, path: str, value: Any, kind: str) -> None:
    parent, name = _parent(document, path)
    if isinstance(parent, dict):
        if kind == "replace" and name not in parent:
            raise bad_request(f"The patch cannot replace {path}: it does not exist in the item.")
        parent[name] = value
        return
    index = _index(parent, name, path)
    if kind == "add" or index == len(parent):
        if kind == "replace":
            raise bad_request(f"The patch cannot replace {path}: it does not exist in the item.")
        parent.insert(index, value)
    else:
        parent[index] = value
