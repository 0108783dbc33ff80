"""Requests on items: point operations, transactional batches, feeds and queries."""

from __future__ import annotations

import json
from typing import Any, Final

from infra.local.cosmos import documents, plan, query, resources
from infra.local.cosmos.documents import Kind, Operation, Outcome
from infra.local.cosmos.errors import (
    COLLECTION_RID_MISMATCH,
    CROSS_PARTITION_QUERY_NOT_SERVABLE,
    CosmosError,
    bad_request,
    unsupported,
)
from infra.local.cosmos.resources import Answer, Request
from infra.local.cosmos.store import Container, Store

_MAX_BATCH: Final = 100
_CONTINUATION: Final = "x-ms-continuation"
_BUCKETS: Final = (None, "1", "2", "3", "4", "5")
_BY_METHOD: Final[dict[str, Kind]] = {
    "GET": "Read", "PUT": "Replace", "DELETE": "Delete", "PATCH": "Patch",
}  # fmt: skip


def serve(store: Store, request: Request) -> Answer:
    """`dbs/D/colls/C/docs` and `dbs/D/colls/C/docs/ID`."""
    container = resources.find_container(store, request.path)
    intended = request.headers.get("x-ms-cosmos-intended-collection-rid")
    if intended not in (None, container.rid):
        raise CosmosError(
            400,
            "The container was created again since the client read its properties.",
            substatus=COLLECTION_RID_MISMATCH,
        )
    if request.headers.get("A-IM"):
        raise unsupported("the change feed")
    if request.headers.get("x-ms-cosmos-throughput-bucket") not in _BUCKETS:
        raise bad_request("A container has the throughput buckets 1 to 5.")
    for name in ("pre", "post"):
        if request.headers.get(f"x-ms-documentdb-{name}-trigger-include"):
            raise unsupported("triggers")
    if len(request.path) == 6:
        return _point(store, container, request)
    if request.method == "GET":
        return _page(container, query.feed(store, container, _cursor(request)))
    if request.method != "POST":
        raise unsupported(f"{request.method} on a container's items")
    if request.is_query:
        return _query(store, container, request)
    if request.flag("x-ms-cosmos-is-batch-request"):
        return _batch(store, container, request)
    kind: Kind = "Upsert" if request.flag("x-ms-documentdb-is-upsert") else "Create"
    return _single(store, container, request, kind, None)


def _key(request: Request) -> str | None:
    header = request.headers.get("x-ms-documentdb-partitionkey")
    if header is None:
        return None
    values = documents.parse_json(header)
    if not isinstance(values, list):
        raise bad_request("The x-ms-documentdb-partitionkey header must be a JSON array.")
    return documents.canonical_key(values)


def _required_key(request: Request) -> str:
    key = _key(request)
    if key is None:
        raise bad_request("The operation needs the header x-ms-documentdb-partitionkey.")
    return key


def _point(store: Store, container: Container, request: Request) -> Answer:
    kind = _BY_METHOD.get(request.method)
    if kind is None:
        raise unsupported(f"{request.method} on an item")
    return _single(store, container, request, kind, request.path[5])


def _single(
    store: Store, container: Container, request: Request, kind: Kind, item_id: str | None
) -> Answer:
    size = len(request.body)
    if size > documents.MAX_ITEM_BYTES:
        raise documents.too_large()
    operation = Operation(
        kind,
        _required_key(request),
        item_id,
        documents.parse_json(request.body) if kind not in ("Read", "Delete") else None,
        size,
        request.headers.get("If-Match"),
        request.headers.get("If-None-Match"),
    )
    if kind == "Read":
        outcome = documents.apply(store, container, operation)
    else:
        with store.transaction():
            outcome = documents.apply(store, container, operation)
    headers = {"etag": outcome.etag} if outcome.etag else {}
    body = None if kind != "Read" and _minimal(request) else outcome.body
    return Answer(outcome.status, body, headers, outcome.charge)


def _minimal(request: Request) -> bool:
    return "return=minimal" in request.headers.get("Prefer", "")


