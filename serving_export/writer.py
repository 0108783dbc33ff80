"""Many small writes to one container: concurrent, patient, and never after the lease is lost.

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

from serving_export.documents import Item, to_document
from serving_export.retry import Patience, explain, is_transient

Thing = TypeVar("Thing")

CONCURRENCY = 32
_REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class Progress:
    """How far one part of a publish is.

    Attributes:
        doing: "writing", "verifying" or "deleting".
        done: documents finished.
        total: documents in all.
        request_units: charged so far, as the service reports it; 0 where it does not.
        retries: requests that had to be sent again so far.
    """

    doing: str
    done: int
    total: int
    request_units: float
    retries: int


ProgressCallback = Callable[[Progress], None]


class Meter:
    """Counts requests of one part of a publish and reports them a few times a second."""

    def __init__(self, doing: str, total: int, callback: ProgressCallback | None) -> None:
        self._doing = doing
        self._total = total
        self._callback = callback
        self._reported = 0.0
        self.done = 0
        self.request_units = 0.0
        self.retries = 0

    def charge(self, headers: Mapping[str, Any], _body: object = None) -> None:
        """Add the request charge of an answer; a response hook of the SDK."""
        self.request_units += float(headers.get("x-ms-request-charge", 0) or 0)

    def finished(self, count: int = 1) -> None:
        """Count documents that are done."""
        self.done += count
        now = time.monotonic()
        if self._callback and (now - self._reported >= _REPORT_SECONDS or self.done == self._total):
            self._reported = now
            self._callback(
                Progress(self._doing, self.done, self._total, self.request_units, self.retries)
            )


@dataclass(frozen=True)
class Writer:
    """Writes to the container of one slot under the lease of one load.

    Attributes:
        container: the slot's container.
        endpoint: the account's address, for messages.
        may_write: asked before every request; False stops writing for now, an error for good.
        patience: seconds without a single success after which to give up.
    """

    container: ContainerProxy
    endpoint: str
    may_write: Callable[[], bool]
    patience: float

    async def upsert(self, items: Sequence[Item], version: str, meter: Meter) -> None:
        """Write the documents of the items, over what is there.

        Raises:
            UnavailableError: no write succeeded for as long as the patience lasts.
            ExportError: a document was refused; names its item.
        """

        async def put(item: Item) -> None:
            await self.container.upsert_item(to_document(item, version), response_hook=meter.charge)

        await self._all(items, put, lambda item: item.item_id, meter)

    async def delete(self, documents: Sequence[tuple[str, str]], meter: Meter) -> None:
        """Delete documents by (document id, item id); one that is not there is done already.

        Raises:
            UnavailableError, ExportError: as `upsert`.
        """

        async def remove(document: tuple[str, str]) -> None:
            try:
                await self.container.delete_item(*document, response_hook=meter.charge)
            except CosmosResourceNotFoundError:
                return

        await self._all(documents, remove, lambda document: document[1], meter)

    async def _all(
        self,
        things: Iterable[Thing],
        send: Callable[[Thing], Awaitable[None]],
        name: Callable[[Thing], str],
        meter: Meter,
    ) -> None:
        waiting = Patience(self.patience, self.endpoint, "writing items")
        queue = iter(things)

        async def work() -> None:
            for thing in queue:
                await self._persist(lambda: send(thing), name(thing), waiting, meter)  # noqa: B023
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
        send: Callable[[], Awaitable[None]],
        item_id: str,
        waiting: Patience,
        meter: Meter,
    ) -> None:
        attempt = 0
        while True:
            failure: AzureError | None = None
            try:
                if self.may_write():
                    await send()
                    waiting.progressed()
                    return
            except AzureError as error:
                if not is_transient(error):
                    raise explain(error, self.endpoint, f"writing item {item_id[:40]!r}") from error
                failure = error
                meter.retries += 1
            await asyncio.sleep(waiting.delay(attempt, failure))
            attempt += 1
