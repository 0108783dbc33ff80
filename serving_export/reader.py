"""Reading the active version: items, user points, recommendations, similar items.

    with Reader("https://NAME.documents.azure.com", credential) as reader:
        for found in reader.recommend(["84406B", "71053"], k=10):
            print(found.item_id, found.score, found.title)

A reader looks up the active slot once and again after an interval. Everything it answers is of one
version: documents carry their version, and any other than the active one is not used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from azure.cosmos import ContainerProxy
from numpy.typing import NDArray

from serving_export import userpoint
from serving_export.client import Credential
from serving_export.containers import DATABASE, item_container
from serving_export.control import control_store
from serving_export.documents import Item, encode_id, from_document
from serving_export.errors import ExportError, NothingPublishedError, UnknownItemError
from serving_export.retry import persist
from serving_export.slots import Published

Result = TypeVar("Result")

REFRESH_SECONDS = 30.0
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Recommendation:
    """An item with the score it was ranked by, higher first, and its title when known."""

    item_id: str
    score: float
    title: str | None


class Reader:
    """A connection to the active version. Safe to share between threads.

    Args:
        endpoint: the account's address.
        credential: its key, or a token credential with a data-plane reader role.
        database: the database's name.
        refresh_seconds: how long the active slot is taken for granted.
        patience: seconds to keep trying when the service does not answer.

    Raises:
        UnavailableError, CredentialsError: no connection within the patience, or refused.
    """

    def __init__(
        self,
        endpoint: str,
        credential: Credential,
        *,
        database: str = DATABASE,
        refresh_seconds: float = REFRESH_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._endpoint = endpoint
        self._database = database
        self._refresh_seconds = refresh_seconds
        self._patience = patience
        self._resolved: tuple[Published, float] | None = None
        self._open = ExitStack()
        self._store = self._open.enter_context(
            control_store(
                endpoint, credential, database=database, dimensions=None, patience=patience
            )
        )

    def close(self) -> None:
        """Give the connection back."""
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
        resolved = self._resolved
        if resolved and time.monotonic() - resolved[1] < self._refresh_seconds:
            return resolved[0]
        return self._resolve()

    def get(self, item_ids: Sequence[str]) -> dict[str, Item]:
        """The items among these that the active version holds, by id, in the order asked for.

        Point reads, batched by the SDK; an unknown id is left out.
        """
        wanted = list(dict.fromkeys(item_ids))
        return self._pinned(lambda version: self._get(version, wanted))

    def user_point(
        self, history: Sequence[str], *, events: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """The user point of a history, float32 [d+1].

        Its dot product with an item's vector is the score. Unknown items are passed over; the
        newest known ones, as many as the model looks at, count.

        Args:
            history: item ids, oldest first.
            events: what the user did with each item: purchase, view, add_to_bag, save, rating or
                return. It matters to a model with weights by event type alone; without it, all
                are purchases.

        Raises:
            UnknownItemError: the active version holds none of the items.
            ExportError: the active version is of a model that makes no user of a history, or
                `events` do not fit.
        """

        def compute(version: Published) -> tuple[NDArray[np.float32] | None, bool]:
            return self._user_point(version, history, events)

        point = self._pinned(compute)
        if point is None:
            raise UnknownItemError(
                f"None of the {len(history)} items of the history is in the active version; "
                "give at least one item that is, or recommend to an unknown user."
            )
        return point

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
        """The k items with the highest scores for a history.

        A history without a known item, such as an empty one, gets the most popular items instead;
        their score is the number of interactions in training.

        Args:
            history: item ids, oldest first; unknown ones are passed over.
            k: how many.
            events: as in `user_point`.
            exclude_seen: leave out the items of the history.
            live_only: leave out items that are not live.
            category: only items with this name in their category path.
        """
        seen = set(history) if exclude_seen else set()

        def find(version: Published) -> tuple[list[Recommendation], bool]:
            point, stale = self._user_point(version, history, events)
            found = self._nearest(
                version, point, k + len(seen), live_only=live_only, category=category
            )
            kept = [each for each in found if each.item_id not in seen][:k]
            return kept, stale or len(kept) < k

        return self._pinned(find) if k > 0 else []

    def similar(self, item_id: str, k: int) -> list[Recommendation]:
        """The k live items nearest to an item, itself left out.

        From the list published with the item when that is long enough, otherwise by vector search.

        Raises:
            UnknownItemError: the active version does not hold the item.
        """

        def find(version: Published) -> tuple[list[Recommendation] | None, bool]:
            items, stale = self._get(version, [item_id])
            item = items.get(item_id)
            if item is None:
                return None, True
            if len(item.similar) >= k:
                ids = [near for near, _ in item.similar[:k]]
                known, stale = self._get(version, ids)
                titles = {near: known[near].title for near in ids if near in known}
                return [
                    Recommendation(near, score, titles.get(near))
                    for near, score in item.similar[:k]
                ], stale
            point = userpoint.like(version.model, item.vector)
            found = self._nearest(version, point, k + 1, live_only=True, category=None)
            kept = [each for each in found if each.item_id != item_id][:k]
            return kept, stale or len(kept) < k

        found = self._pinned(find)
        if found is None:
            raise UnknownItemError(
                f"Item {item_id!r} is not in the active version {self.active().version}; "
                "give the id of an item that is."
            )
        return found

    def _resolve(self) -> Published:
        active = self._store.read().active
        if active is None:
            raise NothingPublishedError(
                f"No version is active in database {self._database} at {self._endpoint}; "
                "publish one first."
            )
        self._resolved = (active, time.monotonic())
        return active

    def _pinned(self, ask: Callable[[Published], tuple[Result, bool]]) -> Result:
        """Answer from one version throughout.

        An answer that found less than asked for, or documents of another version, may come of a
        slot that was loaded again since it was looked up; then the active slot is looked up anew.
        """
        version = self.active()
        answer, doubtful = ask(version)
        if doubtful and (newer := self._resolve()).load != version.load:
            answer, _ = ask(newer)
        return answer

    def _container(self, version: Published) -> ContainerProxy:
        return self._store.database.get_container_client(item_container(version.slot))

    def _get(self, version: Published, item_ids: Sequence[str]) -> tuple[dict[str, Item], bool]:
        """Items of a version, and whether documents of another one were among them."""
        container = self._container(version)
        keys = [(encode_id(i), i) for i in item_ids if _can_exist(i)]
        documents = persist(
            lambda: container.read_items(keys),
            endpoint=self._endpoint,
            doing="reading items",
            patience=self._patience,
        )
        items = {
            document["item_id"]: from_document(document)
            for document in documents
            if document.get("version") == version.version
        }
        return {i: items[i] for i in item_ids if i in items}, len(items) < len(documents)

    def _user_point(
        self, version: Published, history: Sequence[str], events: Sequence[str] | None
    ) -> tuple[NDArray[np.float32] | None, bool]:
        if events is not None and len(events) != len(history):
            raise ExportError(
                f"The history has {len(history)} items and {len(events)} event types; give one "
                "event type an item, or none at all."
            )
        most = userpoint.most_items(version.model) or len(history)
        newest_first = range(len(history))[::-1]
        vectors: list[NDArray[np.float32]] = []
        places: list[int] = []
        stale = False
        for part in _chunks(newest_first, most):
            items, other = self._get(version, list(dict.fromkeys(history[n] for n in part)))
            stale = stale or other
            known = [n for n in part if history[n] in items][: most - len(places)]
            places += known
            for item in (items[history[n]] for n in known):
                vectors.append(item.vector if item.context is None else item.context)
            if len(places) == most:
                break
        if not places:
            return None, stale
        kinds = None if events is None else [events[n] for n in places]
        return userpoint.user_point(version.model, np.stack(vectors), kinds), stale

    def _nearest(
        self,
        version: Published,
        point: NDArray[np.float32] | None,
        top: int,
        *,
        live_only: bool,
        category: str | None,
    ) -> list[Recommendation]:
        """Best items for a point, or the most popular ones for None; values only as parameters."""
        given: dict[str, Any] = {"@top": top, "@version": version.version}
        where = "c.version = @version"
        if live_only:
            where += " AND c.is_live = true"
        if category is not None:
            where += " AND ARRAY_CONTAINS(c.category, @category)"
            given["@category"] = category
        score, order = 'c["count"]', 'c["count"] DESC'
        if point is not None:
            given["@user"] = point.astype(np.float64).tolist()
            score = order = "VectorDistance(c.vector, @user)"
        query = (
            f"SELECT TOP @top c.item_id, c.title, {score} AS score FROM c "  # noqa: S608
            f"WHERE {where} ORDER BY {order}"
        )
        container = self._container(version)
        found = persist(
            lambda: list(
                container.query_items(
                    query,
                    parameters=[{"name": name, "value": value} for name, value in given.items()],
                    enable_cross_partition_query=True,
                )
            ),
            endpoint=self._endpoint,
            doing="searching items",
            patience=self._patience,
        )
        return [
            Recommendation(each["item_id"], float(each["score"]), each.get("title"))
            for each in found
        ]


def _can_exist(item_id: str) -> bool:
    try:
        return bool(encode_id(item_id))
    except ExportError:
        return False  # an id that cannot be published is an unknown one


def _chunks(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), max(1, size)):
        yield values[start : start + size]
