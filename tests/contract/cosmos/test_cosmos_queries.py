# ruff: noqa: S608 (the texts are Cosmos SQL, put together from constants)
"""Feeds, pages and queries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from azure.cosmos import ContainerProxy, DatabaseProxy, PartitionKey
from azure.cosmos.aio import CosmosClient as AsyncCosmosClient
from azure.cosmos.exceptions import (
    CosmosHttpResponseError,
)


def item(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "item_id": name, **fields}


def select(container: ContainerProxy, text: str, **options: Any) -> list[Any]:
    return list(container.query_items(text, enable_cross_partition_query=True, **options))


@pytest.fixture(scope="module")
def catalogue(database: DatabaseProxy, indexing: dict[str, Any]) -> ContainerProxy:
    """Forty items in two groups; every fourth has no rank."""
    container = database.create_container(
        "catalogue", PartitionKey("/item_id"), indexing_policy=indexing
    )
    for i in range(40):
        item: dict[str, Any] = {
            "id": f"i{i:02}",
            "item_id": f"i{i:02}",
            "group": "even" if i % 2 == 0 else "odd",
            "tags": ["x", "y", "z"][: i % 4],
            "nested": {"list": [i, {"deep": i}]},
        }
        container.upsert_item(item | ({"rank": i} if i % 4 else {}))
    return container


def test_pages_continue_where_they_ended(catalogue: ContainerProxy) -> None:
    pager: Any = catalogue.query_items(
        "SELECT VALUE c.id FROM c", max_item_count=15, enable_cross_partition_query=True
    ).by_page()
    first = list(next(pager))
    token = pager.continuation_token
    assert len(first) == 15
    assert token
    rest: Any = catalogue.query_items(
        "SELECT VALUE c.id FROM c", max_item_count=15, enable_cross_partition_query=True
    )
    others = [item_id for page in rest.by_page(token) for item_id in page]
    assert sorted(first + others) == [f"i{i:02}" for i in range(40)]
    assert len({each["id"] for each in catalogue.read_all_items(max_item_count=7)}) == 40


def test_pages_stay_whole_while_others_write(database: DatabaseProxy, name: str) -> None:
    container = database.create_container(name, PartitionKey("/item_id"))
    for i in range(20):
        container.upsert_item(item(f"i{i}"))
    seen = []
    for page in container.query_items(
        "SELECT * FROM c", max_item_count=5, enable_cross_partition_query=True
    ).by_page():
        seen += [each["id"] for each in page]
        container.upsert_item(item(seen[0], changed=len(seen)))
        container.upsert_item(item(seen[-1], changed=len(seen)))
    assert sorted(seen) == sorted(f"i{i}" for i in range(20))
    database.delete_container(name)


def test_a_query_over_all_partitions_must_say_so(catalogue: ContainerProxy) -> None:
    with pytest.raises(CosmosHttpResponseError) as caught:
        list(catalogue.query_items("SELECT * FROM c"))
    assert caught.value.status_code == 400


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("c.group = 'odd' AND c.rank < 8", [1, 3, 5, 7]),
        ("c.rank >= 37 OR c.id = 'i00'", [0, 37, 38, 39]),
        ("c.id IN ('i03', 'i05', 'absent')", [3, 5]),
        ("NOT (c.rank > 3)", [1, 2, 3]),  # undefined stays undefined under NOT
        ("c.rank != 1 AND c.rank <= 3", [2, 3]),
        ("c.rank = '1' OR c.rank != '1'", []),  # different types are neither equal nor unequal
        ("NOT IS_DEFINED(c.rank) AND c.id < 'i09'", [0, 4, 8]),
        ("ARRAY_CONTAINS(c.tags, 'z') AND c.rank < 12", [3, 7, 11]),
        ("ARRAY_LENGTH(c.tags) = 3 AND NOT c.rank > 3", [3]),
        ("c.nested.list[1].deep = 17", [17]),
        ("c[\"nested\"]['list'][0] = 18", [18]),
        ("STARTSWITH(c.id, 'i3') AND c.group NOT IN ('even')", [31, 33, 35, 37, 39]),
        ("c.tags = ['x', 'y'] AND c.rank < 10", [2, 6]),
        ("c.rank = 1.0", [1]),
        ("c.rank = -1", []),
        ("true AND c.id = 'i39'", [39]),
    ],
)
def test_where(catalogue: ContainerProxy, where: str, expected: list[int]) -> None:
    found = select(catalogue, f"SELECT VALUE c.id FROM c WHERE {where}")
    assert sorted(found) == [f"i{i:02}" for i in expected]


def test_parameters_take_the_place_of_constants(catalogue: ContainerProxy) -> None:
    found = select(
        catalogue,
        "SELECT TOP @n c.id FROM c WHERE c.group = @group AND c.rank IN (@a, @b) ORDER BY c.id",
        parameters=[
            {"name": "@n", "value": 1},
            {"name": "@group", "value": "odd"},
            {"name": "@a", "value": 3},
            {"name": "@b", "value": 1},
        ],
    )
    assert found == [{"id": "i01"}]


def test_projections(catalogue: ContainerProxy) -> None:
    where = "WHERE c.id = 'i04'"
    assert select(catalogue, f"SELECT c.id, c.rank, c.group AS g FROM c {where}") == [
        {"id": "i04", "g": "even"}  # an absent property is left out
    ]
    unnamed = select(catalogue, "SELECT r.nested.list[1].deep, 1 FROM root r WHERE r.id = 'i04'")
    assert unnamed == [{"deep": 4, "$1": 1}]
    assert select(catalogue, f"SELECT VALUE {{'a': [c.id, 1]}} FROM c {where}") == [
        {"a": ["i04", 1]}
    ]
    assert select(catalogue, f"SELECT VALUE c.rank FROM c {where}") == []


def test_order_top_and_windows(catalogue: ContainerProxy) -> None:
    ranked = "FROM c WHERE IS_DEFINED(c.rank)"
    assert select(catalogue, f"SELECT TOP 3 VALUE c.rank {ranked} ORDER BY c.rank DESC") == [
        39, 38, 37,
    ]  # fmt: skip
    assert select(catalogue, f"SELECT VALUE c.rank {ranked} ORDER BY c.rank OFFSET 2 LIMIT 3") == [
        3, 5, 6,
    ]  # fmt: skip
    both = select(catalogue, f"SELECT c.id {ranked} ORDER BY c.group, c.rank DESC")
    assert [each["id"] for each in both[:2]] == ["i38", "i34"]
    assert both[-1]["id"] == "i01"
    everything = select(catalogue, "SELECT VALUE c.id FROM c ORDER BY c.id", max_item_count=7)
    assert everything == [f"i{i:02}" for i in range(40)]


def test_an_order_without_an_index_is_refused(catalogue: ContainerProxy) -> None:
    for order in ("c.hidden", "c.rank, c.group"):
        with pytest.raises(CosmosHttpResponseError) as caught:
            select(catalogue, f"SELECT * FROM c ORDER BY {order}")
        assert caught.value.status_code == 400


def test_aggregates(catalogue: ContainerProxy) -> None:
    assert select(catalogue, "SELECT VALUE COUNT(1) FROM c") == [40]
    assert select(catalogue, "SELECT VALUE COUNT(c.rank) FROM c") == [30]
    assert select(catalogue, "SELECT VALUE COUNT(1) FROM c WHERE c.group = 'none'") == [0]
    assert select(catalogue, "SELECT VALUE SUM(c.rank) FROM c WHERE c.rank < 4") == [6]
    assert select(catalogue, "SELECT VALUE AVG(c.rank) FROM c WHERE c.rank < 4") == [2]
    assert select(catalogue, "SELECT VALUE MIN(c.id) FROM c") == ["i00"]
    assert select(catalogue, "SELECT VALUE MAX(c.rank) FROM c") == [39]
    groups = select(catalogue, "SELECT DISTINCT c.group FROM c")
    assert sorted(each["group"] for each in groups) == ["even", "odd"]


def test_a_query_within_one_partition_sees_only_it(catalogue: ContainerProxy) -> None:
    def within(text: str) -> list[Any]:
        return list(catalogue.query_items(text, partition_key="i07"))

    assert within("SELECT VALUE c.id FROM c") == ["i07"]
    assert within("SELECT VALUE COUNT(1) FROM c") == [1]
    assert within("SELECT COUNT(1) AS n, MAX(c.rank) AS best FROM c") == [{"n": 1, "best": 7}]
    assert within("SELECT TOP 5 c.id FROM c ORDER BY c.rank DESC") == [{"id": "i07"}]


@pytest.mark.requires("local")
@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM c JOIN t IN c.tags",
        "SELECT * FROM c GROUP BY c.group",
        "SELECT * FROM c WHERE c.id LIKE 'i%'",
        "SELECT * FROM c WHERE c.rank BETWEEN 1 AND 2",
        "SELECT * FROM c WHERE udf.f(c.id)",
        "SELECT * FROM c WHERE NOSUCH(c.id)",
        "SELECT * FROM c WHERE c.rank + 1 = 2",
        "SELECT * FROM c WHERE d.rank = 1",
        "SELECT * FROM c WHERE c.rank = @absent",
        "SELECT * FROM c WHERE",
        "SELECT TOP 1 * FROM c OFFSET 0 LIMIT 1",
        "SELECT c.id FROM c; DROP TABLE items",
        "SELECT * FROM c WHERE COUNT(1) = 1",
        "SELEC * FROM c",
        "SELECT * FROM c WHERE " + "(" * 5000 + "true" + ")" * 5000,
        "SELECT * FROM c WHERE " + "NOT " * 5000 + "true",
        "",
    ],
)
def test_what_the_subset_lacks_is_400(catalogue: ContainerProxy, text: str) -> None:
    with pytest.raises((CosmosHttpResponseError, ValueError)) as caught:
        select(catalogue, text)
    assert getattr(caught.value, "status_code", 400) == 400


def test_read_items_finds_many_at_once(catalogue: ContainerProxy) -> None:
    wanted = [(f"i{i:02}", f"i{i:02}") for i in range(1, 40, 2)]
    found = catalogue.read_items([*wanted, ("absent", "absent"), ("i02", "i04")])
    assert [each["id"] for each in found] == [item_id for item_id, _ in wanted]


def test_the_async_client_does_the_same(
    endpoint: str, key: str, catalogue: ContainerProxy, database: DatabaseProxy
) -> None:
    async def run() -> tuple[list[Any], list[Any], list[Any]]:
        async with AsyncCosmosClient(endpoint, key, enable_endpoint_discovery=False) as client:
            target = client.get_database_client(database.id).get_container_client(catalogue.id)
            count = [n async for n in target.query_items("SELECT VALUE COUNT(1) FROM c")]
            top = target.query_items("SELECT TOP 2 c.id FROM c ORDER BY c.id DESC")
            many = await target.read_items([("i01", "i01"), ("i02", "i02")])
            return count, [each async for each in top], [each["id"] for each in many]

    count, top, many = asyncio.run(run())
    assert (count, top, many) == ([40], [{"id": "i39"}, {"id": "i38"}], ["i01", "i02"])
