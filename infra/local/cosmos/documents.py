"""Item operations: create, upsert, replace, read, delete and patch, single or in a batch.

One function, `apply`, carries out one operation and raises `CosmosError` for a refusal, so that
a transactional batch is a loop over it inside one transaction.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final, Literal

from infra.local.cosmos import charges, patch
from infra.local.cosmos.errors import PARTITION_KEY_MISMATCH, CosmosError, bad_request
from infra.local.cosmos.store import Container, Json, Store, resource_id

Kind = Literal["Create", "Upsert", "Replace", "Read", "Delete", "Patch"]

MAX_ITEM_BYTES: Final = 2 * 1024 * 1024
_MAX_ID_BYTES: Final = 1023
_MAX_KEY_BYTES: Final = 2048
_MAX_TTL: Final = 2**31 - 1
_MAX_NESTING: Final = 128


@dataclass(frozen=True)
class Operation:
    """One operation on one item.

    Attributes:
        kind: what to do.
        partition: canonical JSON of the partition key, a one-element list.
        item_id: id in the address; None for create and upsert, where the document has it.
        document: the new content, or the patch document.
        size: bytes of the content on the wire.
        if_match: the ETag that the item must have, `*` for any.
        if_none_match: the ETag the caller already has (reads only).
    """

    kind: Kind
    partition: str
    item_id: str | None = None
    document: Json | None = None
    size: int = 0
    if_match: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What an operation answers: status, item text (None for a delete), ETag and request charge."""

    status: int
    body: str | None
    etag: str | None
    charge: float


def canonical_key(values: list[Any]) -> str:
    """The text under which a partition key is stored: 5 and "5" differ, 5 and 5.0 do not."""
    if len(values) != 1:
        raise bad_request("The partition key must have exactly one component.")
    value = values[0]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # An absent key is written {} on the wire; other objects and arrays are no keys.
    if isinstance(value, list) or (isinstance(value, dict) and value):
        raise bad_request("A partition key value must be a string, number, boolean or null.")
    text = json.dumps([value])
    if isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) > _MAX_KEY_BYTES:
        raise bad_request("The partition key value is longer than 2,048 bytes.")
    return text


def extract_key(container: Container, document: Json) -> str:
    """The canonical partition key inside a document; `[{}]` when the path is absent."""
    value: Any = document
    for name in container.key_path.strip("/").split("/"):
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return canonical_key([value])


def parse_json(raw: bytes | str) -> Any:
    """Parses strict JSON.

    Raises:
        CosmosError: 400 for anything else, including NaN and numbers beyond float64.
    """

    def refuse(name: str) -> Any:
        raise bad_request(f"The request body is not JSON: {name} is no JSON number.")

    try:
        return json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise bad_request(
            "The request body is not valid JSON. Send one UTF-8 JSON document."
        ) from None


def apply(store: Store, container: Container, operation: Operation) -> Outcome:
    """Carries out one operation; call it inside `store.transaction()`.

    Raises:
        CosmosError: 304, 400, 404, 409, 412 or 413 as the service answers.
    """
    if operation.if_none_match is not None and operation.kind != "Read":
        raise bad_request(
            "If-None-Match is for reads only: the service ignores it on writes. "
            "Use create_item to write only what is new."
        )
    match operation.kind:
        case "Read":
            return _read(store, container, operation)
        case "Delete":
            return _delete(store, container, operation)
        case "Patch":
            return _patch(store, container, operation)
        case _:
            return _write(store, container, operation)


def _read(store: Store, container: Container, operation: Operation) -> Outcome:
    item = store.get(container, operation.partition, operation.item_id or "", time.time())
    if item is None:
        raise _missing(operation)
    if operation.if_none_match == item.etag:
        raise CosmosError(304, "Not modified.", headers={"etag": item.etag})
    return Outcome(200, item.body, item.etag, charges.read(len(item.body)))


def _delete(store: Store, container: Container, operation: Operation) -> Outcome:
    item = store.get(container, operation.partition, operation.item_id or "", time.time())
    if item is None:
        raise _missing(operation)
    _check_match(operation, item.etag)
    store.delete(item.sequence)
    return Outcome(204, None, None, charges.write(len(item.body)))


