"""The promotion protocol against any Cosmos DB endpoint.

COSMOS_ENDPOINT and COSMOS_KEY name an emulator or an account; otherwise a local endpoint is
started. Everything happens in a database of its own, deleted afterwards.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from azure.cosmos import CosmosClient

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from serving_export import containers, publish
from serving_export.documents import Item, checksum
from serving_export.errors import ExportError, NothingPublishedError
from serving_export.meter import Progress
from serving_export.publish import PublishReport
from serving_export.reader import Reader

D = 3
MODEL: dict[str, Any] = {
    "geometry": "hyperboloid",
    "d": D,
    "aggregator": {"kind": "learned_lags", "lag_weights": [0.9, 0.6]},
}

Publish = Callable[..., PublishReport]


def make_items(count: int, seed: int = 0) -> list[Item]:
    space = np.random.default_rng(seed).normal(size=(count, D))
    vectors = np.c_[-np.sqrt(1 + (space**2).sum(1)), space].astype(np.float32)
    return [Item(f"i{n}", vectors[n], None, count - n) for n in range(count)]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with ExitStack() as stack:
        endpoint, key = os.environ.get("COSMOS_ENDPOINT"), os.environ.get("COSMOS_KEY", COSMOS_KEY)
        if not endpoint:
            endpoint = stack.enter_context(cosmos_server(tmp_path_factory.mktemp("cosmos")))
        yield endpoint, key


@pytest.fixture
def database(account: tuple[str, str]) -> Iterator[str]:
    name = f"hyperrec-test-{uuid.uuid4().hex[:12]}"
    yield name
    client = CosmosClient(*account, enable_endpoint_discovery=False)
    if any(each["id"] == name for each in client.list_databases()):
        client.delete_database(name)


@pytest.fixture
def place(account: tuple[str, str], database: str) -> dict[str, Any]:
    """Where to publish, with its containers made."""
    containers.create_missing(*account, D + 1, database=database)
    return {"endpoint": account[0], "credential": account[1], "database": database}


@pytest.fixture
def put(place: dict[str, Any]) -> Publish:
    def publish_version(version: str, items: list[Item], **options: Any) -> PublishReport:
        facts: dict[str, Any] = {
            "version": version,
            "run_id": f"run of {version}",
            "model": MODEL,
            "metrics": {"hr@10": 0.71},
            "who": "the night job",
        }
        return publish.publish(items=items, **(place | facts | options))

    return publish_version


def test_nothing_is_published_at_first(place: dict[str, Any]) -> None:
    control = publish.status(**place)
    assert (control.active, control.previous, control.loading) == (None, None, None)
    with pytest.raises(NothingPublishedError, match="no previous version"):
        publish.rollback(who="me", **place)


def test_a_published_version_is_active_with_all_its_facts(
    place: dict[str, Any], put: Publish
) -> None:
    items = make_items(30)
    report = put("v1", items)
    assert (report.slot, report.items, report.written) == ("a", 30, 30)
    assert not report.already_active
    active = publish.status(**place).active
    assert active is not None
    assert (active.version, active.run_id, active.slot) == ("v1", "run of v1", "a")
    assert (active.items, active.checksum) == (30, checksum(items))
    assert (active.model, active.metrics) == (MODEL, {"hr@10": 0.71})
    assert active.promoted_by == "the night job"
    with Reader(**place) as reader:
        assert reader.get([i.item_id for i in items]) == {i.item_id: i for i in items}


def test_the_same_version_again_is_no_work(put: Publish) -> None:
    items = make_items(12)
    put("v1", items)
    report = put("v1", items[::-1])
    assert report.already_active
    assert (report.slot, report.written, report.items) == ("a", 0, 12)


def test_other_contents_need_another_name(place: dict[str, Any], put: Publish) -> None:
    put("v1", make_items(5))
    put("v2", make_items(5, seed=2))
    for version in ("v1", "v2"):
        with pytest.raises(ExportError, match=f"{version} is already published .* other vectors"):
            put(version, make_items(5, seed=3))
    control = publish.status(**place)
    assert control.active is not None and control.active.version == "v2"
    assert control.loading is None


def test_slots_take_turns_and_leftovers_go(place: dict[str, Any], put: Publish) -> None:
    sizes = {"v1": 9, "v2": 6, "v3": 7, "v4": 4}
    reports = [put(version, make_items(size, seed=size)) for version, size in sizes.items()]
    assert [report.slot for report in reports] == ["a", "b", "c", "a"]
    assert [report.deleted for report in reports] == [0, 0, 0, 5]
    with Reader(**place) as reader:
        assert set(reader.get([f"i{n}" for n in range(9)])) == {"i0", "i1", "i2", "i3"}


def test_rollback_and_forward_again(place: dict[str, Any], put: Publish) -> None:
    old, new = make_items(8), make_items(8, seed=1)
    put("v1", old)
    put("v2", new)
    control = publish.rollback(who="an operator", **place)
    assert control.active is not None and control.previous is not None
    assert (control.active.version, control.previous.version) == ("v1", "v2")
    assert control.active.promoted_by == "an operator"
    with Reader(**place) as reader:
        assert reader.get(["i3"]) == {"i3": old[3]}
    again = publish.rollback(who="an operator", **place)
    assert again.active is not None and again.active.version == "v2"
    assert put("v2", new).already_active


def test_rollback_while_a_load_runs(place: dict[str, Any], put: Publish) -> None:
    put("v1", make_items(4))
    put("v2", make_items(4, seed=1))
    rolled: list[str] = []

    def roll(_: Progress) -> None:
        if not rolled:
            control = publish.rollback(who="me", **place)
            assert control.loading is not None and control.active is not None
            rolled.append(control.active.version)

    put("v3", make_items(4, seed=2), progress=roll)
    assert rolled == ["v1"]
    control = publish.status(**place)
    assert control.active is not None and control.previous is not None
    assert (control.active.version, control.previous.version) == ("v3", "v1")


def test_promotions_and_rollbacks_are_in_the_history(place: dict[str, Any], put: Publish) -> None:
    put("v1", make_items(4), why="a start")
    put("v2", make_items(4, seed=1))
    publish.rollback(who="an operator", why="no umbrellas", **place)
    events = publish.history(**place)
    assert [(e.number, e.action, e.version, e.why) for e in events] == [
        (3, "rollback", "v1", "no umbrellas"),
        (2, "promotion", "v2", None),
        (1, "promotion", "v1", "a start"),
    ]
    assert publish.status(**place).events == ()
    assert publish.history(limit=1, **place) == events[:1]


def test_the_slot_that_no_version_needs_can_be_emptied(place: dict[str, Any], put: Publish) -> None:
    versions = {f"v{n}": make_items(3 + n, seed=n) for n in range(3)}
    for version, items in versions.items():
        put(version, items)
    assert publish.clean(who="an operator", **place) == ("a", 3)
    assert publish.clean(who="an operator", **place) == ("a", 0)
    control = publish.status(**place)
    assert control.loading is None
    assert control.active is not None and control.active.version == "v2"
    assert put("v2", versions["v2"]).already_active


def test_progress_is_told(put: Publish) -> None:
    told: list[Progress] = []
    report = put("v1", make_items(40), progress=told.append)
    for doing in ("writing", "verifying"):
        last = [each for each in told if each.doing == doing][-1]
        assert last.done == last.total == 40
    assert told[-1].request_units <= report.request_units


def test_a_failing_progress_bar_gives_the_lease_back(place: dict[str, Any], put: Publish) -> None:
    def fail(_: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        put("v1", make_items(5), progress=fail)
    control = publish.status(**place)
    assert control.loading is None and control.active is None


def test_missing_containers_are_named(account: tuple[str, str], database: str) -> None:
    with pytest.raises(ExportError, match=f"Container control of database {database} is missing"):
        publish.status(*account, database=database)


def test_vectors_of_another_dimension_are_refused(put: Publish) -> None:
    wide = [Item("i0", np.ones(D + 2, np.float32), None, 1)]
    with pytest.raises(ExportError, match=f"dimensions {D + 1} and the model has {D + 2}"):
        put("v1", wide)


def test_items_that_make_no_version_are_refused(put: Publish) -> None:
    items = make_items(3)
    with pytest.raises(ExportError, match="has no items"):
        put("v1", [])
    with pytest.raises(ExportError, match="names an item twice"):
        put("v1", [*items, items[0]])
    mixed = [*items, Item("x", items[0].vector, items[0].vector, 1)]
    with pytest.raises(ExportError, match="mixes vectors"):
        put("v1", mixed)


def test_create_missing_twice_changes_nothing(place: dict[str, Any], put: Publish) -> None:
    items = make_items(3)
    put("v1", items)
    containers.create_missing(
        place["endpoint"], place["credential"], D + 1, database=place["database"]
    )
    assert put("v1", items).already_active
