"""Requests on everything but items: account, databases, containers, ranges and offers."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from infra.local.cosmos import evaluate, policies, sql, syntax
from infra.local.cosmos.documents import parse_json
from infra.local.cosmos.errors import OWNER_NOT_FOUND, CosmosError, bad_request, unsupported
from infra.local.cosmos.store import Container, Json, Store, resource_id

_MIN_THROUGHPUT: Final = 400


@dataclass(frozen=True)
class Request:
    """A request after authentication; `path` has the decoded segments."""

    method: str
    path: tuple[str, ...]
    headers: Mapping[str, str]
    body: bytes

    def flag(self, name: str) -> bool:
        """Whether a boolean header says true."""
        return self.headers.get(name, "").lower() == "true"

    @property
    def is_query(self) -> bool:
        """Whether a POST is a query (or asks for its plan) and not a new resource."""
        return (
            self.flag("x-ms-documentdb-isquery")
            or self.flag("x-ms-cosmos-is-query-plan-request")
            or self.headers.get("Content-Type", "").startswith("application/query+json")
        )


@dataclass
class Answer:
    """A response: `body` is JSON text or a value to be written as JSON, None for no content."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    charge: float = 1.0


def account(scheme: str, host: str) -> Answer:
    """The account document; its endpoints are the caller's own, so that a tunnel works, too."""
    location = [{"name": "Local", "databaseAccountEndpoint": f"{scheme}://{host}/"}]
    return Answer(
        body={
            "_self": "",
            "id": "local",
            "_rid": "local",
            "media": "//media/",
            "addresses": "//addresses/",
            "_dbs": "//dbs/",
            "writableLocations": location,
            "readableLocations": location,
            "enableMultipleWriteLocations": False,
            "continuousBackupEnabled": False,
            "userReplicationPolicy": {"asyncReplication": False, "minReplicaSetSize": 1},
            "systemReplicationPolicy": {"minReplicaSetSize": 1, "maxReplicasetSize": 1},
            "readPolicy": {"primaryReadCoefficient": 1, "secondaryReadCoefficient": 1},
            "userConsistencyPolicy": {"defaultConsistencyLevel": "Session"},
            "queryEngineConfiguration": "{}",
        }
    )


def find_container(store: Store, path: tuple[str, ...]) -> Container:
    """The container of a path `dbs/D/colls/C…`.

    Raises:
        CosmosError: 404 when there is none.
    """
    container = store.container(path[1], path[3])
    if container is None:
        raise CosmosError(
            404,
            f"Owner resource does not exist: no container {path[3]!r} in database {path[1]!r}.",
            substatus=OWNER_NOT_FOUND,
        )
    return container


def databases(store: Store, request: Request) -> Answer:
    """`dbs` and `dbs/D`."""
    if len(request.path) == 1:
        if request.method == "POST" and not request.is_query:
            body = parse_json(request.body)
            name = policies.checked_name(body)
            if store.database(name) is not None:
                raise CosmosError(409, f"A database with the id {name!r} already exists.")
            rid = resource_id("", store.next_number())
            created = {"id": name, **_system(rid, f"dbs/{rid}/")}
            created |= {"_colls": "colls/", "_users": "users/"}
            store.put_database(created)
            _make_offer(store, request, created, default=None)
            return Answer(201, created, {"etag": created["_etag"]})
        return _listed(request, store.databases(), "Databases", "")
    found = store.database(request.path[1])
    if found is None:
        raise CosmosError(404, f"There is no database {request.path[1]!r}.")
    if request.method == "GET":
        return Answer(200, found, {"etag": found["_etag"]})
    if request.method == "DELETE":
        store.drop_database(found)
        return Answer(204)
    raise unsupported(f"{request.method} on a database")


def containers(store: Store, request: Request) -> Answer:
    """`dbs/D/colls` and `dbs/D/colls/C`."""
    database = store.database(request.path[1])
    if database is None:
        raise CosmosError(
            404,
            f"Owner resource does not exist: no database {request.path[1]!r}.",
            substatus=OWNER_NOT_FOUND,
        )
    if len(request.path) == 3:
        if request.method == "POST" and not request.is_query:
            return _create_container(store, request, database)
        bodies = [container.body for container in store.containers(database["id"])]
        return _listed(request, bodies, "DocumentCollections", database["_rid"])
    container = find_container(store, request.path)
    if request.method == "GET":
        etag = container.body["_etag"]
        if request.headers.get("If-None-Match") == etag:
            raise CosmosError(304, "Not modified.", headers={"etag": etag})
        return Answer(200, container.body, {"etag": etag})
    wanted = request.headers.get("If-Match")
    if wanted not in (None, "*", container.body["_etag"]):
        raise CosmosError(412, "The container has changed since its ETag was read.")
    if request.method == "DELETE":
        store.drop_container(container)
        return Answer(204)
    if request.method == "PUT":
        body = policies.checked_container(parse_json(request.body), container)
        kept = {key: container.body[key] for key in container.body if key.startswith("_")}
        body |= kept | {"_etag": _etag(), "_ts": int(time.time())}
        store.put_container(Container(container.database, body))
        return Answer(200, body, {"etag": body["_etag"]})
    raise unsupported(f"{request.method} on a container")


