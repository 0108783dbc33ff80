"""Point operations: create, read, replace, upsert, delete, and what names an item."""

from __future__ import annotations

import math
import struct
import time
from typing import Any

import pytest
from azure.cosmos import ContainerProxy
from azure.cosmos.exceptions import CosmosResourceExistsError, CosmosResourceNotFoundError
from azure.cosmos.partition_key import NonePartitionKeyValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.cosmos.account import Account, item, refused, select

STRICT = pytest.mark.requires("errors")


def test_an_item_comes_back_with_system_properties(container: ContainerProxy, name: str) -> None:
    sent = item(name, text="Grüße 🌍", nothing=None, list=[1, {"a": []}], yes=True)
    container.create_item(sent)
    read = container.read_item(name, name)
    assert {key: read[key] for key in sent} == sent
    assert {"_rid", "_self", "_etag", "_ts"} <= set(read)
    assert abs(read["_ts"] - time.time()) < 600


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_float32_vector_comes_back_bit_for_bit(
    container: ContainerProxy, values: list[float]
) -> None:
    values = [value + 0.0 for value in values]  # the sign of zero is another matter
    container.upsert_item(item("vector", vector=values))
    read = container.read_item("vector", "vector")["vector"]
    assert struct.pack(f"{len(values)}f", *read) == struct.pack(f"{len(values)}f", *values)


@pytest.mark.requires("local")
def test_zero_keeps_its_sign(container: ContainerProxy, name: str) -> None:
    container.upsert_item(item(name, zeros=[-0.0, 0.0]))
    assert [math.copysign(1, x) for x in container.read_item(name, name)["zeros"]] == [-1, 1]


def test_numbers_keep_their_value(container: ContainerProxy, name: str) -> None:
    numbers = [0.1, 1e-300, 1.7976931348623157e308, 2**53, -(2**53), 0.5, 5e-324]
    container.upsert_item(item(name, numbers=numbers))
    assert container.read_item(name, name)["numbers"] == numbers


def test_create_refuses_what_exists(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name, n=1))
    with pytest.raises(CosmosResourceExistsError):
        container.create_item(item(name, n=2))
    assert container.read_item(name, name)["n"] == 1


def test_upsert_creates_and_replaces(container: ContainerProxy, name: str) -> None:
    first = container.upsert_item(item(name, n=1, old=True))
    second = container.upsert_item(item(name, n=3))
    assert second["_etag"] != first["_etag"]
    read = container.read_item(name, name)
    assert read["n"] == 3
    assert "old" not in read


def test_replace_takes_the_place_of_the_whole_item(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name, n=1, old=True))
    container.replace_item(name, item(name, n=2))
    read = container.read_item(name, name)
    assert read["n"] == 2
    assert "old" not in read


@pytest.mark.requires("errors")
def test_a_replace_cannot_change_the_id(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name))
    with refused(400):
        container.replace_item(name, {"id": "other", "item_id": name})


def test_a_deleted_item_is_gone_and_its_place_is_free(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name, n=1))
    container.delete_item(name, name)
    assert container.create_item(item(name, n=2))["n"] == 2


@pytest.mark.parametrize(
    "operation", [pytest.param("read", marks=STRICT), "delete", "replace", "patch"]
)
def test_a_missing_item_is_404(container: ContainerProxy, name: str, operation: str) -> None:
    operations: dict[str, Any] = {
        "read": lambda: container.read_item(name, name),
        "delete": lambda: container.delete_item(name, name),
        "replace": lambda: container.replace_item(name, item(name)),
        "patch": lambda: container.patch_item(
            name, name, [{"op": "add", "path": "/n", "value": 1}]
        ),
    }
    with pytest.raises(CosmosResourceNotFoundError):
        operations[operation]()


@pytest.mark.requires("keys")
def test_the_same_id_under_two_keys_is_two_items(container: ContainerProxy, name: str) -> None:
    container.upsert_item({"id": name, "item_id": 5, "n": "number"})
    container.upsert_item({"id": name, "item_id": "5", "n": "text"})
    assert container.read_item(name, 5)["n"] == "number"
    assert container.read_item(name, 5.0)["n"] == "number"
    assert container.read_item(name, "5")["n"] == "text"
    container.delete_item(name, 5)
    assert container.read_item(name, "5")["n"] == "text"


