"""The audit trail: who made which version active, when and why, in documents that only get more.

An event is born inside the control document, in the very change that it tells of, so neither can
be without the other. It is then copied to a document of its own, `event-0000000007`, in the same
container, and dropped from the control document, which so stays as small as it was. Whoever is
killed in between leaves the event where the next publish finds it; copying twice makes no second
document, since the number is its id and a document that is there is never replaced.
"""

from __future__ import annotations

from typing import Any, cast

from azure.cosmos.exceptions import CosmosResourceExistsError

from serving_export import slots
from serving_export.control import ControlStore
from serving_export.errors import ExportError
from serving_export.events import Event, event_from_json, event_to_json
from serving_export.retry import persist

_KIND = "event"


def settle(store: ControlStore) -> None:
    """Give every event in the control document a document of its own.

    Raises:
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    pending = store.read().events
    for event in pending:
        _create(store, event)
    if pending:
        store.update(lambda control: slots.settled(control, up_to=pending[-1].number))


def read(store: ControlStore, limit: int) -> list[Event]:
    """The newest events, newest first; reads alone.

    Args:
        store: the control document's store.
        limit: how many at most.

    Raises:
        ExportError: a document of the trail is damaged.
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    # The state first: an event that moves meanwhile is then seen in one place at least.
    pending = store.read().events
    documents = persist(
        lambda: list(
            store.container.query_items(
                "SELECT TOP @limit * FROM c WHERE c.kind = @kind ORDER BY c.id DESC",
                parameters=[{"name": "@limit", "value": limit}, {"name": "@kind", "value": _KIND}],
                enable_cross_partition_query=True,
            )
        ),
        endpoint=store.endpoint,
        doing="reading the history",
        patience=store.patience,
    )
    found = {event.number: event for event in map(_event, documents)}
    found |= {event.number: event for event in pending}
    return [found[number] for number in sorted(found, reverse=True)[:limit]]


def _create(store: ControlStore, event: Event) -> None:
    body = {"id": f"event-{event.number:010d}", "kind": _KIND, **event_to_json(event)}

    def create() -> None:
        try:
            store.container.create_item(body, no_response=True)
        except CosmosResourceExistsError:
            return  # copied by another, or by this very call whose answer was lost

    persist(create, endpoint=store.endpoint, doing="writing the history", patience=store.patience)


def _event(document: dict[str, Any]) -> Event:
    body = {k: v for k, v in document.items() if not k.startswith("_") and k not in ("id", "kind")}
    try:
        return event_from_json(body)
    except (TypeError, ValueError) as error:
        raise ExportError(
            f"The history's document {cast(str, document.get('id'))} is damaged ({error}); "
            "restore the control container from its backup."
        ) from error
