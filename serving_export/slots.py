"""Which slot holds what: the control document as a value, and every change it may go through.

Three slots, so that the active version and the one before it are both whole at any time: a load
goes to the third. Each function here takes a `Control` and returns the next one or refuses; the
store (`control.py`) makes the change conditional on the document's ETag. Every change names the
load it is about, so that one whose answer was lost can be made again without harm.

    begin_load -> renew ... -> promote        active <- loaded, previous <- active
                            -> release        nothing changes
    rollback                                  active <-> previous, also while a load runs

A promotion and a rollback leave an event behind in the same change, so that none can be lost;
`history.py` moves events on to documents of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from serving_export.containers import SLOTS
from serving_export.errors import ExportError, HeldByAnotherError, NothingPublishedError
from serving_export.events import Action, Event, event_from_json, event_to_json

FORMAT = 1
LEASE = timedelta(seconds=30)


@dataclass(frozen=True)
class Published:
    """A whole, verified version in a slot.

    Attributes:
        slot: one of `containers.SLOTS`.
        version: its name; every document of the slot carries it.
        run_id: the run that made it.
        model: model.json of the artefact.
        items: documents in the slot.
        checksum: `documents.checksum` of its items.
        metrics: what the gates judged it by.
        promoted_at: when it became active, UTC; also when it did so by a rollback.
        promoted_by: who made it active.
        load: unique id of the load that wrote it.
    """

    slot: str
    version: str
    run_id: str
    model: Mapping[str, Any]
    items: int
    checksum: str
    metrics: Mapping[str, Any]
    promoted_at: datetime
    promoted_by: str
    load: str


@dataclass(frozen=True)
class Loading:
    """A load under way, and the lease that keeps others away from its slot.

    Attributes:
        slot: where it writes.
        version: the version being written.
        run_id: the run that made it.
        holder: "host:pid:run id", for people.
        process: what tells on the same machine whether the holder still runs; see `lease.py`.
        load: unique id of this load.
        expires_at: end of the lease unless renewed, UTC.
    """

    slot: str
    version: str
    run_id: str
    holder: str
    process: str | None
    load: str
    expires_at: datetime


@dataclass(frozen=True)
class Control:
    """The control document: what is active, what was before, what is being loaded.

    Attributes:
        active: what readers get.
        previous: what a rollback leads to.
        loading: the load under way.
        numbered: events so far.
        events: those that have no document of their own yet.
    """

    active: Published | None = None
    previous: Published | None = None
    loading: Loading | None = None
    numbered: int = 0
    events: tuple[Event, ...] = ()


_MODEL_BYTES = 900_000  # the document holds two, and Cosmos DB takes 2 MiB


def require_room(model: Mapping[str, Any], version: str) -> None:
    """Refuse a model.json of which the control document cannot hold two.

    Raises:
        ExportError: it is too long.
    """
    size = len(json.dumps(model, separators=(",", ":")))
    if size > _MODEL_BYTES:
        raise ExportError(
            f"The model of version {version} is described by {size:,} bytes and a control document "
            f"takes {_MODEL_BYTES:,}: train it with a smaller model.lags or narrower model.hidden."
        )


Guard = Callable[[Control], None]
"""Raises when a version must not replace what is active in a state."""


def begin_load(control: Control, wanted: Loading, *, now: datetime, abandoned: bool) -> Control:
    """Take the lease on the slot that is neither active nor previous.

    Args:
        control: the present state.
        wanted: the load to begin; its slot and expiry are set here.
        now: UTC.
        abandoned: whether the present holder is known to be gone, so that its lease need not end.

    Raises:
        HeldByAnotherError: another load holds an unexpired lease.
    """
    held = control.loading
    if held and held.load != wanted.load and not abandoned and held.expires_at > now:
        raise HeldByAnotherError(
            f"{held.holder} is loading version {held.version} into slot {held.slot}; wait for it, "
            f"or for its lease to end at {held.expires_at:%H:%M:%S} UTC, and run again.",
            holder=held.holder,
            expires_at=held.expires_at,
        )
    loading = replace(wanted, slot=free_slot(control), expires_at=now + LEASE)
    return replace(control, loading=loading)


def free_slot(control: Control) -> str:
    """The slot a load may write to: where one was under way, or the first that is free."""
    if control.loading:
        return control.loading.slot
    taken = {part.slot for part in (control.active, control.previous) if part}
    return next(slot for slot in SLOTS if slot not in taken)


def renew(control: Control, load: str, *, now: datetime) -> Control:
    """Extend the lease of a load, also when it has ended and nobody took it.

    Raises:
        HeldByAnotherError: the lease has passed to another load.
        ExportError: nothing is being loaded any more.
    """
    return replace(control, loading=replace(_held(control, load), expires_at=now + LEASE))


def promote(
    control: Control,
    load: str,
    *,
    model: Mapping[str, Any],
    items: int,
    checksum: str,
    metrics: Mapping[str, Any],
    who: str,
    now: datetime,
    why: str | None = None,
    gates: Sequence[str] = (),
    costs: Mapping[str, float] | None = None,
    guard: Guard | None = None,
) -> Control:
    """Make the loaded version active, the active one previous, and give the lease back.

    When the active one is the same version, published again because documents were lost, the
    previous one stays: a rollback must lead to another version, and a whole one.

    The `guard` is asked about the very state that is replaced, unless this load is live already.

    Raises:
        HeldByAnotherError, ExportError: as `renew`; a load that lost its lease never goes live.
    """
    # Previous when somebody rolled back before this answer came.
    if any(part and part.load == load for part in (control.active, control.previous)):
        return control
    held = _held(control, load)
    if guard is not None:
        guard(control)
    active = Published(
        slot=held.slot,
        version=held.version,
        run_id=held.run_id,
        model=dict(model),
        items=items,
        checksum=checksum,
        metrics=dict(metrics),
        promoted_at=now,
        promoted_by=who,
        load=load,
    )
    repaired = control.active is not None and control.active.version == active.version
    previous = control.previous if repaired else control.active
    after = replace(control, active=active, previous=previous, loading=None)
    return _with_event(
        after, control.active, "promotion", why=why, gates=tuple(gates), costs=dict(costs or {})
    )


def release(control: Control, load: str) -> Control:
    """Give the lease of a load back without promoting it; nothing happens when it is not held."""
    if control.loading and control.loading.load == load:
        return replace(control, loading=None)
    return control


def rollback(
    control: Control, to: Published, *, who: str, now: datetime, why: str | None = None
) -> Control:
    """Make the previous version active again and the active one previous.

    Args:
        control: the present state.
        to: the version that was previous when the rollback was decided.
        who: who decided it.
        now: UTC.
        why: their reason.

    Raises:
        NothingPublishedError: another promotion or rollback came in between.
    """
    if control.active and control.active.load == to.load:
        return control
    if control.previous is None or control.previous.load != to.load:
        raise NothingPublishedError(
            f"Version {to.version} is no longer the previous one: another promotion came in "
            "between; look at the status and decide again."
        )
    active = replace(control.previous, promoted_at=now, promoted_by=who)
    after = replace(control, active=active, previous=control.active)
    return _with_event(after, control.active, "rollback", why=why, gates=(), costs={})


def settled(control: Control, up_to: int) -> Control:
    """Drop the events that have documents of their own, up to a number."""
    return replace(control, events=tuple(e for e in control.events if e.number > up_to))


def _with_event(
    after: Control,
    replaced: Published | None,
    action: Action,
    *,
    why: str | None,
    gates: tuple[str, ...],
    costs: Mapping[str, float],
) -> Control:
    active = after.active
    assert active is not None  # noqa: S101  it was just set
    number = after.numbered + 1
    event = Event(
        number=number,
        action=action,
        at=active.promoted_at,
        who=active.promoted_by,
        why=why,
        version=active.version,
        run_id=active.run_id,
        slot=active.slot,
        replaced=replaced.version if replaced else None,
        items=active.items,
        checksum=active.checksum,
        metrics=active.metrics,
        gates=gates,
        costs=costs,
        load=active.load,
    )
    return replace(after, numbered=number, events=(*after.events, event))


def _held(control: Control, load: str) -> Loading:
    held = control.loading
    if held is None:
        raise ExportError(
            "The load's lease was released meanwhile and the version was not promoted; run again."
        )
    if held.load != load:
        raise HeldByAnotherError(
            f"{held.holder} took over the lease while this load had lost it; wait for it to "
            "finish and run again.",
            holder=held.holder,
            expires_at=held.expires_at,
        )
    return held


def to_json(control: Control) -> dict[str, Any]:
    """The control document's body, without its id."""
    body: dict[str, Any] = {"format": FORMAT, "numbered": control.numbered}
    for name in ("active", "previous", "loading"):
        part = getattr(control, name)
        body[name] = part and {
            k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(part).items()
        }
    body["events"] = [event_to_json(event) for event in control.events]
    return body


