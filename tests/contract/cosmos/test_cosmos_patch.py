"""Partial updates: each operation on properties and on arrays."""

from __future__ import annotations

from typing import Any

import pytest
from azure.cosmos import ContainerProxy
from azure.cosmos.exceptions import CosmosAccessConditionFailedError

from tests.contract.cosmos.account import item, refused

pytestmark = pytest.mark.requires("patch")
STRICT = pytest.mark.requires("errors")

BEFORE: dict[str, Any] = {"n": 1, "list": [1, 3], "text": "t", "object": {"a": 1}, "a/b": 0}


def op(kind: str, path: str, *value: Any, **more: Any) -> dict[str, Any]:
    return {"op": kind, "path": path} | ({"value": value[0]} if value else {}) | more


@pytest.mark.parametrize(
    ("operation", "changed"),
    [
        (op("add", "/new", 2), {"new": 2}),
        (op("add", "/n", 2), {"n": 2}),
        (op("add", "/list/1", 2), {"list": [1, 2, 3]}),
        (op("add", "/list/2", 4), {"list": [1, 3, 4]}),
        (op("add", "/list/-", 4), {"list": [1, 3, 4]}),
        (op("set", "/new", {"a": 1}), {"new": {"a": 1}}),
        (op("set", "/object/b", None), {"object": {"a": 1, "b": None}}),
        (op("set", "/list/1", 2), {"list": [1, 2]}),
        (op("replace", "/text", [1]), {"text": [1]}),
        (op("replace", "/object/a", 2), {"object": {"a": 2}}),
        (op("replace", "/list/0", 9), {"list": [9, 3]}),
        (op("incr", "/n", 4), {"n": 5}),
        (op("incr", "/n", -0.5), {"n": 0.5}),
        (op("incr", "/new", 7), {"new": 7}),
        (op("set", "/a~1b", 1), {"a/b": 1}),
        (op("remove", "/list/0"), {"list": [3]}),
    ],
)
def test_an_operation_changes_what_it_names(
    container: ContainerProxy, name: str, operation: dict[str, Any], changed: dict[str, Any]
) -> None:
    container.create_item(item(name, **BEFORE))
    container.patch_item(name, name, [operation])
    read = container.read_item(name, name)
    assert {k: v for k, v in read.items() if k[0] != "_"} == item(name, **(BEFORE | changed))


def test_a_removed_property_is_gone(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name, **BEFORE))
    container.patch_item(name, name, [op("remove", "/text"), op("remove", "/object/a")])
    read = container.read_item(name, name)
    assert "text" not in read
    assert read["object"] == {}


@pytest.mark.parametrize("to", ["/new", "/n", "/object/b"])
def test_a_moved_property_has_one_place(container: ContainerProxy, name: str, to: str) -> None:
    container.create_item(item(name, **BEFORE))
    container.patch_item(name, name, [op("move", to, **{"from": "/text"})])
    read = container.read_item(name, name)
    assert "text" not in read
    place = read["object"] if to.startswith("/object") else read
    assert place[to.rpartition("/")[2]] == "t"


@pytest.mark.parametrize(
    "operation",
    [
        op("add", "/list/4", 1),
        pytest.param(op("add", "/absent/x", 1), marks=STRICT),
        op("replace", "/absent", 1),
        op("replace", "/list/2", 1),
        op("remove", "/absent"),
        op("remove", "/list/2"),
        op("incr", "/text", 1),
        op("incr", "/n", "1"),
        op("set", "/id", "other"),
        op("set", "/item_id", "other"),
        op("remove", "/item_id"),
        op("set", "no-slash", 1),
        pytest.param(op("set", "/n"), marks=STRICT),
        op("unknown", "/n", 1),
        op("move", "/x", **{"from": "/absent"}),
        op("move", "/x", **{"from": "/id"}),
        op("move", "/object/x", **{"from": "/object"}),
        op("move", "/x"),
        {},
    ],
)
def test_an_operation_that_cannot_be_done_changes_nothing(
    container: ContainerProxy, name: str, operation: dict[str, Any]
) -> None:
    before = container.create_item(item(name, **BEFORE))
    with refused(400):
        container.patch_item(name, name, [op("set", "/other", 1), operation])
    assert container.read_item(name, name)["_etag"] == before["_etag"]


def test_operations_are_done_in_order(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name))
    container.patch_item(
        name, name, [op("set", "/a", [1]), op("add", "/a/-", 2), op("incr", "/a/1", 5)]
    )
    assert container.read_item(name, name)["a"] == [1, 7]


@pytest.mark.requires("limits")
def test_a_patch_has_at_most_ten_operations(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name, n=0))
    container.patch_item(name, name, [op("incr", "/n", 1)] * 10)
    with refused(400):
        container.patch_item(name, name, [op("incr", "/n", 1)] * 11)
    assert container.read_item(name, name)["n"] == 10


@pytest.mark.requires("query")
def test_a_patch_may_have_a_condition(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name, n=1))
    more = [op("incr", "/n", 1)]
    with pytest.raises(CosmosAccessConditionFailedError):
        container.patch_item(name, name, more, filter_predicate="FROM c WHERE c.n = 2")
    container.patch_item(name, name, more, filter_predicate="FROM c WHERE c.n = 1")
    assert container.read_item(name, name)["n"] == 2
