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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from azure.cosmos.aio import ContainerProxy

from serving_export import lease, slots, verify
from serving_export.client import Credential, writer_client
from serving_export.containers import DATABASE, item_container
from serving_export.control import control_store
from serving_export.documents import Item, checksum
from serving_export.errors import ExportError, NothingPublishedError, VerificationError
from serving_export.slots import Control
from serving_export.writer import Meter, ProgressCallback, Writer

_LOG = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0


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
        retries: requests sent again after a passing fault.
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
    seconds: float
    already_active: bool


@dataclass(frozen=True)
class _Target:
    """A slot's container for the time of one publish."""

    container: ContainerProxy
    endpoint: str
    patience: float
    progress: ProgressCallback | None
    meters: list[Meter]

    def meter(self, doing: str, total: int) -> Meter:
        meter = Meter(doing, total, self.progress)
        self.meters.append(meter)
        return meter

    async def compare(self, items: Mapping[str, Item], version: str) -> verify.Comparison:
        return await verify.compare(
            self.container,
            items,
            version,
            endpoint=self.endpoint,
            patience=self.patience,
            meter=self.meter("verifying", len(items)),
        )

    async def count(self, version: str | None) -> int:
        return await verify.count(
            self.container, version, endpoint=self.endpoint, patience=self.patience
        )


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
        progress: called a few times a second.
        database: the database's name.
        patience: seconds without any answer of the service after which to give up.

    Raises:
        HeldByAnotherError: another publish is loading.
        VerificationError: what was read back differs; the active version is untouched.
        UnavailableError, CredentialsError: the service does not answer, or refuses.
        ExportError: the items or the containers do not fit.
    """
    started = time.monotonic()
    by_id, dimensions = _index(items, version)
    digest = checksum(items)
    meters: list[Meter] = []

    def in_slot(slot: str, work: Callable[[_Target], Awaitable[_Done]]) -> _Done:
        async def connected() -> _Done:
            async with writer_client(endpoint, credential, patience=patience) as client:
                place = client.get_database_client(database)
                container = place.get_container_client(item_container(slot))
                return await work(_Target(container, endpoint, patience, progress, meters))

        return asyncio.run(connected())

    def report(slot: str, done: _Done, *, already_active: bool) -> PublishReport:
        return PublishReport(
            slot=slot,
            version=version,
            items=len(by_id),
            written=done.written,
            deleted=done.deleted,
            request_units=sum(meter.request_units for meter in meters),
            retries=sum(meter.retries for meter in meters),
            seconds=time.monotonic() - started,
            already_active=already_active,
        )

    def already(control: Control) -> PublishReport | None:
        active = _same_version(control, version, digest)
        if active is None:
            return None
        found = in_slot(active.slot, lambda target: _look(target, by_id, version))
        if found.is_whole:
            return report(active.slot, found, already_active=True)
        _LOG.warning("version %s is active but not whole; publishing it again", version)
        return None

    with control_store(
        endpoint, credential, database=database, dimensions=dimensions, patience=patience
    ) as store:
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
                slot = slots.free_slot(control)
                done = in_slot(
                    slot, lambda target: _load(target, by_id, version, slot, keeper.may_write)
                )
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
                )
            )
        except BaseException:
            # When the service is away this would wait as long again; the lease ends by itself.
            with suppress(ExportError):
                replace(store, patience=1.0).update(lambda c: slots.release(c, load))
            raise
        return report(slot, done, already_active=False)


def rollback(
    endpoint: str,
    credential: Credential,
    *,
    who: str,
    database: str = DATABASE,
    patience: float = PATIENCE_SECONDS,
) -> Control:
    """Make the previous version active again, also while a load runs.

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
        return store.update(lambda c: slots.rollback(c, to, who=who, now=datetime.now(UTC)))


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


@dataclass(frozen=True)
class _Done:
    """What was found or done in a slot."""

    written: int = 0
    deleted: int = 0
    is_whole: bool = True


async def _look(target: _Target, items: Mapping[str, Item], version: str) -> _Done:
    return _Done(is_whole=(await target.compare(items, version)).is_whole)


async def _load(
    target: _Target,
    items: Mapping[str, Item],
    version: str,
    slot: str,
    may_write: Callable[[], bool],
) -> _Done:
    writer = Writer(target.container, target.endpoint, may_write, target.patience)
    todo = list(items.values())
    if await target.count(version):  # a load of this version was cut short here
        present = await target.compare(items, version)
        todo = [items[item_id] for item_id in (*present.missing, *present.different)]
    await writer.upsert(todo, version, target.meter("writing", len(todo)))

    found = await target.compare(items, version)
    verify.refuse(found, version, slot)
    await writer.delete(found.leftovers, target.meter("deleting", len(found.leftovers)))
    counted = await target.count(None)
    if counted != len(items):
        raise VerificationError(
            f"Version {version} was not promoted: slot {slot} counts {counted} documents and the "
            f"version has {len(items)}; the active version is untouched, run again."
        )
    return _Done(written=len(todo), deleted=len(found.leftovers))


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
