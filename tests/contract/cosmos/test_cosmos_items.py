# ruff: noqa: S608 (the texts are Cosmos SQL, put together from constants)
"""Point operations: keys, ETags, limits, expiry."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.cosmos import ContainerProxy, DatabaseProxy
from azure.cosmos.aio import CosmosClient as AsyncCosmosClient
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def item(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "item_id": name, **fields}


def select(container: ContainerProxy, text: str, **options: Any) -> list[Any]:
    return list(container.query_items(text, enable_cross_partition_query=True, **options))


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
    container.upsert_item(item("vector", vector=values))
    read = container.read_item("vector", "vector")["vector"]
    assert struct.pack(f"{len(values)}f", *read) == struct.pack(f"{len(values)}f", *values)


def test_create_refuses_what_exists_and_upsert_replaces_it(
    container: ContainerProxy, name: str
) -> None:
    first = container.create_item(item(name, n=1))
    with pytest.raises(CosmosResourceExistsError):
        container.create_item(item(name, n=2))
    second = container.upsert_item(item(name, n=3))
    assert second["_etag"] != first["_etag"]
    assert container.read_item(name, name)["n"] == 3


def test_a_missing_item_is_404(container: ContainerProxy, name: str) -> None:
    for operation in (
        lambda: container.read_item(name, name),
        lambda: container.delete_item(name, name),
        lambda: container.replace_item(name, item(name)),
        lambda: container.patch_item(name, name, [{"op": "add", "path": "/n", "value": 1}]),
    ):
        with pytest.raises(CosmosResourceNotFoundError):
            operation()


def test_the_same_id_under_two_keys_is_two_items(container: ContainerProxy, name: str) -> None:
    container.upsert_item({"id": name, "item_id": 5, "n": "number"})
    container.upsert_item({"id": name, "item_id": "5", "n": "text"})
    assert container.read_item(name, 5)["n"] == "number"
    assert container.read_item(name, 5.0)["n"] == "number"
    assert container.read_item(name, "5")["n"] == "text"
    container.delete_item(name, 5)
    assert container.read_item(name, "5")["n"] == "text"


def test_ids_with_odd_characters_have_an_address(container: ContainerProxy) -> None:
    for odd in ("a b", "a%20b", "ä+ö", "a&b=c", "\u65e5\u672c", "x'y\"z", "..."):
        container.upsert_item(item(odd, n=odd))
        assert container.read_item(odd, odd)["n"] == odd
        container.delete_item(odd, odd)


@pytest.mark.parametrize("bad", ["a/b", "a\\b", "a?b", "a#b", "x" * 1024])
def test_ids_that_have_no_address_are_refused(container: ContainerProxy, bad: str) -> None:
    # The SDK itself refuses some of them before they reach the wire.
    with pytest.raises((CosmosHttpResponseError, ValueError)) as caught:
        container.upsert_item(item(bad))
    assert getattr(caught.value, "status_code", 400) == 400


def test_numbers_that_json_does_not_have_are_refused(container: ContainerProxy, name: str) -> None:
    with pytest.raises(CosmosHttpResponseError) as caught:
        container.upsert_item(item(name, n=float("nan")))
    assert caught.value.status_code == 400


@pytest.mark.requires("large")
def test_an_item_over_two_megabytes_is_413(container: ContainerProxy, name: str) -> None:
    container.upsert_item(item(name, text="x" * (2 * 1024 * 1024 - 4096)))
    with pytest.raises(CosmosHttpResponseError) as caught:
        container.upsert_item(item(name, text="x" * (2 * 1024 * 1024)))
    assert caught.value.status_code == 413
    container.delete_item(name, name)


def test_a_replace_with_an_old_etag_is_412(container: ContainerProxy, name: str) -> None:
    old = container.create_item(item(name, n=1))
    new = container.replace_item(
        name, item(name, n=2), etag=old["_etag"], match_condition=MatchConditions.IfNotModified
    )
    with pytest.raises(CosmosAccessConditionFailedError):
        container.replace_item(
            name, item(name, n=3), etag=old["_etag"], match_condition=MatchConditions.IfNotModified
        )
    with pytest.raises(CosmosAccessConditionFailedError):
        container.delete_item(
            name, name, etag=old["_etag"], match_condition=MatchConditions.IfNotModified
        )
    read = container.read_item(name, name)
    assert (read["n"], read["_etag"]) == (2, new["_etag"])


def test_of_concurrent_replaces_with_one_etag_one_wins(
    endpoint: str, key: str, container: ContainerProxy, database: DatabaseProxy, name: str
) -> None:
    old = container.create_item(item(name, n=0))

    async def race() -> list[Any]:
        async with AsyncCosmosClient(endpoint, key, enable_endpoint_discovery=False) as client:
            target = client.get_database_client(database.id).get_container_client(container.id)
            return await asyncio.gather(
                *(
                    target.replace_item(
                        name,
                        item(name, n=n),
                        etag=old["_etag"],
                        match_condition=MatchConditions.IfNotModified,
                    )
                    for n in range(1, 9)
                ),
                return_exceptions=True,
            )

    results = asyncio.run(race())
    winners = [result for result in results if not isinstance(result, BaseException)]
    assert len(winners) == 1
    assert all(r.status_code == 412 for r in results if isinstance(r, CosmosHttpResponseError))
    assert container.read_item(name, name)["n"] == winners[0]["n"]


def test_a_read_with_the_present_etag_is_304(container: ContainerProxy, name: str) -> None:
    etag = container.create_item(item(name))["_etag"]
    condition = MatchConditions.IfModified
    # 304 has no body, and the SDK hands over just that.
    assert not container.read_item(name, name, etag=etag, match_condition=condition)
    container.upsert_item(item(name, n=1))
    assert container.read_item(name, name, etag=etag, match_condition=condition)["n"] == 1


def test_a_write_without_response_body_still_tells_its_etag_and_charge(
    container: ContainerProxy, name: str
) -> None:
    seen: dict[str, str] = {}
    answer = container.upsert_item(
        item(name), no_response=True, response_hook=lambda headers, _: seen.update(headers)
    )
    assert not answer
    lower = {key.lower(): value for key, value in seen.items()}
    assert lower["etag"] == container.read_item(name, name)["_etag"]
    assert float(lower["x-ms-request-charge"]) > 1
    assert lower["x-ms-session-token"].startswith("0:")


@pytest.mark.requires("ttl")
def test_an_item_expires_after_its_ttl(container: ContainerProxy, name: str) -> None:
    container.create_item(item(name, ttl=1))
    container.create_item(item(f"{name}-stays"))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            container.read_item(name, name)
        except CosmosResourceNotFoundError:
            break
        time.sleep(0.2)
    else:
        pytest.fail("the item did not expire")
    where = f"SELECT VALUE c.id FROM c WHERE STARTSWITH(c.id, '{name}')"
    assert select(container, where) == [f"{name}-stays"]
    container.create_item(item(name))  # an expired item's place is free


def test_a_ttl_must_be_a_positive_number(container: ContainerProxy, name: str) -> None:
    for ttl in (0, -2, "1", 1.5):
        with pytest.raises(CosmosHttpResponseError) as caught:
            container.create_item(item(name, ttl=ttl))
        assert caught.value.status_code == 400
    container.create_item(item(name))  # nothing of the refused ones was left behind
