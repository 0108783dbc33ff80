"""What a reader answers, without the reading: one logic for every connection and every search.

A question is a generator, a `Plan`: it yields what it needs from Cosmos DB (a `Request`), is sent
the documents, and returns the answer. `reader.Reader` fetches with the blocking SDK, `aio.Reader`
with the asynchronous one; neither knows what is asked for or why. A version held in memory needs
nothing and yields nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from serving_export import userpoint
from serving_export.documents import Item
from serving_export.errors import ExportError, UnknownItemError
from serving_export.ranking import Recommendation
from serving_export.slots import Published

Answer = TypeVar("Answer")
Json = Mapping[str, Any]

# What one question may ask for; the SDK takes 50,000 results of a vector search at most.
MOST = 10_000


@dataclass(frozen=True)
class ReadItems:
    """Wanted: the documents of these (document id, item id), those that are there."""

    slot: str
    keys: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Query:
    """Wanted: the results of a query."""

    slot: str
    text: str
    given: Mapping[str, Any]

    @property
    def parameters(self) -> list[dict[str, object]]:
        """The values given, as the SDK wants them."""
        return [{"name": name, "value": value} for name, value in self.given.items()]


@dataclass(frozen=True)
class Load:
    """Wanted: a `matrix.MatrixBuilder` with all documents of a version, found by a query."""

    version: Published
    scan: Query


@dataclass(frozen=True)
class LookAgain:
    """Wanted: the version that is active now, by the control document."""


Request = ReadItems | Query | Load | LookAgain
Plan = Generator[Request, Any, Answer]


@dataclass(frozen=True)
class Done(Generic[Answer]):
    """A plan has ended, with this answer."""

    answer: Answer


def advance(plan: Plan[Answer], reply: Any) -> Request | Done[Answer]:
    """Send a plan what it asked for (None at first); its next request, or its end."""
    try:
        return plan.send(reply)
    except StopIteration as end:
        return Done(end.value)


class Catalogue(Protocol):
    """The items of one version, wherever they are."""

    @property
    def version(self) -> Published:
        """Which version."""

    def get(self, item_ids: Sequence[str]) -> Plan[dict[str, Item]]:
        """Those of the items that the version holds, by id, in the order given."""

    def history_vectors(self, item_ids: Sequence[str]) -> Plan[dict[str, NDArray[np.float32]]]:
        """As `get`, of each item the vector by which it counts in a history, float32 [d+1]."""

    def nearest(
        self,
        point: NDArray[np.float32] | None,
        k: int,
        *,
        without: Collection[str],
        live_only: bool,
        category: str | None,
    ) -> Plan[list[Recommendation]]:
        """The k best items for a point, or the k most popular ones for None, in order."""


def get(catalogue: Catalogue, item_ids: Sequence[str]) -> Plan[dict[str, Item]]:
    """The items among these that the version holds, each once, in the order asked for."""
    _check_ids(item_ids, "item ids")
    return (yield from catalogue.get(list(dict.fromkeys(item_ids))))


def user_point(
    catalogue: Catalogue, history: Sequence[str], events: Sequence[str] | None
) -> Plan[NDArray[np.float32]]:
    """The user point of a history, float32 [d+1].

    Raises:
        UnknownItemError: the version holds none of the items.
    """
    _check_history(history, events)
    point = yield from _point(catalogue, history, events)
    if point is None:
        raise UnknownItemError(
            f"None of the {len(history)} items of the history is in the active version "
            f"{catalogue.version.version}; give at least one that is, or recommend to an unknown "
            "user."
        )
    return point


def recommend(
    catalogue: Catalogue,
    history: Sequence[str],
    k: int,
    *,
    events: Sequence[str] | None,
    exclude_seen: bool,
    live_only: bool,
    category: str | None,
) -> Plan[list[Recommendation]]:
    """The k best items for a history; the most popular ones when none of it is known."""
    _check_k(k)
    _check_history(history, events)
    _check_category(category)
    if k == 0:
        return []
    point = yield from _point(catalogue, history, events)
    without = frozenset(history) if exclude_seen else frozenset[str]()
    return (
        yield from catalogue.nearest(
            point, k, without=without, live_only=live_only, category=category
        )
    )


def similar(
    catalogue: Catalogue, item_id: str, k: int, *, live_only: bool, category: str | None
) -> Plan[list[Recommendation]]:
    """The k items nearest to an item: of its published list where that answers, or by search.

    Raises:
        UnknownItemError: the version does not hold the item.
    """
    _check_k(k)
    _check_ids([item_id], "item ids")
    _check_category(category)
    item = (yield from catalogue.get([item_id])).get(item_id)
    if item is None:
        raise UnknownItemError(
            f"Item {item_id!r} is not in the active version {catalogue.version.version}; "
            "give the id of an item that is."
        )
    if live_only and category is None and len(item.similar) >= k:
        listed = item.similar[:k]
        known = yield from catalogue.get([near for near, _ in listed])
        titles = {near: found.title for near, found in known.items()}
        return [Recommendation(near, score, titles.get(near)) for near, score in listed]
    point = userpoint.like(catalogue.version.model, item.vector)
    return (
        yield from catalogue.nearest(
            point, k, without={item_id}, live_only=live_only, category=category
        )
    )


def _point(
    catalogue: Catalogue, history: Sequence[str], events: Sequence[str] | None
) -> Plan[NDArray[np.float32] | None]:
    """The user point of the newest known items, as many as the model looks at."""
    model = catalogue.version.model
    most = userpoint.most_items(model) or len(history)
    known: dict[str, NDArray[np.float32]] = {}
    places: list[int] = []
    for part in _chunks(range(len(history))[::-1], most):
        known |= yield from catalogue.history_vectors(list(dict.fromkeys(history[n] for n in part)))
        places += [n for n in part if history[n] in known][: most - len(places)]
        if len(places) == most:
            break
    if not places:
        return None
    vectors = np.stack([known[history[n]] for n in places])
    kinds = None if events is None else [events[n] for n in places]
    return userpoint.user_point(model, vectors, kinds)


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 0 <= k <= MOST:
        raise ExportError(f"k is {k!r} and must be a whole number from 0 to {MOST:,}.")


def _check_history(history: Sequence[str], events: Sequence[str] | None) -> None:
    _check_ids(history, "history")
    if len(history) > MOST:
        raise ExportError(
            f"The history has {len(history):,} items and at most {MOST:,} are taken; give the "
            "newest ones."
        )
    if events is not None and len(events) != len(history):
        raise ExportError(
            f"The history has {len(history)} items and {len(events)} event types; give one "
            "event type an item, or none at all."
        )


def _check_ids(item_ids: Sequence[str], what: str) -> None:
    # A text is a sequence of texts, too, and would pass for a history of single letters.
    if isinstance(item_ids, str | bytes):
        raise ExportError(f"The {what} are one text, {item_ids!r}; give a list of item ids.")
    for item_id in item_ids:
        if not isinstance(item_id, str):
            raise ExportError(
                f"Item ids are text and {item_id!r} is of type {type(item_id).__name__}; "
                "give it as it was published."
            )


def _check_category(category: str | None) -> None:
    if category is not None and not isinstance(category, str):
        raise ExportError(
            f"The category is {category!r}; give one name of a category path, or none at all."
        )


def _chunks(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), max(1, size)):
        yield values[start : start + size]