def _batch(store: Store, container: Container, request: Request) -> Answer:
    """All operations of a batch, or none: 207 tells which one failed, 424 the others."""
    if len(request.body) > documents.MAX_ITEM_BYTES:
        raise documents.too_large()
    entries = documents.parse_json(request.body)
    if not isinstance(entries, list) or not entries:
        raise bad_request("A batch must be a JSON array of operations.")
    if len(entries) > _MAX_BATCH:
        raise bad_request(
            f"Batch request has more operations than what is supported: {_MAX_BATCH}."
        )
    operations = [_batch_operation(entry, _required_key(request)) for entry in entries]
    outcomes: list[Outcome] = []
    try:
        with store.transaction():
            outcomes.extend(documents.apply(store, container, each) for each in operations)
    except CosmosError as error:
        failed = len(outcomes)
        charge = sum(outcome.charge for outcome in outcomes) + 1.0
        answers: list[dict[str, Any]] = [
            {"statusCode": 424, "requestCharge": 0} for _ in operations
        ]
        answers[failed] = {"statusCode": error.status, "requestCharge": 1.0}
        if error.substatus:
            answers[failed]["subStatusCode"] = error.substatus
        return Answer(207, answers, {}, charge)
    minimal = _minimal(request)
    texts = [
        _batch_answer(outcome, with_body=each.kind == "Read" or not minimal)
        for each, outcome in zip(operations, outcomes, strict=True)
    ]
    charge = round(sum(outcome.charge for outcome in outcomes), 2)
    return Answer(200, f"[{','.join(texts)}]", {}, charge)


def _batch_operation(entry: Any, key: str) -> Operation:
    kinds = ("Create", "Upsert", "Replace", "Read", "Delete", "Patch")
    if not isinstance(entry, dict) or entry.get("operationType") not in kinds:
        raise bad_request(f"An operation of a batch needs an operationType of {kinds}.")
    body = entry.get("resourceBody")
    return Operation(
        entry["operationType"],
        key,
        entry.get("id"),
        body,
        len(json.dumps(body)),
        entry.get("ifMatch"),
        entry.get("ifNoneMatch"),
    )


def _batch_answer(outcome: Outcome, *, with_body: bool) -> str:
    head = {"statusCode": outcome.status, "requestCharge": outcome.charge}
    if outcome.etag:
        head["eTag"] = outcome.etag  # type: ignore[assignment]
    text = json.dumps(head)
    # The stored text goes out as it is: its numbers need no second round trip.
    return f'{text[:-1]},"resourceBody":{outcome.body}}}' if with_body and outcome.body else text


def _cursor(request: Request) -> query.Cursor:
    return query.Cursor(
        query.page_size(request.headers.get("x-ms-max-item-count")),
        request.headers.get(_CONTINUATION) or None,
        _key(request),
    )


def _page(container: Container, page: query.Page) -> Answer:
    count = len(page.results)
    body = f'{{"_rid":"{container.rid}","Documents":[{",".join(page.results)}],"_count":{count}}}'
    headers = {"x-ms-item-count": str(count)}
    if page.continuation is not None:
        headers[_CONTINUATION] = page.continuation
    return Answer(200, body, headers, page.charge)


def _query(store: Store, container: Container, request: Request) -> Answer:
    parsed = resources.parse_query(request.body)
    if request.flag("x-ms-cosmos-is-query-plan-request"):
        return Answer(200, plan.build(parsed, container))
    if request.headers.get("x-ms-start-epk") or request.headers.get("x-ms-end-epk"):
        raise unsupported("feed ranges")
    cursor = _cursor(request)
    range_id = request.headers.get("x-ms-documentdb-partitionkeyrangeid")
    if range_id is not None and range_id.rpartition(",")[2] != "0":
        raise CosmosError(410, "The partition key range does not exist.", substatus=1002)
    if cursor.partition is None and range_id is None:
        if not request.flag("x-ms-documentdb-query-enablecrosspartition"):
            raise bad_request(
                "Cross partition query is required but disabled. Please set "
                "x-ms-documentdb-query-enablecrosspartition to true, specify "
                "x-ms-documentdb-partitionkey, or revise your query to avoid this exception."
            )
        if plan.needs_plan(parsed):
            raise CosmosError(
                400,
                "The provided cross partition query can not be directly served by the gateway. "
                "This is a first chance (internal) exception that all newer clients will know how "
                "to handle gracefully.",
                substatus=CROSS_PARTITION_QUERY_NOT_SERVABLE,
                info=json.dumps(plan.build(parsed, container)),
            )
    return _page(container, query.run(store, container, parsed, cursor))
