"""Reading the active version: items, user points, recommendations, similar items.

    with Reader("https://NAME.documents.azure.com", credential) as reader:
        for found in reader.recommend(["84406B", "71053"], k=10):
            print(found.item_id, found.score, found.title)

The best items are found by Cosmos DB's vector search or, with `search="memory"`, by a matrix
product in this process; the answers are the same. README.md beside this file says which to take,
and what is answered for unknown users, items and categories. `aio.AsyncReader` is the same for
asyncio.

Everything a reader answers is of one version. It looks up the active one once and again after an
interval.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from azure.core.paging import ItemPaged
from azure.cosmos import ContainerProxy
from numpy.typing import NDArray

from serving_export import answers, matrix, reading
from serving_export.answers import Catalogue, Load, LookAgain, Plan, Query, ReadItems, Request
from serving_export.client import Credential
from serving_export.containers import DATABASE, item_container
from serving_export.control import control_store
from serving_export.documents import Item
from serving_export.errors import ExportError
from serving_export.matrix import Matrix, MatrixBuilder
from serving_export.ranking import Recommendation
from serving_export.reading import PATIENCE_SECONDS, REFRESH_SECONDS, Search
from serving_export.retry import persist
from serving_export.search import from_store
from serving_export.slots import Published

__all__ = ["Reader", "Recommendation", "Search"]

_LOG = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_CLOSE_SECONDS = 2.0


class Reader:
    """A connection to the active version. Safe to share between threads, not between processes.

    Args:
        endpoint: the account's address.
        credential: its key, or a token credential with a data-plane reader role.
        search: where the best items are found: by Cosmos DB's vector search at every question, or
            in memory, where the whole version is loaded at the first question (or `refresh`).
        database: the database's name.
        refresh_seconds: how long the active version is taken for granted. In memory a thread looks
            for another one this often, loads it beside the one that answers, and swaps them.
            Otherwise it must be shorter than three publishes take: the third one writes over the
            slot that was active before the first.
        patience: seconds to keep trying when the service does not answer.

    Raises:
        UnavailableError, CredentialsError: no connection within the patience, or refused.
        ExportError: a setting does not fit.
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
        self._endpoint = endpoint
        self._database = database
        self._in_memory = search == "memory"
        self._refresh_seconds = refresh_seconds
        self._patience = patience
        # Each is replaced as a whole, so a question that has taken one keeps it to its end.
        self._looked_up: tuple[Published, float] | None = None
        self._matrix: Matrix | None = None
        self._refreshing = threading.Lock()
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None
        self._open = ExitStack()
        self._store = self._open.enter_context(
            control_store(
                endpoint, credential, database=database, dimensions=None, patience=patience
            )
        )

    def close(self) -> None:
        """Give the connection back."""
        self._closing.set()
        if self._watcher:
            self._watcher.join(_CLOSE_SECONDS)
        self._open.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def active(self) -> Published:
        """The version that answers now.

        Raises:
            NothingPublishedError: there is none.
        """
        if self._in_memory:
            return self._loaded().version
        known = self._looked_up
        if known and (
            time.monotonic() - known[1] < self._refresh_seconds
            # Another thread is looking it up; one request an interval waits for that, not all.
            or self._refreshing.locked()
        ):
            return known[0]
        return self.refresh()

    def refresh(self) -> Published:
        """Look up the active version now and, in memory, load it unless it is loaded already.

        A service calls it before it takes requests, so that none has to wait for the first load.

        Raises:
            NothingPublishedError: there is none.
            VerificationError: documents of the version are missing, or not as published; what was
                loaded before goes on answering.
            UnavailableError, CredentialsError: the service does not answer, or refuses; likewise.
        """
        with self._refreshing:
            active = self._look_up()
            if self._in_memory:
                if self._matrix is None or self._matrix.version.load != active.load:
                    self._load(active)
                if self._watcher is None:
                    self._watcher = threading.Thread(
                        target=self._watch, name="hyperrec reader", daemon=True
                    )
                    self._watcher.start()
            return active

    def staleness(self) -> float:
        """Seconds since Cosmos DB last said which version is active; infinite before it did.

        More than `refresh_seconds` and the time of a load means that the store is away and what is
        in memory goes on answering.
        """
        known = self._looked_up
        return time.monotonic() - known[1] if known else float("inf")

    def get(self, item_ids: Sequence[str]) -> dict[str, Item]:
        """The items among these that the active version holds, by id, in the order asked for.

        An unknown id is left out.
        """
        return self._answer(lambda catalogue: answers.get(catalogue, item_ids))

    def user_point(
        self, history: Sequence[str], *, events: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """The user point of a history, float32 [d+1].

        Its dot product with an item's vector is the score. Unknown items are passed over; the
        newest known ones, as many as the model looks at, count.

        Args:
            history: item ids, oldest first; at most 10,000.
            events: what the user did with each item: purchase, view, add_to_bag, save, rating or
                return. It matters to a model with weights by event type alone; without it, all
                are purchases.

        Raises:
            UnknownItemError: the active version holds none of the items.
            ExportError: the active version is of a model that makes no user of a history, or
                `events` do not fit.
        """
        return self._answer(lambda catalogue: answers.user_point(catalogue, history, events))

    def recommend(
        self,
        history: Sequence[str],
        k: int,
        *,
        events: Sequence[str] | None = None,
        exclude_seen: bool = True,
        live_only: bool = True,
        category: str | None = None,
    ) -> list[Recommendation]:
        """The k items with the highest scores for a history; of equal ones the lower id first.

        A history without a known item, such as an empty one, gets the most popular items instead;
        their score is the number of interactions in training. Fewer than k come back when there
        are no more.

        Args:
            history: item ids, oldest first, at most 10,000; unknown ones are passed over.
            k: how many, at most 10,000.
            events: as in `user_point`.
            exclude_seen: leave out the items of the history.
            live_only: leave out items that are not live.
            category: only items with exactly this name in their category path.

        Raises:
            ExportError: k or `events` do not fit, or the active version is of a model that makes no
                user of a history.
        """
        return self._answer(
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

    def similar(
        self, item_id: str, k: int, *, live_only: bool = True, category: str | None = None
    ) -> list[Recommendation]:
        """The k items nearest to an item, itself left out.

        From the list published with the item when that is long enough and nothing but live items is
        asked for, otherwise by search.

        Args:
            item_id: the item.
            k: how many, at most 10,000.
            live_only: leave out items that are not live.
            category: only items with exactly this name in their category path.

        Raises:
            UnknownItemError: the active version does not hold the item.
        """
        return self._answer(
            lambda catalogue: answers.similar(
                catalogue, item_id, k, live_only=live_only, category=category
            )
        )

    def _answer(self, ask: Callable[[Catalogue], Plan[Answer]]) -> Answer:
        if self._in_memory:
            return self._run(ask(self._loaded()))
        return self._run(from_store(self.active(), ask))

    def _loaded(self) -> Matrix:
        if self._matrix is None:
            self.refresh()
        loaded = self._matrix
        assert loaded is not None, "a refresh loads or raises"  # noqa: S101
        return loaded

    def _load(self, active: Published) -> None:
        started = time.monotonic()
        self._matrix = self._run(matrix.load(active))
        reading.log_loaded(self._matrix, time.monotonic() - started)

    def _watch(self) -> None:
        pause = self._refresh_seconds
        while not self._closing.wait(pause):
            failed: ExportError | None = None
            try:
                self.refresh()
            except ExportError as error:
                failed = error
                if not self._closing.is_set():
                    _LOG.warning("%s The version in memory goes on answering.", error)
            except Exception:
                if not self._closing.is_set():
                    _LOG.exception("Looking for another version failed; the one in memory stays.")
            pause = reading.pause_after(failed, pause, self._refresh_seconds)

    def _run(self, plan: Plan[Answer]) -> Answer:
        step = answers.advance(plan, None)
        while not isinstance(step, answers.Done):
            step = answers.advance(plan, self._fetch(step))
        return step.answer

    def _fetch(self, wanted: Request) -> Any:
        match wanted:
            case ReadItems(slot, keys):
                container = self._container(slot)
                return self._persist("reading items", lambda: container.read_items(keys))
            case Query():
                return self._persist("searching items", lambda: list(self._results(wanted)))
            case Load(version, scan):
                builder = MatrixBuilder(version)
                for page in self._pages(scan):
                    builder.add(page)
                return builder
            case LookAgain():
                return self._look_up()

    def _look_up(self) -> Published:
        self._check_open()
        active = self._store.read().active
        if active is None:
            raise reading.nothing_active(self._database, self._endpoint)
        self._looked_up = (active, time.monotonic())
        return active

    def _results(self, query: Query, page: int | None = None) -> ItemPaged[dict[str, Any]]:
        return self._container(query.slot).query_items(
            query.text,
            parameters=query.parameters,
            enable_cross_partition_query=True,
            max_item_count=page,
        )

    def _pages(self, scan: Query) -> Iterator[list[dict[str, Any]]]:
        pages = self._results(scan, reading.PAGE).by_page()
        # The pager keeps its place when a page fails, so the same page is asked for again.
        while (page := self._persist("loading items", lambda: next(pages, None))) is not None:
            yield list(page)

    def _persist(self, doing: str, operation: Callable[[], Answer]) -> Answer:
        self._check_open()
        return persist(operation, endpoint=self._endpoint, doing=doing, patience=self._patience)

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise ExportError("The reader is closed; open another one.")

    def _container(self, slot: str) -> ContainerProxy:
        return self._store.database.get_container_client(item_container(slot))