def _patch(store: Store, container: Container, operation: Operation) -> Outcome:
    item = store.get(container, operation.partition, operation.item_id or "", time.time())
    if item is None:
        raise _missing(operation)
    _check_match(operation, item.etag)
    if not isinstance(operation.document, dict):
        raise bad_request("A patch must be a JSON object with operations.")
    document = patch.patched(container, json.loads(item.body), operation.document)
    text = json.dumps(document, ensure_ascii=False)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_ITEM_BYTES:
        raise too_large()
    if extract_key(container, document) != operation.partition or document["id"] != item.id:
        raise bad_request("A patch cannot change the id or the partition key of an item.")
    return _save(store, container, document, item.sequence, 200)


def _write(store: Store, container: Container, operation: Operation) -> Outcome:
    document = operation.document
    if not isinstance(document, dict):
        raise bad_request("An item must be a JSON object.")
    if operation.size > MAX_ITEM_BYTES:
        raise too_large()
    item_id = _checked_id(document)
    if extract_key(container, document) != operation.partition:
        raise CosmosError(
            400,
            "PartitionKey extracted from document doesn't match the one specified in the header.",
            substatus=PARTITION_KEY_MISMATCH,
        )
    if operation.kind == "Replace" and item_id != operation.item_id:
        raise bad_request("A replace cannot change the id of an item.")
    found = store.get(container, operation.partition, item_id, time.time())
    if found is None:
        if operation.kind == "Replace":
            raise _missing(operation)
        _check_match(operation, None)
        sequence = store.insert(container, operation.partition, item_id)
        return _save(store, container, document, sequence, 201)
    if operation.kind == "Create":
        raise CosmosError(
            409, "Entity with the specified id already exists in the system. Use upsert or replace."
        )
    _check_match(operation, found.etag)
    return _save(store, container, document, found.sequence, 200)


def _save(
    store: Store, container: Container, document: Json, sequence: int, status: int
) -> Outcome:
    ttl = document.get("ttl")
    if "ttl" in document and not is_ttl(ttl):
        raise bad_request(
            "The ttl of an item must be -1 or a positive whole number of seconds up to 2147483647; "
            "leave the property out for the container's default."
        )
    etag = f'"{uuid.uuid4()}"'
    now = int(time.time())
    rid = resource_id(container.rid, sequence, 8)
    document |= {
        "_rid": rid,
        "_self": f"{container.body['_self']}docs/{rid}/",
        "_etag": etag,
        "_attachments": "attachments/",
        "_ts": now,
    }
    try:
        body = json.dumps(document, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise bad_request("The item has a number beyond the range of float64.") from None
    # A text with few brackets cannot be nested deeply; only the others are walked.
    if body.count("[") + body.count("{") > _MAX_NESTING and _nesting(document) > _MAX_NESTING:
        raise bad_request("The item is nested more than 128 levels deep.")
    store.update(sequence, etag, now, ttl, body)
    return Outcome(status, body, etag, charges.write(len(body)))


def is_ttl(value: Any) -> bool:
    """Whether a value may stand as a time to live: -1 for never, or seconds."""
    return type(value) is int and (value == -1 or 0 < value <= _MAX_TTL)


def _nesting(document: Json) -> int:
    """Objects and arrays inside one another below the item itself."""
    level: list[Any] = [document]
    depth = -1
    while level:
        depth += 1
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
    return depth


def _checked_id(document: Json) -> str:
    item_id = document.get("id")
    if not isinstance(item_id, str) or not item_id:
        raise bad_request("The input content is invalid because the id is missing or no string.")
    if any(character in item_id for character in "/\\?#"):
        raise bad_request("The id contains one of the characters / \\ ? # that it must not.")
    if len(item_id.encode("utf-8", "surrogatepass")) > _MAX_ID_BYTES:
        raise bad_request("The id is longer than 1,023 bytes.")
    return item_id


def _check_match(operation: Operation, etag: str | None) -> None:
    wanted = operation.if_match
    if wanted is not None and (etag is None or wanted not in ("*", etag)):
        raise CosmosError(
            412,
            "Operation cannot be performed because one of the specified precondition is not met. "
            "Read the item again for its present ETag.",
        )


def _missing(operation: Operation) -> CosmosError:
    return CosmosError(
        404,
        f"Entity with the specified id does not exist in the system: {operation.kind.lower()} "
        "found no item with this id and partition key.",
    )


def too_large() -> CosmosError:
    """The refusal of an item or batch over 2 MB."""
    return CosmosError(413, "Request size is too large: the limit is 2 MB. Split the content.")
