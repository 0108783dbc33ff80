"""What a publish would cost, told without writing."""

from __future__ import annotations

import pytest

from serving_export import price
from serving_export.errors import ExportError
from serving_export.pacing import Pace
from serving_export.price import Price
from tests.serving_export.publishing_support import Account, make_items


def priced(account: Account, version: str, count: int, pace: Pace | None = None) -> Price:
    return price.price(
        account.endpoint,
        account.key,
        version=version,
        items=make_items(count, seed=7),
        pace=pace or Pace(),
        database=account.database,
    )


def everything(account: Account) -> list[object]:
    names = ("control", "item-embeddings-a", "item-embeddings-b", "item-embeddings-c")
    return [list(account.container(name).read_all_items()) for name in names]


def test_the_first_publish_is_priced_by_the_published_charges(account: Account) -> None:
    found = priced(account, "v1", 400)
    assert (found.slot, found.documents, found.present, found.leftovers) == ("a", 400, 0, 0)
    assert found.measured_by is None
    report = account.publish("v1", make_items(400, seed=7))
    assert found.request_units == pytest.approx(report.request_units, rel=0.25)


def test_later_ones_are_priced_by_what_the_last_whole_load_cost(account: Account) -> None:
    for number in range(3):
        account.publish(f"v{number}", make_items(200, seed=number))
    before = everything(account)
    found = priced(account, "v9", 300)
    assert everything(account) == before
    assert found.measured_by == "v2"
    assert (found.slot, found.leftovers) == ("a", 200)
    report = account.publish("v9", make_items(300, seed=7))
    assert found.request_units == pytest.approx(report.request_units, rel=0.1)


def test_a_budget_sets_the_time(account: Account) -> None:
    slow = priced(account, "v1", 400, Pace(request_units=100.0))
    assert slow.seconds == pytest.approx(slow.request_units / 100.0)
    assert priced(account, "v1", 400, Pace(processes=2)).seconds < slow.seconds / 10


def test_what_a_load_cut_short_has_left_is_not_priced_again(account: Account) -> None:
    account.publish("v1", make_items(100, seed=7))
    slot = account.container("item-embeddings-b")
    for document in account.documents("a")[:60]:
        body = {key: value for key, value in document.items() if not key.startswith("_")}
        slot.upsert_item(body | {"version": "v2"})
    found = priced(account, "v2", 100)
    assert (found.slot, found.present, found.leftovers) == ("b", 60, 0)
    assert found.request_units < 0.6 * priced(account, "v3", 100).request_units


def test_nothing_has_no_price(account: Account) -> None:
    with pytest.raises(ExportError, match="has no items"):
        priced(account, "v1", 0)
