"""The audit trail: complete whatever is killed, and the control document no larger for it."""

from __future__ import annotations

import json

import pytest

from serving_export import publish
from serving_export.errors import ExportError
from serving_export.events import Event
from tests.serving_export.publishing_support import Account, make_items


def history(account: Account, limit: int = 50) -> list[Event]:
    return publish.history(account.endpoint, account.key, limit=limit, database=account.database)


def rollback(account: Account, why: str | None) -> None:
    publish.rollback(
        account.endpoint, account.key, who="an operator", why=why, database=account.database
    )


def test_promotions_and_rollbacks_are_kept_with_who_when_why_and_what_they_cost(
    account: Account,
) -> None:
    assert history(account) == []
    first = account.publish("v1", make_items(12), gates=["HR@10 0.7 is above 0.6"], why="a start")
    account.publish("v2", make_items(9, seed=2), who="the night job")
    rollback(account, "v2 sells umbrellas only")
    newest, second, oldest = history(account)
    assert (oldest.number, second.number, newest.number) == (1, 2, 3)
    assert (oldest.action, oldest.version, oldest.replaced) == ("promotion", "v1", None)
    assert (oldest.why, oldest.gates) == ("a start", ("HR@10 0.7 is above 0.6",))
    assert oldest.metrics == {"hr@10": 0.7}
    assert oldest.costs["written"] == 12
    assert 0 < oldest.costs["request_units"] <= first.request_units
    assert (second.version, second.replaced, second.who) == ("v2", "v1", "the night job")
    assert second.run_id == "run of v2"
    assert (newest.action, newest.version, newest.replaced) == ("rollback", "v1", "v2")
    assert (newest.who, newest.why) == ("an operator", "v2 sells umbrellas only")
    assert newest.at >= second.at >= oldest.at
    assert history(account, limit=1) == [newest]


def test_what_changes_nothing_leaves_no_event(account: Account) -> None:
    items = make_items(5)
    account.publish("v1", items)
    account.publish("v1", items)
    with pytest.raises(ExportError):
        account.rollback()
    assert [event.version for event in history(account)] == ["v1"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_event_whose_copy_failed_is_seen_at_once_and_copied_by_the_next_publish(
    account: Account, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    account.publish("v1", make_items(5))
    # 403 does not pass by waiting: the copy fails, and the promotion stands.
    account.faults({"operations": ["create"], "status": 403, "when": when})
    account.publish("v2", make_items(6))
    account.faults()
    assert "the history will be completed" in caplog.text
    assert account.status().active.version == "v2"
    assert [event.number for event in account.status().events] == [2]
    assert [event.version for event in history(account)] == ["v2", "v1"]

    account.publish("v2", make_items(6))
    assert account.status().events == ()
    assert [event.version for event in history(account)] == ["v2", "v1"]
    assert len(stored(account)) == 2


def test_an_event_is_never_written_over(account: Account) -> None:
    account.publish("v1", make_items(5))
    before = stored(account)
    control = account.container("control")
    document = control.read_item("item-embeddings", "item-embeddings")
    document["events"] = [
        {key: value for key, value in before[0].items() if key not in ("id", "kind")}
        | {"who": "a forger"}
    ]
    control.replace_item("item-embeddings", document)
    account.publish("v1", make_items(5))  # copies what the control document holds
    assert stored(account) == before


def test_the_control_document_does_not_grow(account: Account) -> None:
    sizes = []
    for number in range(6):
        account.publish(f"v{number}", make_items(4, seed=number))
        if number:
            rollback(account, "x" * 200)
        document = account.container("control").read_item("item-embeddings", "item-embeddings")
        sizes.append(len(json.dumps(document)))
    assert max(sizes[1:]) - min(sizes[1:]) < 20
    assert len(stored(account)) == 11


def test_a_damaged_event_is_named(account: Account) -> None:
    account.publish("v1", make_items(4))
    control = account.container("control")
    document = control.read_item("event-0000000001", "event-0000000001")
    control.upsert_item({k: v for k, v in document.items() if k != "at"})
    with pytest.raises(ExportError, match="event-0000000001 is damaged"):
        history(account)


def stored(account: Account) -> list[dict[str, object]]:
    """The trail's documents, without the service's own fields."""
    documents = account.container("control").read_all_items()
    kept = [d for d in documents if d.get("kind") == "event"]
    return [{k: v for k, v in document.items() if not k.startswith("_")} for document in kept]