@pytest.mark.requires("keys")
def test_null_booleans_and_absence_are_keys_of_their_own(
    container: ContainerProxy, name: str
) -> None:
    keys: list[Any] = [None, True, False, "", "true", 0, NonePartitionKeyValue]
    for number, key in enumerate(keys):
        body = {"id": name, "n": number}
        container.create_item(body if key is NonePartitionKeyValue else body | {"item_id": key})
    found = [container.read_item(name, key)["n"] for key in keys]
    assert found == list(range(len(keys)))


@pytest.mark.requires("keys")
def test_a_key_that_differs_from_the_item_is_400(
    account: Account, documents: str, name: str
) -> None:
    headers = {"x-ms-documentdb-partitionkey": '["another"]'}
    reply = account.send("POST", documents, item(name), headers)
    assert (reply.status, reply.headers.get("x-ms-substatus")) == (400, "1001")


@pytest.mark.requires("keys")
def test_a_write_without_a_key_is_400(account: Account, documents: str, name: str) -> None:
    assert account.send("POST", documents, item(name)).status == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"[]",
        b"7",
        *(
            pytest.param(sent, marks=STRICT)
            for sent in (b"{", b'{"id": "a", "item_id": NaN}', b"\xff")
        ),
    ],
)
def test_what_is_no_json_object_is_400(account: Account, documents: str, sent: bytes) -> None:
    headers = {"x-ms-documentdb-partitionkey": '["a"]', "Content-Type": "application/json"}
    assert account.send("POST", documents, sent, headers).status == 400


@pytest.mark.parametrize(
    "body", [{}, {"id": None}, {"id": ""}, pytest.param({"id": 5}, marks=STRICT)]
)
def test_an_item_needs_an_id(
    account: Account, documents: str, name: str, body: dict[str, Any]
) -> None:
    headers = {"x-ms-documentdb-partitionkey": f'["{name}"]'}
    assert account.send("POST", documents, body | {"item_id": name}, headers).status == 400


@pytest.mark.requires("errors")
def test_numbers_that_json_does_not_have_are_refused(container: ContainerProxy, name: str) -> None:
    with refused(400):
        container.upsert_item(item(name, n=float("nan")))


@pytest.mark.requires("addresses")
@pytest.mark.parametrize(
    "odd",
    ["a b", "a%20b", "ä+ö", "a&b=c", "\u65e5\u672c", "x'y\"z", "...", "a:b;c,d", "🌍", "a@b$"],
)
def test_an_id_with_odd_characters_has_an_address(container: ContainerProxy, odd: str) -> None:
    container.upsert_item(item(odd, n=odd))
    assert container.read_item(odd, odd)["n"] == odd
    container.delete_item(odd, odd)
    with pytest.raises(CosmosResourceNotFoundError):
        container.read_item(odd, odd)


@pytest.mark.requires("minimal")
def test_a_write_without_response_body_tells_its_etag(container: ContainerProxy, name: str) -> None:
    seen: dict[str, str] = {}
    answer = container.upsert_item(
        item(name), no_response=True, response_hook=lambda headers, _: seen.update(headers)
    )
    lower = {key.lower(): value for key, value in seen.items()}
    assert lower["etag"] == container.read_item(name, name)["_etag"]
    assert not answer


@pytest.mark.requires("charges")
def test_charges_grow_with_the_size(container: ContainerProxy, name: str) -> None:
    def charge(size: int) -> tuple[float, float]:
        charges: list[float] = []

        def note(headers: Any, _: Any) -> None:
            lower = {key.lower(): value for key, value in headers.items()}
            charges.append(float(lower["x-ms-request-charge"]))

        container.upsert_item(item(name, text="x" * size), response_hook=note)
        container.read_item(name, name, response_hook=note)
        return charges[0], charges[1]

    small, large = charge(1000), charge(100_000)
    assert small[0] > small[1] >= 1
    assert large[0] > 2 * small[0]
    assert large[1] > 2 * small[1]


@pytest.mark.requires("query")
def test_sql_in_a_value_is_only_text(container: ContainerProxy, name: str) -> None:
    for text in ("' OR 1=1 --", '"; DROP TABLE items', "\\' OR true", "{{x}}", "@q"):
        container.upsert_item(item(name, text=text))
        found = select(
            container,
            "SELECT VALUE c.text FROM c WHERE c.id = @id AND c.text = @text",
            parameters=[{"name": "@id", "value": name}, {"name": "@text", "value": text}],
        )
        assert found == [text]
