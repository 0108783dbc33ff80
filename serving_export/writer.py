"""Many small writes to one container: concurrent, patient, paced, never after the lease is lost.

An upsert costs the client about a millisecond of CPU, so more than 32 in flight only adds latency.
A write that fails for a passing reason is sent again: the same document under the same id, so
nothing is written twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from azure.core.exceptions import AzureError
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from serving_export.meter import Meter, charge_of
from serving_export.pacing import Budget
from serving_export.retry import Patience, explain, is_throttled, is_transient, retry_after_seconds

Thing = TypeVar("Thing")
Document = Mapping[str, Any]

CONCURRENCY = 32


@dataclass(frozen=True)
class Writer:
    """Writes to the container of one slot under the lease of one load.

    Attributes:
        container: the slot's container.
        endpoint: the account's address, for messages.
        held_until: asked before every request: until when, on `time.monotonic`, the lease is
            surely held; in the past, writing stops for now; an error stops it for good.
        patience: seconds without a single success after which to give up.
        budget: request units that this process may spend.
    """

    container: ContainerProxy
    endpoint: str
    held_until: Callable[[], float]
    patience: float
    budget: Budget

    async def upsert(self, documents: Iterable[Document], meter: Meter) -> None:
        """Write documents, over what is there.

        Raises:
            UnavailableError: no write succeeded for as long as the patience lasts.
            ExportError: a document was refused; names its item.
        """
        queue = iter(documents)

        async def take() -> Document | None:
            return next(queue, None)

        await self.upsert_from(take, meter)

    async def upsert_from(
        self, take: Callable[[], Awaitable[Document | None]], meter: Meter
    ) -> None:
        """Write documents as they come, until None comes instead of one.

        Raises:
            UnavailableError, ExportError: as `upsert`.
        """

        async def put(document: Document, hook: Callable[..., None]) -> None:
            await self.container.upsert_item(dict(document), response_hook=hook)

        await self._all(take, put, lambda document: str(document["item_id"]), meter)

    async def delete(self, documents: Sequence[tuple[str, str]], meter: Meter) -> None:
        """Delete documents by (document id, item id); one that is not there is done already.

        Raises:
            UnavailableError, ExportError: as `upsert`.
        """
        queue = iter(documents)

        async def take() -> tuple[str, str] | None:
            return next(queue, None)

        async def remove(document: tuple[str, str], hook: Callable[..., None]) -> None:
            try:
                await self.container.delete_item(*document, response_hook=hook)
            except CosmosResourceNotFoundError:
                return

        await self._all(take, remove, lambda document: document[1], meter)

    async def _all(
        self,
        take: Callable[[], Awaitable[Thing | None]],
        send: Callable[[Thing, Callable[..., None]], Awaitable[None]],
        name: Callable[[Thing], str],
        meter: Meter,
    ) -> None:
        waiting = Patience(self.patience, self.endpoint, "writing items")

        async def work() -> None:
            while (thing := await take()) is not None:
                await self._persist(thing, send, name, waiting, meter)
                meter.finished()

        tasks = [asyncio.create_task(work()) for _ in range(CONCURRENCY)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _persist(
        self,
        thing: Thing,
        send: Callable[[Thing, Callable[..., None]], Awaitable[None]],
        name: Callable[[Thing], str],
        waiting: Patience,
        meter: Meter,
    ) -> None:
        attempt = 0
        while True:
            failure: AzureError | None = None
            reserved = await self.budget.turn()
            charged = 0.0

            def hook(headers: Mapping[str, Any], _body: object = None) -> None:
                nonlocal charged
                charged += charge_of(headers)
                meter.charge(headers)

            try:
                # Asked last of all: what comes before may have waited.
                if time.monotonic() < self.held_until():
                    await send(thing, hook)
                    waiting.progressed()
                    return
            except AzureError as error:
                if not is_transient(error):
                    item = f"writing item {name(thing)[:40]!r}"
                    raise explain(error, self.endpoint, item) from error
                failure = error
                meter.retried(throttled=is_throttled(error))
                if is_throttled(error):
                    self.budget.throttled(retry_after_seconds(error))
            finally:
                self.budget.settle(reserved, charged)
            await asyncio.sleep(waiting.delay(attempt, failure))
            # A throttled request waits for as long as it was told, and all wait with it.
            attempt += failure is None or not is_throttled(failure)
