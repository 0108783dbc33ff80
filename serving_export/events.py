"""What the audit trail is made of: one promotion or rollback, as a value and in plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

Action = Literal["promotion", "rollback"]


@dataclass(frozen=True)
class Event:
    """A promotion or rollback, for whoever asks later what was live and why.

    Attributes:
        number: 1, 2, 3, ... in the order of the changes.
        action: which of the two.
        at: when, UTC.
        who: person or service that decided it.
        why: in their words; None when they gave no reason.
        version: what became active.
        run_id: the run that made it.
        slot: where it is.
        replaced: the version that was active before; None when there was none.
        items: documents in the slot.
        checksum: `documents.checksum` of its items.
        metrics: what the gates judged it by.
        gates: what each gate said, in a sentence.
        costs: documents written and deleted, request units and seconds of the load; empty for a
            rollback.
        load: unique id of the load that wrote the version.
    """

    number: int
    action: Action
    at: datetime
    who: str
    why: str | None
    version: str
    run_id: str
    slot: str
    replaced: str | None
    items: int
    checksum: str
    metrics: Mapping[str, Any]
    gates: tuple[str, ...]
    costs: Mapping[str, float]
    load: str


def event_to_json(event: Event) -> dict[str, Any]:
    """An event in plain values."""
    return asdict(event) | {"at": event.at.isoformat(), "gates": list(event.gates)}


def event_from_json(body: Mapping[str, Any]) -> Event:
    """The event in `event_to_json`'s values.

    Raises:
        TypeError, ValueError: it is none.
    """
    if "at" not in body or "gates" not in body:
        raise ValueError("an event has a time and gates")
    at = datetime.fromisoformat(body["at"])
    return Event(**{**body, "at": at, "gates": tuple(body["gates"])})