def _create_container(store: Store, request: Request, database: Json) -> Answer:
    sent = parse_json(request.body)
    name = policies.checked_name(sent)
    if store.container(database["id"], name) is not None:
        raise CosmosError(409, f"A container with the id {name!r} already exists.")
    body = policies.checked_container(sent)
    shared = any(offer["resource"] == database["_self"] for offer in store.offers())
    if shared and "vectorEmbeddingPolicy" in body:
        raise bad_request(
            "A container with a vector policy cannot share its database's throughput."
        )
    rid = resource_id(database["_rid"], store.next_number())
    body |= _system(rid, f"{database['_self']}colls/{rid}/")
    body |= {key: f"{key[1:]}/" for key in ("_docs", "_sprocs", "_triggers", "_udfs", "_conflicts")}
    store.put_container(Container(database["id"], body))
    _make_offer(store, request, body, default=None if shared else _MIN_THROUGHPUT)
    return Answer(201, body, {"etag": body["_etag"]})


def partition_ranges(store: Store, request: Request) -> Answer:
    """`dbs/D/colls/C/pkranges`: every container is one physical partition."""
    container = find_container(store, request.path)
    # The SDK reads the ranges as a change feed and asks until it hears 304.
    etag = f'"{container.rid}-0"'
    if request.headers.get("If-None-Match") == etag:
        raise CosmosError(304, "Not modified.", headers={"etag": etag})
    rid = resource_id(container.rid, 0, 8)
    whole = {
        **_system(rid, f"{container.body['_self']}pkranges/{rid}/"),
        "id": "0",
        "minInclusive": "",
        "maxExclusive": "FF",
        "ridPrefix": 0,
        "throughputFraction": 1,
        "status": "online",
        "parents": [],
    }
    body = {"_rid": container.rid, "PartitionKeyRanges": [whole], "_count": 1}
    return Answer(200, body, {"etag": etag, "x-ms-item-count": "1"})


def offers(store: Store, request: Request) -> Answer:
    """`offers` and `offers/RID`: provisioned throughput, kept but not enforced."""
    if len(request.path) == 1:
        if request.method not in ("GET", "POST"):
            raise unsupported(f"{request.method} on offers")
        return _listed(request, store.offers(), "Offers", "")
    found = next((offer for offer in store.offers() if offer["_rid"] == request.path[1]), None)
    if found is None:
        raise CosmosError(404, "There is no offer with this resource id.")
    if request.method == "PUT":
        sent = parse_json(request.body)
        content = (sent.get("content") if isinstance(sent, dict) else None) or {}
        if content.get("offerAutopilotSettings"):
            raise unsupported("autoscale throughput")
        units = _checked_throughput(content.get("offerThroughput"))
        found |= {"_etag": _etag(), "_ts": int(time.time())}
        found["content"]["offerThroughput"] = units
        store.put_offer(found)
    elif request.method != "GET":
        raise unsupported(f"{request.method} on an offer")
    return Answer(200, found, {"etag": found["_etag"]})


def _make_offer(store: Store, request: Request, resource: Json, default: int | None) -> None:
    if request.headers.get("x-ms-cosmos-offer-autopilot-settings"):
        raise unsupported("autoscale throughput")
    header = request.headers.get("x-ms-offer-throughput")
    if header is None and default is None:
        return
    units = _checked_throughput(int(header) if header and header.isdecimal() else header or default)
    rid = resource_id("", store.next_number(), 3)
    store.put_offer(
        {
            **_system(rid, f"offers/{rid}/"),
            "id": rid,
            "resource": resource["_self"],
            "offerResourceId": resource["_rid"],
            "offerType": "Invalid",
            "offerVersion": "V2",
            "content": {"offerThroughput": units, "offerIsRUPerMinuteThroughputEnabled": False},
        }
    )


def _checked_throughput(units: Any) -> int:
    if type(units) is not int or units < _MIN_THROUGHPUT or units % 100:
        raise bad_request("The throughput must be at least 400 RU/s and a multiple of 100.")
    return units


def _listed(request: Request, bodies: list[Json], name: str, rid: str) -> Answer:
    """A list of resources, filtered when the request is a query."""
    if request.method == "POST":
        query = parse_query(request.body)
        if query.order or query.projection is not None or query.top or query.limit is not None:
            raise unsupported("queries other than SELECT * … WHERE … on resources")
        if query.where is not None:
            # No policy of a container plays a part in a filter over resources.
            holds = evaluate.compiled(query.where, Container("", {}))
            bodies = [body for body in bodies if holds(body) is True]
    elif request.method != "GET":
        raise unsupported(f"{request.method} on {'/'.join(request.path)}")
    body = {"_rid": rid, name: bodies, "_count": len(bodies)}
    return Answer(200, body, {"x-ms-item-count": str(len(bodies))})


@functools.lru_cache(maxsize=16)
def parse_query(raw: bytes) -> syntax.Query:
    """Parses the body of a query request: `{"query": text, "parameters": [...]}`.

    Cached because every page of a result comes with the whole query: read_items sends a thousand
    conditions ten times.
    """
    body = parse_json(raw)
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        raise bad_request("A query must be a JSON object with the text under query.")
    given: dict[str, Any] = {}
    for parameter in body.get("parameters") or []:
        if not isinstance(parameter, dict) or "value" not in parameter:
            raise bad_request("A query parameter must be an object with a name and a value.")
        given[str(parameter.get("name"))] = parameter["value"]
    return sql.parse(body["query"], given)


def _etag() -> str:
    return f'"{uuid.uuid4()}"'


def _system(rid: str, link: str) -> Json:
    return {"_rid": rid, "_self": link, "_etag": _etag(), "_ts": int(time.time())}
