# ruff: noqa: S608 (the texts are Cosmos SQL, put together from constants)
"""Queries: conditions, projections, aggregates, and what they refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from azure.cosmos import ContainerProxy, DatabaseProxy
from azure.cosmos.exceptions import CosmosHttpResponseError

from tests.contract.cosmos.account import Account, parameters, refused, select

pytestmark = pytest.mark.requires("query")
DETAIL = pytest.mark.requires("sql")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("c.group = 'odd' AND c.rank < 8", [1, 3, 5, 7]),
        ("c.rank >= 37 OR c.id = 'i00'", [0, 37, 38, 39]),
        ("c.id IN ('i03', 'i05', 'absent')", [3, 5]),
        ("NOT (c.rank > 3)", [1, 2, 3]),  # undefined stays undefined under NOT
        ("c.rank != 1 AND c.rank <= 3", [2, 3]),
        pytest.param(
            "c.rank = '1' OR c.rank != '1'", [], marks=DETAIL
        ),  # different types are neither equal nor unequal
        ("c.rank < 'a' OR c.rank >= 'a'", []),  # nor smaller nor larger
        ("NOT IS_DEFINED(c.rank) AND c.id < 'i09'", [0, 4, 8]),
        ("ARRAY_CONTAINS(c.tags, 'z') AND c.rank < 12", [3, 7, 11]),
        ("ARRAY_CONTAINS(c.nested.list, {'deep': 6}, true)", [6]),
        pytest.param("ARRAY_LENGTH(c.tags) = 3 AND NOT c.rank > 3", [3], marks=DETAIL),
        ("c.nested.list[1].deep = 17", [17]),
        ("c[\"nested\"]['list'][0] = 18", [18]),
        pytest.param(
            "STARTSWITH(c.id, 'i3') AND c.group NOT IN ('even')", [31, 33, 35, 37, 39], marks=DETAIL
        ),
        ("ENDSWITH(c.id, '7') AND CONTAINS(c.group, 'd')", [7, 17, 27, 37]),
        ("c.tags = ['x', 'y'] AND c.rank < 10", [2, 6]),
        ("c.rank = 1.0", [1]),
        ("c.rank = -1", []),
        ("true AND c.id = 'i39'", [39]),
        ("c.rank BETWEEN 5 AND 7", [5, 6, 7]),
        ("c.id BETWEEN 'i03' AND 'i05'", [3, 4, 5]),
        pytest.param("c.rank NOT BETWEEN 2 AND 38", [1, 39], marks=DETAIL),
        ("c.rank BETWEEN 7 AND 5", []),
        ("c.rank BETWEEN 2 AND 3 AND c.group = 'odd' OR c.id = 'i39'", [3, 39]),
        ("(c.rank BETWEEN 1 AND 3) = true", [1, 2, 3]),
        ("c['group'] = \"odd\" AND LENGTH(c.id) = 3 AND c.rank > 37", [39]),
        ("IS_NULL(c.rank) OR IS_STRING(c.rank)", []),
        ("c.rank IN (1, '2', null)", [1]),
    ],
)
def test_where(catalogue: ContainerProxy, where: str, expected: list[int]) -> None:
    found = select(catalogue, f"SELECT VALUE c.id FROM c WHERE {where}")
    assert sorted(found) == [f"i{i:02}" for i in expected]


def test_parameters_take_the_place_of_constants(catalogue: ContainerProxy) -> None:
    found = select(
        catalogue,
        "SELECT TOP @n c.id FROM c WHERE c.group = @group AND c.rank IN (@a, @b) ORDER BY c.id",
        parameters=parameters(n=1, group="odd", a=3, b=1),
    )
    assert found == [{"id": "i01"}]


def test_a_list_may_be_one_parameter(catalogue: ContainerProxy) -> None:
    found = select(
        catalogue,
        "SELECT VALUE c.id FROM c WHERE ARRAY_CONTAINS(@ids, c.id)",
        parameters=parameters(ids=["i03", "i30", "absent"]),
    )
    assert sorted(found) == ["i03", "i30"]


def test_projections(catalogue: ContainerProxy) -> None:
    where = "WHERE c.id = 'i04'"
    assert select(catalogue, f"SELECT c.id, c.rank, c.group AS g FROM c {where}") == [
        {"id": "i04", "g": "even"}  # an absent property is left out
    ]
    unnamed = select(catalogue, "SELECT r.nested.list[1].deep, 1 FROM root r WHERE r.id = 'i04'")
    assert unnamed == [{"deep": 4, "$1": 1}]
    built = select(catalogue, f"SELECT VALUE {{'a': [c.id, 1]}} FROM c {where}")
    assert built == [{"a": ["i04", 1]}]
    assert select(catalogue, f"SELECT VALUE c.rank FROM c {where}") == []


def test_a_property_with_the_name_of_a_keyword_is_quoted(catalogue: ContainerProxy) -> None:
    found = select(catalogue, "SELECT c['order'], c[\"value\"] AS v FROM c WHERE c['order'] = 2")
    assert found == [{"order": 2, "v": "two"}]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("COUNT(1)", 40),
        ("COUNT(c.rank)", 30),
        ("SUM(c.rank)", 600),
        ("AVG(c.rank)", 20),
        ("MIN(c.id)", "i00"),
        ("MAX(c.rank)", 39),
    ],
)
def test_aggregates_over_all_partitions(
    catalogue: ContainerProxy, aggregate: str, expected: Any
) -> None:
    assert select(catalogue, f"SELECT VALUE {aggregate} FROM c") == [expected]


def test_counting_with_a_condition(catalogue: ContainerProxy) -> None:
    count = "SELECT VALUE COUNT(1) FROM c WHERE c.group = @group"
    assert select(catalogue, count, parameters=parameters(group="even")) == [20]
    assert select(catalogue, count, parameters=parameters(group="none")) == [0]


@DETAIL
def test_distinct_values(catalogue: ContainerProxy) -> None:
    groups = select(catalogue, "SELECT DISTINCT c.group FROM c")
    assert sorted(each["group"] for each in groups) == ["even", "odd"]


@pytest.mark.requires("partition-query")
def test_a_query_within_one_partition_sees_only_it(catalogue: ContainerProxy) -> None:
    def within(text: str) -> list[Any]:
        return list(catalogue.query_items(text, partition_key="i07"))

    assert within("SELECT VALUE c.id FROM c") == ["i07"]
    assert within("SELECT VALUE COUNT(1) FROM c") == [1]
    assert within("SELECT COUNT(1) AS n, MAX(c.rank) AS best FROM c") == [{"n": 1, "best": 7}]
    assert within("SELECT TOP 5 c.id FROM c ORDER BY c.rank DESC") == [{"id": "i07"}]


@pytest.mark.requires("errors")
def test_a_query_over_all_partitions_must_say_so(catalogue: ContainerProxy) -> None:
    with refused(400):
        list(catalogue.query_items("SELECT * FROM c"))


@pytest.mark.requires("errors")
def test_the_gateway_leaves_an_order_over_all_partitions_to_the_client(
    account: Account, database: DatabaseProxy, catalogue: ContainerProxy
) -> None:
    reply = account.send(
        "POST",
        f"dbs/{database.id}/colls/{catalogue.id}/docs",
        {"query": "SELECT * FROM c ORDER BY c.id", "parameters": []},
        {
            "Content-Type": "application/query+json",
            "x-ms-documentdb-isquery": "true",
            "x-ms-documentdb-query-enablecrosspartition": "true",
        },
    )
    assert (reply.status, reply.headers.get("x-ms-substatus")) == (400, "1004")
    plan = reply.body["additionalErrorInfo"]
    assert "rewrittenQuery" in plan


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM c WHERE NOSUCH(c.id)",
        "SELECT * FROM c WHERE d.rank = 1",
        "SELECT * FROM c WHERE",
        "SELECT TOP 1 * FROM c OFFSET 0 LIMIT 1",
        "SELECT c.id FROM c; DROP TABLE items",
        "SELEC * FROM c",
        pytest.param("SELECT c.id, c.id FROM c", marks=DETAIL),
        "SELECT * FROM c WHERE c.rank BETWEEN 1",
    ],
)
def test_what_is_no_query_is_400(catalogue: ContainerProxy, text: str) -> None:
    with refused(400):
        select(catalogue, text)


@pytest.mark.requires("local")
@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM c JOIN t IN c.tags",
        "SELECT * FROM c GROUP BY c.group",
        "SELECT * FROM c WHERE c.id LIKE 'i%'",
        "SELECT * FROM c WHERE udf.f(c.id)",
        "SELECT * FROM c WHERE c.rank + 1 = 2",
        "SELECT * FROM c WHERE c.rank = @absent",
        "SELECT * FROM c WHERE COUNT(1) = 1",
        "SELECT * FROM c WHERE EXISTS(SELECT VALUE t FROM t IN c.tags)",
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
    account: Account, catalogue: ContainerProxy, database: DatabaseProxy
) -> None:
    async def run() -> tuple[list[Any], list[Any], list[Any]]:
        async with account.connect_async() as client:
            target = client.get_database_client(database.id).get_container_client(catalogue.id)
            count = [n async for n in target.query_items("SELECT VALUE COUNT(1) FROM c")]
            top = target.query_items("SELECT TOP 2 c.id FROM c ORDER BY c.id DESC")
            many = await target.read_items([("i01", "i01"), ("i02", "i02")])
            return count, [each async for each in top], [each["id"] for each in many]

    count, top, many = asyncio.run(run())
    assert (count, top, many) == ([40], [{"id": "i39"}, {"id": "i38"}], ["i01", "i02"])
