"""Publishing a version of the items to Cosmos DB, whole or not at all; and going back.

    lease -> upsert -> delete leftovers -> verify -> one conditional replace (flip and release)

Until that last replace nothing that readers look at has changed. A publish that was killed at any
instruction is finished by the same call: the lease of a process that is gone is taken over, what
is already in the slot is compared instead of written again, and a flip whose answer was lost is
recognised by its load. Once a version is active the same call finds it whole and does nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from serving_export import history as trail
from serving_export import lease, slots
from serving_export.client import Credential
from serving_export.containers import DATABASE
from serving_export.control import ControlStore, control_store
from serving_export.documents import Item, checksum
from serving_export.errors import ExportError, NothingPublishedError
from serving_export.events import Event
from serving_export.load import Done, Load
from serving_export.meter import ProgressCallback
from serving_export.pacing import Pace
from serving_export.slots import Control, Guard

_LOG = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
_UNLIMITED = Pace()
_COSTS = ("written", "deleted", "request_units", "seconds")


@dataclass(frozen=True)
class PublishReport:
    """What a publish did.

    Attributes:
        slot: where the version is.
        version: its name.
        items: documents it has.
        written: documents upserted by this call; fewer than `items` after a killed one.
        deleted: documents of an earlier version deleted from the slot.
        request_units: charged for writing, reading back and deleting.
        retries: requests sent again after a passing fault, throttled ones among them.
        throttled: requests that the service refused for want of throughput.
        seconds: wall time.
        already_active: the version was active and whole, so nothing was done.
    """

    slot: str
    version: str
    items: int
    written: int
    deleted: int
    request_units: float
    retries: int
    throttled: int
    seconds: float
    already_active: bool


def publish(
    endpoint: str,
    credential: Credential,
    *,
    version: str,
    run_id: str,
    model: Mapping[str, Any],
    items: Sequence[Item],
    metrics: Mapping[str, Any],
    who: str,
    why: str | None = None,
    gates: Sequence[str] = (),
    guard: Guard | None = None,
    pace: Pace = _UNLIMITED,
    progress: ProgressCallback | None = None,
    database: str = DATABASE,
    patience: float = PATIENCE_SECONDS,
) -> PublishReport:
    """Make a version of the items active, verified, replacing the one before in one step.

    Not to be called from inside a running event loop; use a thread there.

    Args:
        endpoint: the account's address.
        credential: its key, or a token credential with a data-plane role.
        version: name of the version; names its contents, so other contents need another name.
        run_id: the run that made it.
        model: model.json of the artefact, from which readers compute user points.
        items: every item of the version, each id once.
        metrics: what the gates judged the version by, kept beside it.
        who: person or service that promotes.
        why: their reason, for the history.
        gates: what each gate said of it, in a sentence, for the history.
        guard: raises when the version must not replace what is active. It is asked once the lease
            is taken, before anything is written, and again in the change that makes the version
            active, so that neither a promotion nor a rollback can come in between unseen. It is not
            asked when the version is active already.
        pace: processes and request units it may use.
        progress: called a few times a second.
        database: the database's name.
        patience: seconds without any answer of the service after which to give up.

    Raises:
        HeldByAnotherError: another publish is loading.
        VerificationError: what was read back differs; the active version is untouched.
        UnavailableError, CredentialsError: the service does not answer, or refuses.
        ExportError: the items or the containers do not fit.
        Exception: whatever `guard` raises; the active version is untouched.
    """
    started = time.monotonic()
    slots.require_room(model, version)
    by_id, dimensions = _index(items, version)
    digest = checksum(items)
    work = Load(endpoint, credential, database, patience, pace, progress)

    def report(slot: str, done: Done, *, already_active: bool) -> PublishReport:
        return PublishReport(
            slot=slot,
            version=version,
            items=len(by_id),
            written=done.written,
            deleted=done.deleted,
            request_units=sum(meter.request_units for meter in work.meters),
            retries=sum(meter.retries for meter in work.meters),
            throttled=sum(meter.throttled for meter in work.meters),
            seconds=time.monotonic() - started,
            already_active=already_active,
        )

    def already(control: Control) -> PublishReport | None:
        active = _same_version(control, version, digest)
        if active is None:
            return None
        found = asyncio.run(work.look(active.slot, by_id, version))
        if found.is_whole:
            return report(active.slot, found, already_active=True)
        _LOG.warning("version %s is active but not whole; publishing it again", version)
        return None

    with control_store(
        endpoint, credential, database=database, dimensions=dimensions, patience=patience
    ) as store:
        # Of a publish or rollback that was killed before it could do so.
        trail.settle(store)
        before = store.read()
        if nothing_to_do := already(before):
            return nothing_to_do

        load = uuid.uuid4().hex
        try:
            with lease.holding(store, version=version, run_id=run_id, load=load) as (
                control,
                keeper,
            ):
                # The same version may have been promoted while the lease was waited for.
                if control.active != before.active and (nothing_to_do := already(control)):
                    store.update(lambda c: slots.release(c, load))
                    return nothing_to_do
                if guard is not None:
                    guard(control)
                slot = slots.free_slot(control)
                done = asyncio.run(work.fill(slot, by_id, version, model, keeper.held_until))
            made = report(slot, done, already_active=False)
            store.update(
                lambda control: slots.promote(
                    control,
                    load,
                    model=model,
                    items=len(by_id),
                    checksum=digest,
                    metrics=metrics,
                    who=who,
                    now=datetime.now(UTC),
                    why=why,
                    gates=gates,
                    costs={name: getattr(made, name) for name in _COSTS},
                    guard=guard,
                )
            )
        except BaseException:
            # When the service is away this would wait as long again; the lease ends by itself.
            with suppress(ExportError):
                replace(store, patience=1.0).update(lambda c: slots.release(c, load))
            raise
        _settle_if_possible(store)
        return replace(made, seconds=time.monotonic() - started)


def rollback(
    endpoint: str,
    credential: Credential,
    *,
    who: str,
    why: str | None = None,
    database: str = DATABASE,
    patience: float = PATIENCE_SECONDS,
) -> Control:
    """Make the previous version active again, also while a load runs.

    Args:
        endpoint: the account's address.
        credential: its key, or a token credential with a data-plane role.
        who: person or service that decides it.
        why: their reason, for the history.
        database: the database's name.
        patience: seconds without any answer of the service after which to give up.

    Returns:
        The state after it; a second rollback undoes the first.

    Raises:
        NothingPublishedError: there is no previous version, or another promotion came in between.
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    with control_store(
        endpoint, credential, database=database, dimensions=None, patience=patience
    ) as store:
        to = store.read().previous
        if to is None:
            raise NothingPublishedError(
                f"There is no previous version in database {database} at {endpoint} to roll back "
                "to; publish another one instead."
            )
        after = store.update(
            lambda c: slots.rollback(c, to, who=who, now=datetime.now(UTC), why=why)
        )
        _settle_if_possible(store)
        return after