def from_json(body: Mapping[str, Any]) -> Control:
    """The state in a control document.

    Raises:
        ExportError: the document is of another format, damaged, or contradicts itself.
    """
    if body.get("format") != FORMAT:
        raise ExportError(
            f"The control document has format {body.get('format')!r} and this package reads "
            f"{FORMAT}; use the version of hyperrec that wrote it."
        )
    try:
        control = Control(
            active=_part(Published, body.get("active")),
            previous=_part(Published, body.get("previous")),
            loading=_part(Loading, body.get("loading")),
            numbered=int(body.get("numbered", 0)),
            events=tuple(event_from_json(event) for event in body.get("events", ())),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ExportError(
            f"The control document is damaged ({error}); restore it, or delete it and publish."
        ) from error
    _check(control)
    return control


def _part(kind: Any, body: Mapping[str, Any] | None) -> Any:
    if body is None:
        return None
    times = {"promoted_at", "expires_at"}
    return kind(**{k: datetime.fromisoformat(v) if k in times else v for k, v in body.items()})


def _check(control: Control) -> None:
    """Refuse a state that no sequence of changes leads to: one slot in two parts."""
    parts = {
        name: part.slot
        for name in ("active", "previous", "loading")
        if (part := getattr(control, name)) is not None
    }
    if set(parts.values()) - set(SLOTS) or len(set(parts.values())) != len(parts):
        said = ", ".join(f"{name} {slot}" for name, slot in parts.items())
        raise ExportError(
            f"The control document contradicts itself (slots: {said}); restore it, or delete it "
            "and publish."
        )
