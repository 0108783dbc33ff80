"""A version where it lies, in Cosmos DB: items by point reads, the best of them by vector search.

VectorDistance with the policy's dotproduct is the dot product, the largest the most similar, and
ORDER BY VectorDistance puts the most similar first. Item vectors are published with their sign such
that this product is the score.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_export import ranking
from serving_export.answers import Answer, Catalogue, LookAgain, Plan, Query, ReadItems
from serving_export.documents import Item, encode_id, from_document
from serving_export.errors import ExportError, UnknownItemError
from serving_export.ranking import Recommendation
from serving_export.slots import Published

# The SDK refuses a vector search for more.
MOST_CANDIDATES = 50_000
# Asked for beyond k, so that a tie or a difference of rounding at the end needs no second query.
_SPARE = 8
# A read of many items becomes one query text, of which the service takes 512 KB. Each id stands in
# it twice.
_MOST_KEYS = 500
_MOST_KEY_BYTES = 100_000


def from_store(active: Published, ask: Callable[[Catalogue], Plan[Answer]]) -> Plan[Answer]:
    """Answer from one version throughout.

    An answer that found less than asked for, or documents of another version, may come of a slot
    that was loaded again since it was looked up; then the active version is looked up anew.

    Args:
        active: the version that was active when last looked up.
        ask: a question of `answers`.
    """
    stored = Stored(active)
    unknown: UnknownItemError | None = None
    try:
        answer = yield from ask(stored)
    except UnknownItemError as error:
        unknown = error
    if unknown or stored.doubtful:
        newer: Published = yield LookAgain()
        if newer.load != active.load:
            return (yield from ask(Stored(newer)))
    if unknown:
        raise unknown
    return answer


class Stored:
    """A version in Cosmos DB.

    Attributes:
        doubtful: whether an answer may have been of a slot that holds another version by now.
    """

    def __init__(self, version: Published) -> None:
        self._version = version
        self.doubtful = False

    @property
    def version(self) -> Published:
        """Which version."""
        return self._version

    def get(self, item_ids: Sequence[str]) -> Plan[dict[str, Item]]:
        """Those of the items that the version holds, by point reads that the SDK batches."""
        keys = [(encode_id(item_id), item_id) for item_id in item_ids if _can_exist(item_id)]
        documents: list[Any] = []
        for part in _in_parts(keys):
            documents += yield ReadItems(self._version.slot, tuple(part))
        items = {
            document["item_id"]: from_document(document)
            for document in documents
            if document.get("version") == self._version.version
        }
        # A slot that is loaded again has a document of the new version for each old one, or none.
        if len(items) < len(documents) or (keys and not items):
            self.doubtful = True
        return {item_id: items[item_id] for item_id in item_ids if item_id in items}

    def history_vectors(self, item_ids: Sequence[str]) -> Plan[dict[str, NDArray[np.float32]]]:
        """As `get`, of each item the vector by which it counts in a history."""
        items = yield from self.get(item_ids)
        return {
            item_id: item.vector if item.context is None else item.context
            for item_id, item in items.items()
        }

    def nearest(
        self,
        point: NDArray[np.float32] | None,
        k: int,
        *,
        without: Collection[str],
        live_only: bool,
        category: str | None,
    ) -> Plan[list[Recommendation]]:
        """The k best items for a point, or the k most popular ones for None, in order.

        As many more are asked for as it takes to know that none of those left behind belongs among
        the first k: their scores are at most that of the last one found.

        An approximate index (diskANN, beyond 505 dimensions) may itself leave some out. Of more
        than 50,000 items with the score of the k-th, it is not defined which are among the k.
        """
        if category is not None and not _is_unicode(category):
            return []  # no document can hold it
        top = k + len(without) + _SPARE
        while True:
            top = min(top, self._version.items, MOST_CANDIDATES)
            found = yield self._query(point, top, live_only=live_only, category=category)
            kept = [document for document in found if document["item_id"] not in without]
            ranked, margin = _ranked(kept, point)
            if len(found) < top or top == self._version.items:
                self.doubtful = self.doubtful or len(ranked) < k
                return ranked[:k]
            beyond = float(found[-1]["score"]) + margin
            if top == MOST_CANDIDATES or (len(ranked) >= k and ranked[k - 1].score > beyond):
                return ranked[:k]
            top *= 4

    def _query(
        self, point: NDArray[np.float32] | None, top: int, *, live_only: bool, category: str | None
    ) -> Query:
        """The first of the items by score; values only as parameters."""
        given: dict[str, Any] = {"@top": top, "@version": self._version.version}
        where = "c.version = @version"
        if live_only:
            where += " AND c.is_live = true"
        if category is not None:
            where += " AND ARRAY_CONTAINS(c.category, @category)"
            given["@category"] = category
        fields, score, order = "", 'c["count"]', 'c["count"] DESC'
        if point is not None:
            given["@user"] = point.astype(np.float64).tolist()
            fields = ", c.vector"
            score = order = "VectorDistance(c.vector, @user)"
        text = (
            f"SELECT TOP @top c.item_id, c.title{fields}, {score} AS score FROM c "  # noqa: S608
            f"WHERE {where} ORDER BY {order}"
        )
        return Query(self._version.slot, text, given)


def _ranked(
    documents: Sequence[Any], point: NDArray[np.float32] | None
) -> tuple[list[Recommendation], float]:
    """Items in order, and by how much the score of one left behind may exceed the last found."""
    margin = 0.0
    scores = [float(document["score"]) for document in documents]
    if point is not None and documents:
        vectors = np.array([document["vector"] for document in documents], dtype=np.float32)
        scores = ranking.exact_scores(vectors, point).tolist()
        # The service's own rounding, and ours; items left behind may be longer than those found.
        margin = 4 * float(ranking.slack(point, ranking.lengths(vectors)).max())
    found = [
        Recommendation(document["item_id"], score, document.get("title"))
        for document, score in zip(documents, scores, strict=True)
    ]
    return ranking.in_order(found), margin


def _can_exist(item_id: str) -> bool:
    try:
        return bool(encode_id(item_id))
    except ExportError:
        return False  # an id that cannot be published is an unknown one


def _is_unicode(text: str) -> bool:
    try:
        return bool(text.encode("utf-8")) or not text
    except UnicodeEncodeError:
        return False


def _in_parts(keys: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    part: list[tuple[str, str]] = []
    size = 0
    for key in keys:
        needed = len(json.dumps(key))
        if part and (len(part) == _MOST_KEYS or size + needed > _MOST_KEY_BYTES):
            yield part
            part, size = [], 0
        part.append(key)
        size += needed
    if part:
        yield part
