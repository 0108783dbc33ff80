# ruff: noqa: S608 (the texts are Cosmos SQL, put together from constants)
"""Pages and their order."""

from __future__ import annotations

from typing import Any

import pytest
from azure.cosmos import ContainerProxy, DatabaseProxy, PartitionKey

from tests.contract.cosmos.account import Account, item, refused, select

pytestmark = [pytest.mark.requires("query"), pytest.mark.requires("pages")]
DETAIL = pytest.mark.requires("sql")

EVERYTHING = [f"i{i:02}" for i in range(40)]


def test_pages_continue_where_they_ended(catalogue: ContainerProxy) -> None:
    def query() -> Any:
        return catalogue.query_items(
            "SELECT VALUE c.id FROM c", max_item_count=15, enable_cross_partition_query=True
        )

    pager = query().by_page()
    first = list(next(pager))
    assert len(first) == 15
    assert pager.continuation_token
    others = [item_id for page in query().by_page(pager.continuation_token) for item_id in page]
    assert sorted(first + others) == EVERYTHING


def test_a_page_has_at_most_what_was_asked_for(catalogue: ContainerProxy) -> None:
    pages: Any = catalogue.query_items(
        "SELECT * FROM c", max_item_count=7, enable_cross_partition_query=True
    ).by_page()
    sizes = [len(list(page)) for page in pages]
    assert sum(sizes) == 40
    assert max(sizes) <= 7


def test_all_items_can_be_read_in_pages(catalogue: ContainerProxy) -> None:
    assert sorted(each["id"] for each in catalogue.read_all_items(max_item_count=7)) == EVERYTHING


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


@pytest.mark.requires("partition-query")
def test_an_order_within_a_partition_continues(container: ContainerProxy, name: str) -> None:
    for i in range(12):
        container.upsert_item({"id": f"i{i:02}", "item_id": name, "n": i * 7 % 12})

    def query() -> Any:
        return container.query_items(
            "SELECT VALUE c.n FROM c ORDER BY c.n DESC", partition_key=name, max_item_count=5
        )

    pager = query().by_page()
    found = list(next(pager))
    for page in query().by_page(pager.continuation_token):
        found += page
    assert found == list(range(12))[::-1]


@pytest.mark.requires("errors")
@pytest.mark.parametrize(
    "headers", [{"x-ms-continuation": "nonsense"}, {"x-ms-max-item-count": "-7"}]
)
def test_a_page_of_nowhere_is_400(
    account: Account, documents: str, headers: dict[str, str]
) -> None:
    reply = account.send(
        "POST",
        documents,
        {"query": "SELECT * FROM c", "parameters": []},
        {
            "Content-Type": "application/query+json",
            "x-ms-documentdb-isquery": "true",
            "x-ms-documentdb-partitionkey": '["a"]',
            **headers,
        },
    )
    assert reply.status == 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT TOP 3 VALUE c.rank FROM c WHERE c.rank > 0 ORDER BY c.rank DESC", [39, 38, 37]),
        ("SELECT TOP 3 VALUE c.rank FROM c WHERE c.rank > 0 ORDER BY c.rank ASC", [1, 2, 3]),
        pytest.param(
            "SELECT VALUE c.rank FROM c WHERE c.rank > 0 ORDER BY c.rank OFFSET 2 LIMIT 3",
            [3, 5, 6],
            marks=DETAIL,
        ),
        pytest.param(
            "SELECT VALUE c.id FROM c ORDER BY c.id OFFSET 38 LIMIT 10",
            ["i38", "i39"],
            marks=DETAIL,
        ),
        pytest.param("SELECT VALUE c.id FROM c ORDER BY c.id OFFSET 50 LIMIT 10", [], marks=DETAIL),
        ("SELECT TOP 0 VALUE c.id FROM c ORDER BY c.id", []),
    ],
)
def test_order_top_and_windows(catalogue: ContainerProxy, text: str, expected: list[Any]) -> None:
    assert select(catalogue, text) == expected


def test_an_order_holds_over_many_pages(catalogue: ContainerProxy) -> None:
    found = select(catalogue, "SELECT VALUE c.id FROM c ORDER BY c.id", max_item_count=7)
    assert found == EVERYTHING


def test_values_are_ordered_by_type_and_text_by_code_point(
    database: DatabaseProxy, name: str
) -> None:
    container = database.create_container(name, PartitionKey("/item_id"))
    values = [None, False, True, -1, 0.5, 3, "", "A", "a", "b", "\u00e4", "\u65e5"]
    for number, value in enumerate(values[::-1]):
        container.upsert_item(item(f"i{number}", value=value))
    found = select(container, "SELECT VALUE c['value'] FROM c ORDER BY c['value']")
    assert found == values
    database.delete_container(name)


@pytest.mark.requires("indexing")
def test_two_keys_are_ordered_by_a_composite_index(catalogue: ContainerProxy) -> None:
    ranked = "SELECT VALUE c.id FROM c WHERE IS_DEFINED(c.rank)"
    found = select(catalogue, f"{ranked} ORDER BY c.group, c.rank DESC")
    assert (found[:2], found[-1]) == (["i38", "i34"], "i01")
    # The same index read backwards.
    assert select(catalogue, f"{ranked} ORDER BY c.group DESC, c.rank") == found[::-1]


@pytest.mark.requires("indexing")
@pytest.mark.parametrize(
    "order", ["c.hidden", "c.rank, c.group", "c.group, c.rank", "c.group, c.rank DESC, c.id"]
)
def test_an_order_without_an_index_is_refused(catalogue: ContainerProxy, order: str) -> None:
    with refused(400):
        select(catalogue, f"SELECT * FROM c ORDER BY {order}")


@pytest.mark.requires("indexing")
def test_items_without_the_property_are_ordered_where_the_index_names_it(
    database: DatabaseProxy, name: str
) -> None:
    key = PartitionKey("/item_id")
    named = {"includedPaths": [{"path": "/n/?"}], "excludedPaths": [{"path": "/*"}]}
    containers = [
        database.create_container(f"{name}-named", key, indexing_policy=named),
        database.create_container(f"{name}-default", key),
    ]
    for container in containers:
        for each, fields in {"a": {"n": 1}, "b": {}, "c": {"n": 0}}.items():
            container.upsert_item(item(each, **fields))
    found = [select(each, "SELECT VALUE c.id FROM c ORDER BY c.n") for each in containers]
    assert found == [["b", "c", "a"], ["c", "a"]]
    for container in containers:
        database.delete_container(container.id)