def status(
    endpoint: str,
    credential: Credential,
    *,
    database: str = DATABASE,
    patience: float = PATIENCE_SECONDS,
) -> Control:
    """What is active, previous and loading; all None when nothing was ever published.

    Raises:
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    with control_store(
        endpoint, credential, database=database, dimensions=None, patience=patience
    ) as store:
        return store.read()


def history(
    endpoint: str,
    credential: Credential,
    *,
    limit: int = 50,
    database: str = DATABASE,
    patience: float = PATIENCE_SECONDS,
) -> list[Event]:
    """The newest promotions and rollbacks, newest first.

    Raises:
        ExportError: a document of the trail is damaged.
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    with control_store(
        endpoint, credential, database=database, dimensions=None, patience=patience
    ) as store:
        return trail.read(store, limit)


def clean(
    endpoint: str,
    credential: Credential,
    *,
    who: str,
    pace: Pace = _UNLIMITED,
    progress: ProgressCallback | None = None,
    database: str = DATABASE,
    patience: float = PATIENCE_SECONDS,
) -> tuple[str, int]:
    """Empty the slot that is neither active nor previous: an abandoned load, or an old version.

    Nothing needs this but the bill: the next load takes that slot, and deletes what it does not
    overwrite. Documents carry no time to live that would do the same by itself, because at the
    promotion it would have to be taken off each of them again, a second write of everything, and
    one that was missed would vanish from the active version.

    Returns:
        The slot, and how many documents it had.

    Raises:
        HeldByAnotherError: a publish is loading.
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    load, work = uuid.uuid4().hex, Load(endpoint, credential, database, patience, pace, progress)
    with control_store(
        endpoint, credential, database=database, dimensions=None, patience=patience
    ) as store:
        try:
            with lease.holding(store, version="none", run_id=f"cleaning by {who}", load=load) as (
                control,
                keeper,
            ):
                slot = slots.free_slot(control)
                done = asyncio.run(work.empty(slot, keeper.held_until))
        finally:
            with suppress(ExportError):
                replace(store, patience=1.0).update(lambda c: slots.release(c, load))
    return slot, done.deleted


def _settle_if_possible(store: ControlStore) -> None:
    """After a flip, which stands whether or not its event can be copied now."""
    try:
        trail.settle(replace(store, patience=min(store.patience, 5.0)))
    except ExportError as error:
        _LOG.warning("the history will be completed by the next publish: %s", error)


def _index(items: Sequence[Item], version: str) -> tuple[dict[str, Item], int]:
    by_id = {item.item_id: item for item in items}
    if not items:
        raise ExportError(f"Version {version} has no items; look at the training run's artefact.")
    if len(by_id) != len(items):
        raise ExportError(
            f"Version {version} names an item twice ({len(items)} items, {len(by_id)} ids); "
            "look at the training run's artefact."
        )
    shapes = {(item.vector.size, item.context is None) for item in items}
    if len(shapes) != 1:
        raise ExportError(
            f"Version {version} mixes vectors of different models {sorted(shapes)}; "
            "look at the training run's artefact."
        )
    return by_id, items[0].vector.size


def _same_version(control: Control, version: str, digest: str) -> slots.Published | None:
    """The active version when it is this one; another version of this name is refused."""
    for part in (control.active, control.previous):
        if part and part.version == version and part.checksum != digest:
            raise ExportError(
                f"Version {version} is already published in slot {part.slot} with other vectors; "
                "publish these under another version."
            )
    return control.active if control.active and control.active.version == version else None
