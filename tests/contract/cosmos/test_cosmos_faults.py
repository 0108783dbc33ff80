# ruff: noqa: S608 (the texts are Cosmos SQL, put together from constants)
"""Faults and the request unit budget, which only the local endpoint has."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.cosmos import ContainerProxy, DatabaseProxy
from azure.cosmos.exceptions import CosmosHttpResponseError

from tests.contract.cosmos.account import Account, item, refused, select

pytestmark = pytest.mark.requires("local")


@pytest.fixture
def faults(account: Account) -> Iterator[Any]:
    def call(method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310
            f"{account.url}/_local/faults",
            json.dumps(body).encode() if body else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            state: dict[str, Any] = json.load(response)
            return state

    yield call
    call("DELETE")


def test_a_status_fault_strikes_as_often_as_it_says(
    container: ContainerProxy, faults: Any, name: str
) -> None:
    faults("PUT", {"rules": [{"operations": ["upsert"], "status": 449, "count": 2, "skip": 1}]})
    codes: list[int | None] = []
    for _ in range(4):
        try:
            container.upsert_item(item(name))
            codes.append(200)
        except CosmosHttpResponseError as error:
            codes.append(error.status_code)
    assert codes == [200, 449, 449, 200]
    assert faults("GET")["rules"][0]["fired"] == 2


def test_a_random_fault_repeats_with_its_seed(
    container: ContainerProxy, faults: Any, name: str
) -> None:
    def pattern() -> list[bool]:
        rule = {"operations": ["replace"], "status": 400, "rate": 0.5, "seed": 11}
        faults("PUT", {"rules": [rule]})
        struck = []
        for _ in range(12):
            try:
                container.replace_item(name, item(name))
                struck.append(False)
            except CosmosHttpResponseError:
                struck.append(True)
        return struck

    container.upsert_item(item(name))
    first = pattern()
    assert pattern() == first
    assert 0 < sum(first) < 12


def test_a_dropped_answer_may_hide_a_done_write(
    container: ContainerProxy, faults: Any, name: str
) -> None:
    for when, done in (("before", False), ("after", True)):
        rule = {"operations": ["create"], "drop": True, "when": when}
        faults("PUT", {"rules": [rule]})
        with pytest.raises((ServiceResponseError, ServiceRequestError)):
            container.create_item(item(f"{name}-{when}"))
        faults("DELETE")
        found = select(container, f"SELECT * FROM c WHERE c.id = '{name}-{when}'")
        assert bool(found) is done


def test_a_spent_budget_throttles_and_the_sdk_waits(
    account: Account, container: ContainerProxy, database: DatabaseProxy, faults: Any
) -> None:
    faults("PUT", {"ru_per_second": 200})
    patient = account.connect(retry_throttle_total=50, retry_throttle_backoff_max=60)
    target = patient.get_database_client(database.id).get_container_client(container.id)
    for i in range(60):
        target.upsert_item(item(f"throttled-{i}"))
    assert faults("GET")["throttled"] > 0


def test_a_throttled_request_hears_how_long_to_wait(
    account: Account, container: ContainerProxy, database: DatabaseProxy, faults: Any
) -> None:
    async def burst() -> list[Any]:
        async with account.connect_async(retry_throttle_total=1) as client:
            target = client.get_database_client(database.id).get_container_client(container.id)
            writes = (target.upsert_item(item(f"burst-{i}")) for i in range(12))
            return await asyncio.gather(*writes, return_exceptions=True)

    faults("PUT", {"ru_per_second": 10})
    refused = [each for each in asyncio.run(burst()) if isinstance(each, CosmosHttpResponseError)]
    assert refused
    for error in refused:
        assert (error.status_code, error.sub_status) == (429, 3200)
        assert int(error.headers["x-ms-retry-after-ms"]) > 0


def test_a_delayed_request_holds_up_no_other(
    account: Account, container: ContainerProxy, database: DatabaseProxy, faults: Any, name: str
) -> None:
    container.upsert_item(item(name))

    async def race() -> list[str]:
        ended: list[str] = []
        async with account.connect_async() as client:
            target = client.get_database_client(database.id).get_container_client(container.id)

            async def run(what: str, operation: Any) -> None:
                await operation
                ended.append(what)

            await asyncio.gather(
                run("delayed", target.upsert_item(item(name, n=1))),
                run("read", target.read_item(name, name)),
            )
        return ended

    faults("PUT", {"rules": [{"operations": ["upsert"], "delay_ms": 700}]})
    assert asyncio.run(race()) == ["read", "delayed"]
    assert container.read_item(name, name)["n"] == 1


def test_a_fault_may_be_for_one_container(
    container: ContainerProxy, catalogue: ContainerProxy, faults: Any, name: str
) -> None:
    faults("PUT", {"rules": [{"container": catalogue.id, "status": 400}]})
    container.upsert_item(item(name))
    with refused(400):
        catalogue.read_item("i01", "i01")


def test_the_sdk_waits_as_long_as_a_fault_says(
    container: ContainerProxy, faults: Any, name: str
) -> None:
    rule = {"operations": ["upsert"], "status": 429, "retry_after_ms": 5, "count": 2}
    faults("PUT", {"rules": [rule]})
    container.upsert_item(item(name))
    assert faults("GET")["rules"][0]["fired"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {"rules": [{"operations": ["upsert"]}]},
        {"rules": [{"statsu": 500}]},
        {"rules": [{"status": "500"}]},
        {"rules": [{"status": 500, "count": -1}]},
        {"rules": [{"status": 500, "when": "later"}]},
        {"rules": [{"status": 500, "operations": ["upsrt"]}]},
        {"rules": [7]},
        {"rules": {}},
        {"ru_per_second": 0},
        {"ru_per_second": "many"},
        {"x": 1},
    ],
)
def test_faults_are_checked_when_set(faults: Any, body: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        faults("PUT", body)
    assert caught.value.code == 400
