"""Filling one slot with one version, from whatever is in it to whole and verified.

What a killed load has done is found by reading the slot back, not in a ledger beside it: a ledger
would say what was answered, the slot says what is there, and it is read back in any case before
a version may go live. That costs about a hundredth of what the writes do.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from azure.cosmos.aio import ContainerProxy

from serving_export import processes, sample, verify
from serving_export.client import Credential, async_client
from serving_export.containers import item_container
from serving_export.documents import Item, to_document
from serving_export.errors import VerificationError
from serving_export.meter import Meter, ProgressCallback
from serving_export.pacing import Budget, Pace
from serving_export.writer import Writer

# Starting a process takes about as long as writing so many documents.
SMALLEST_SHARE = 1000

# Seconds between looks at what other processes have written: their sessions are not this one's, so
# a replica that lags may show the slot as it was.
_SETTLING = (0.5, 2.0, 5.0)

Found = TypeVar("Found")


@dataclass(frozen=True)
class Done:
    """What was found or done in a slot.

    Attributes:
        written: documents upserted.
        deleted: documents of an earlier version deleted.
        is_whole: whether the slot holds the version and nothing else.
    """

    written: int = 0
    deleted: int = 0
    is_whole: bool = True


@dataclass(frozen=True)
class Load:
    """Work on one slot's container, and what it has cost so far.

    Attributes:
        endpoint: the account's address.
        credential: key or token credential.
        database: the database's name.
        patience: seconds without an answer after which to give up.
        pace: processes and request units it may use.
        progress: called a few times a second.
        meters: one for each part of the work done.
    """

    endpoint: str
    credential: Credential
    database: str
    patience: float
    pace: Pace
    progress: ProgressCallback | None
    meters: list[Meter] = field(default_factory=list)

    async def look(self, slot: str, items: Mapping[str, Item], version: str) -> Done:
        """Whether a slot holds the version and nothing else."""
        async with self._open(slot) as container:
            found = await self._compare(container, items, version, self.pace.budget())
        return Done(is_whole=found.is_whole)

    async def fill(
        self,
        slot: str,
        items: Mapping[str, Item],
        version: str,
        model: Mapping[str, Any],
        held_until: Callable[[], float],
    ) -> Done:
        """Bring a slot to hold the version and nothing else, and prove that it does.

        Args:
            slot: where the lease allows writing.
            items: the version's items by item id.
            version: its name.
            model: model.json of the artefact.
            held_until: until when, on `time.monotonic`, the lease is surely held.

        Raises:
            VerificationError: what is read back or recommended is not what was to be published.
            UnavailableError, CredentialsError: the service does not answer, or refuses.
            ExportError: a document was refused, or the lease was lost.
        """
        budget = self.pace.budget()
        todo: Sequence[Item] = list(items.values())
        async with self._open(slot) as container:
            if await self._count(container, version):  # a load of this version was cut short here
                present = await self._compare(container, items, version, budget)
                todo = [items[item_id] for item_id in (*present.missing, *present.different)]
            writer = Writer(container, self.endpoint, held_until, self.patience, budget)
            pauses = _SETTLING if await self._write(writer, slot, todo, version) else ()

            found = await _settled(
                lambda: self._compare(container, items, version, budget),
                lambda found: not (found.missing or found.different),
                pauses,
            )
            verify.refuse(found, version, slot)
            await writer.delete(found.leftovers, self._meter("deleting", len(found.leftovers)))
            counted = await _settled(
                lambda: self._count(container, None), lambda counted: counted == len(items), pauses
            )
            if counted != len(items):
                raise VerificationError(
                    f"Version {version} was not promoted: slot {slot} counts {counted} documents "
                    f"and the version has {len(items)}; the active version is untouched, run again."
                )
            await sample.check(
                container,
                list(items.values()),
                version,
                model,
                slot=slot,
                endpoint=self.endpoint,
                patience=self.patience,
                budget=budget,
                meter=self._meter("comparing", sample.USERS),
            )
        return Done(written=len(todo), deleted=len(found.leftovers))

    async def empty(self, slot: str, held_until: Callable[[], float]) -> Done:
        """Delete every document of a slot."""
        budget = self.pace.budget()
        async with self._open(slot) as container:
            found = await self._compare(container, {}, "", budget)
            writer = Writer(container, self.endpoint, held_until, self.patience, budget)
            await writer.delete(found.leftovers, self._meter("deleting", len(found.leftovers)))
        return Done(deleted=len(found.leftovers))

    async def _write(self, writer: Writer, slot: str, todo: Sequence[Item], version: str) -> bool:
        """Upsert items; whether other processes did so."""
        documents = (to_document(item, version) for item in todo)
        meter = self._meter("writing", len(todo))
        worth = min(self.pace.processes, math.ceil(len(todo) / SMALLEST_SHARE))
        if worth < 2:
            await writer.upsert(documents, meter)
            return False
        await processes.upsert(
            processes.Target(
                self.endpoint, self.credential, self.database, item_container(slot), self.patience
            ),
            documents,
            pace=self.pace,
            processes=worth,
            held_until=writer.held_until,
            meter=meter,
        )
        return True

    async def _compare(
        self, container: ContainerProxy, items: Mapping[str, Item], version: str, budget: Budget
    ) -> verify.Comparison:
        return await verify.compare(
            container,
            items,
            version,
            endpoint=self.endpoint,
            patience=self.patience,
            budget=budget,
            meter=self._meter("verifying", len(items)),
        )

    async def _count(self, container: ContainerProxy, version: str | None) -> int:
        return await verify.count(
            container, version, endpoint=self.endpoint, patience=self.patience
        )

    def _meter(self, doing: str, total: int) -> Meter:
        meter = Meter(doing, total, self.progress)
        self.meters.append(meter)
        return meter

    @asynccontextmanager
    async def _open(self, slot: str) -> AsyncIterator[ContainerProxy]:
        async with async_client(
            self.endpoint,
            self.credential,
            patience=self.patience,
            throughput_bucket=self.pace.throughput_bucket,
        ) as client:
            place = client.get_database_client(self.database)
            yield place.get_container_client(item_container(slot))


async def _settled(
    look: Callable[[], Awaitable[Found]], is_right: Callable[[Found], bool], pauses: Sequence[float]
) -> Found:
    """What is found, looked for anew after each pause until it is right."""
    found = await look()
    for pause in pauses:
        if is_right(found):
            break
        await asyncio.sleep(pause)
        found = await look()
    return found
