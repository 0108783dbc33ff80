"""Who may replace what is active is asked under the lease, and again at the flip."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from serving_export.meter import Progress
from serving_export.slots import Control
from tests.serving_export.publishing_support import Account, make_items


class OverruledError(Exception):
    pass


def only_over(account: Account, version: str) -> tuple[Callable[[Control], None], list[str]]:
    """A guard that lets nothing but one version be replaced, and what it was asked about."""
    seen: list[str] = []

    def guard(control: Control) -> None:
        assert control.active is not None and control.loading is not None
        seen.append(control.active.version)
        if control.active.version != version:
            raise OverruledError

    return guard, seen


def test_it_is_asked_before_anything_is_written(account: Account) -> None:
    account.publish("v1", make_items(20))
    guard, seen = only_over(account, "another")
    with pytest.raises(OverruledError):
        account.publish("v2", make_items(20, seed=2), guard=guard)
    assert seen == ["v1"]
    control = account.status()
    assert (control.active.version, control.loading) == ("v1", None)
    assert account.documents("b") == []


def test_it_is_asked_again_at_the_flip(account: Account) -> None:
    account.publish("v1", make_items(20))
    account.publish("v2", make_items(20, seed=2))
    guard, seen = only_over(account, "v2")
    rolled_back = []

    def roll_back(state: Progress) -> None:
        if not rolled_back:
            rolled_back.append(account.rollback())

    with pytest.raises(OverruledError):
        account.publish("v3", make_items(20, seed=3), guard=guard, progress=roll_back)
    assert seen == ["v2", "v1"]
    control = account.status()
    assert (control.active.version, control.previous.version) == ("v1", "v2")
    assert control.loading is None

    guard, seen = only_over(account, "v1")
    report = account.publish("v3", make_items(20, seed=3), guard=guard)
    assert seen == ["v1", "v1"]
    assert report.written == 0  # what the refused load had written is compared, not written again
    assert account.status().active.version == "v3"


def test_a_lost_answer_of_the_flip_is_no_refusal(account: Account) -> None:
    account.publish("v1", make_items(20))
    guard, _ = only_over(account, "v1")
    # The second change of the control document is the flip; its answer is lost.
    account.faults(
        {
            "operations": ["replace"],
            "container": "control",
            "when": "after",
            "skip": 1,
            "count": 1,
            "status": 503,
        }
    )
    account.publish("v2", make_items(20, seed=2), guard=guard)
    assert account.fired() == [1]
    assert account.status().active.version == "v2"


def test_it_is_not_asked_when_the_version_is_active(account: Account) -> None:
    items = make_items(20)
    account.publish("v1", items)
    guard, seen = only_over(account, "another")
    assert account.publish("v1", items, guard=guard).already_active
    assert seen == []
