"""Whatever is sent is served or refused in a sentence; nothing is a fault of the endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.cosmos import documents, policies
from infra.local.cosmos.documents import Kind, Operation
from infra.local.cosmos.errors import CosmosError
from infra.local.cosmos.faults import Faults
from infra.local.cosmos.store import Container, Store

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5000),
    st.floats(),
    st.sampled_from(["", "/", "/*", "/v", "/a/?", "id", "flat", "diskANN", "float32", "set", "-"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["path", "a"]), inner)
    ),
    max_leaves=6,
)


def described(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these keys and any values."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))


indexings = described("indexingMode", "includedPaths", "excludedPaths", "automatic") | (
    st.fixed_dictionaries(
        {"includedPaths": st.just([{"path": "/*"}])},
        optional={
            "compositeIndexes": st.lists(st.lists(described("path", "order") | values)) | values,
            "vectorIndexes": st.lists(described("path", "type", "quantizationByteSize")) | values,
        },
    )
)
embeddings = described("path", "dataType", "dimensions", "distanceFunction")
containers = st.fixed_dictionaries(
    {"id": st.just("c"), "partitionKey": st.just({"paths": ["/p"], "kind": "Hash"}) | values},
    optional={
        "indexingPolicy": indexings | values,
        "vectorEmbeddingPolicy": st.fixed_dictionaries(
            {"vectorEmbeddings": st.lists(embeddings) | values}
        )
        | values,
        "defaultTtl": values,
        "uniqueKeyPolicy": values,
    },
)
operations = described("op", "path", "from", "value") | st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "set", "replace", "remove", "incr", "move"]),
        "path": st.sampled_from(["/a", "/l", "/l/0", "/l/-", "/o/x", "/o/x/y", "/", "/p", "/id"]),
    },
    optional={"from": st.sampled_from(["/a", "/l/0", "/o", "/id", "/_ts"]), "value": values},
)
rules = described(
    "operations", "container", "status", "substatus", "retry_after_ms", "delay_ms", "drop", "when",
    "count", "rate", "seed", "skip",
)  # fmt: skip


@given(containers | values)
def test_a_container_is_made_or_refused(body: Any) -> None:
    try:
        made = policies.checked_container(body)
    except CosmosError as error:
        assert error.status == 400
    else:
        assert policies.checked_container(made) == made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("store")
    store = Store(folder)
    yield store
    store.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({"operations": st.lists(operations | values) | values}) | values)
def test_a_patch_is_done_or_changes_nothing(store: Store, body: Any) -> None:
    place = {"id": "c", "partitionKey": {"paths": ["/p"], "kind": "Hash"}, "indexingPolicy": {}}
    container = Container(
        "d", {**policies.checked_container(place), "_rid": "AAAAAQAAAAI=", "_self": "dbs/d/"}
    )
    item = {"id": "i", "p": "k", "a": 1, "l": [1, 2], "o": {"x": "text"}}

    def apply(kind: Kind, document: Any) -> documents.Outcome:
        with store.transaction():
            return documents.apply(
                store, container, Operation(kind, '["k"]', "i", document, len(str(document)))
            )

    before = apply("Upsert", dict(item))
    try:
        after = apply("Patch", body)
    except CosmosError as error:
        assert error.status in (400, 412)
        after = before
    assert apply("Read", None).body == after.body


@given(st.fixed_dictionaries({"rules": st.lists(rules | values) | values}) | values)
def test_faults_are_taken_or_refused_and_then_can_strike(body: Any) -> None:
    faults = Faults()
    try:
        faults.configure(body)
    except CosmosError as error:
        assert error.status == 400
        assert faults.rules == []
    if (fault := faults.choose("upsert", "c")) is not None:
        fault.error()
