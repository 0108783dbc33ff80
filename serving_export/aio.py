"""The reader for asyncio: the questions of `reader.Reader`, awaited.

    async with AsyncReader("https://NAME.documents.azure.com", credential) as reader:
        for found in await reader.recommend(["84406B", "71053"], k=10):
            print(found.item_id, found.score, found.title)

What is computed runs in threads, so the event loop is never held for longer than the SDK takes to
decode a page.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from azure.core.async_paging import AsyncItemPaged
from azure.core.exceptions import AzureError
from azure.cosmos.aio import ContainerProxy, DatabaseProxy
from azure.cosmos.exceptions import CosmosResourceNotFoundError
from numpy.typing import NDArray

from serving_export import answers, matrix, reading, slots
from serving_export.answers import Catalogue, Load, LookAgain, Plan, Query, ReadItems, Request
from serving_export.client import Credential, async_client
from serving_export.containers import CONTROL, DATABASE, item_container
from serving_export.control import DOCUMENT
from serving_export.documents import Item
from serving_export.errors import CredentialsError, ExportError
from serving_export.matrix import Matrix, MatrixBuilder
from serving_export.ranking import Recommendation
from serving_export.reading import PATIENCE_SECONDS, REFRESH_SECONDS, Search
from serving_export.retry import Patience
from serving_export.search import from_store
from serving_export.slots import Published

_LOG = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class AsyncReader:
    """A connection to the active version, for one event loop; open it with `async with`.

    Arguments, answers and errors are those of `reader.Reader`; so is the meaning of every argument
    of the questions. What a connection may raise is raised on entering.
    """

    def __init__(
        self,
        endpoint: str,
        credential: Credential,
        *,
        search: Search = "cosmos",
        database: str = DATABASE,
        refresh_seconds: float = REFRESH_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        reading.check_settings(search, refresh_seconds)
        if inspect.iscoroutinefunction(getattr(credential, "get_token", None)):
            raise CredentialsError(
                "An asynchronous reader takes the credentials of azure.identity itself, and asks "
                "them in a thread; give that one instead of azure.identity.aio's."
            )
        self._endpoint = endpoint
        self._credential = credential
        self._name = database
        self._in_memory = search == "memory"
        self._refresh_seconds = refresh_seconds
        self._patience = patience
        # Each is replaced as a whole, so a question that has taken one keeps it to its end.
        self._looked_up: tuple[Published, float] | None = None
        self._matrix: Matrix | None = None
        self._refreshing = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._open = AsyncExitStack()
        self._database: DatabaseProxy | None = None

    async def __aenter__(self) -> AsyncReader:
        client = await self._open.enter_async_context(
            async_client(self._endpoint, self._credential, patience=self._patience)
        )
        self._database = client.get_database_client(self._name)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watcher:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        self._database = None
        await self._open.aclose()

    async def active(self) -> Published:
        """As `Reader.active`."""
        if self._in_memory:
            return (await self._loaded()).version
        known = self._looked_up
        if known and (
            time.monotonic() - known[1] < self._refresh_seconds or self._refreshing.locked()
        ):
            return known[0]
        return await self.refresh()

    async def refresh(self) -> Published:
        """As `Reader.refresh`; the version in memory answers while another is loaded."""
        async with self._refreshing:
            active = await self._look_up()
            if self._in_memory:
                if self._matrix is None or self._matrix.version.load != active.load:
                    started = time.monotonic()
                    self._matrix = await self._run(matrix.load(active))
                    reading.log_loaded(self._matrix, time.monotonic() - started)
                if self._watcher is None:
                    self._watcher = asyncio.create_task(self._watch())
            return active

    def staleness(self) -> float:
        """As `Reader.staleness`."""
        known = self._looked_up
        return time.monotonic() - known[1] if known else float("inf")

    async def get(self, item_ids: Sequence[str]) -> dict[str, Item]:
        """As `Reader.get`."""
        return await self._answer(lambda catalogue: answers.get(catalogue, item_ids))

    async def user_point(
        self, history: Sequence[str], *, events: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """As `Reader.user_point`."""
        return await self._answer(lambda catalogue: answers.user_point(catalogue, history, events))

    async def recommend(
        self,
        history: Sequence[str],
        k: int,
        *,
        events: Sequence[str] | None = None,
        exclude_seen: bool = True,
        live_only: bool = True,
        category: str | None = None,
    ) -> list[Recommendation]:
        """As `Reader.recommend`."""
        return await self._answer(
            lambda catalogue: answers.recommend(
                catalogue,
                history,
                k,
                events=events,
                exclude_seen=exclude_seen,
                live_only=live_only,
                category=category,
            )
        )

    async def similar(
        self, item_id: str, k: int, *, live_only: bool = True, category: str | None = None
    ) -> list[Recommendation]:
        """As `Reader.similar`."""
        return await self._answer(
            lambda catalogue: answers.similar(
                catalogue, item_id, k, live_only=live_only, category=category
            )
        )

    async def _answer(self, ask: Callable[[Catalogue], Plan[Answer]]) -> Answer:
        if self._in_memory:
            return await self._run(ask(await self._loaded()))
        return await self._run(from_store(await self.active(), ask))

    async def _loaded(self) -> Matrix:
        if self._matrix is None:
            await self.refresh()
        loaded = self._matrix
        assert loaded is not None, "a refresh loads or raises"  # noqa: S101
        return loaded

    async def _watch(self) -> None:
        pause = self._refresh_seconds
        while True:
            await asyncio.sleep(pause)
            failed: ExportError | None = None
            try:
                await self.refresh()
            except ExportError as error:
                failed = error
                _LOG.warning("%s The version in memory goes on answering.", error)
            except Exception:
                _LOG.exception("Looking for another version failed; the one in memory stays.")
            pause = reading.pause_after(failed, pause, self._refresh_seconds)

    async def _run(self, plan: Plan[Answer]) -> Answer:
        step = await asyncio.to_thread(answers.advance, plan, None)
        while not isinstance(step, answers.Done):
            step = await asyncio.to_thread(answers.advance, plan, await self._fetch(step))
        return step.answer

    async def _fetch(self, wanted: Request) -> Any:
        match wanted:
            case ReadItems(slot, keys):
                container = self._container(item_container(slot))
                return await self._persist("reading items", lambda: container.read_items(keys))
            case Query():

                async def results() -> list[Any]:
                    return [each async for each in self._results(wanted)]

                return await self._persist("searching items", results)
            case Load(version, scan):
                builder = MatrixBuilder(version)
                async for page in self._pages(scan):
                    await asyncio.to_thread(builder.add, page)
                return builder
            case LookAgain():
                return await self._look_up()

    async def _look_up(self) -> Published:
        container = self._container(CONTROL)

        async def read() -> Published | None:
            try:
                document = await container.read_item(DOCUMENT, partition_key=DOCUMENT)
            except CosmosResourceNotFoundError:
                return None
            return slots.from_json(document).active

        active = await self._persist("reading the control document", read)
        if active is None:
            raise reading.nothing_active(self._name, self._endpoint)
        self._looked_up = (active, time.monotonic())
        return active

    def _results(self, query: Query, page: int | None = None) -> AsyncItemPaged[dict[str, Any]]:
        return self._container(item_container(query.slot)).query_items(
            query.text, parameters=query.parameters, max_item_count=page
        )

    async def _pages(self, scan: Query) -> AsyncIterator[list[dict[str, Any]]]:
        pages = self._results(scan, reading.PAGE).by_page()

        async def next_page() -> list[dict[str, Any]] | None:
            try:
                return [document async for document in await anext(pages)]
            except StopAsyncIteration:
                return None

        # The pager keeps its place when a page fails, so the same page is asked for again.
        while (page := await self._persist("loading items", next_page)) is not None:
            yield page

    async def _persist(self, doing: str, operation: Callable[[], Awaitable[Answer]]) -> Answer:
        waiting = Patience(self._patience, self._endpoint, doing)
        attempt = 0
        while True:
            try:
                return await operation()
            except AzureError as error:
                await asyncio.sleep(waiting.delay(attempt, error))
                attempt += 1

    def _container(self, name: str) -> ContainerProxy:
        if self._database is None:
            raise ExportError("The reader is not open; use it inside `async with`.")
        return self._database.get_container_client(name)
