"""A version in memory: every item as rows of a few arrays, searched by one matrix product.

A version is read once, a page at a time, and checked against the checksum it was published with:
what a `Matrix` answers from is whole and bit for bit what was verified. Nothing of it ever changes,
so any number of threads may ask at once, and a new version is another `Matrix`.

Rows are in the order of item ids, which therefore settles ties (see `ranking.py`).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_export import ranking
from serving_export.answers import Json, Load, LookAgain, Plan, Query
from serving_export.documents import Item, checksum
from serving_export.errors import ExportError, VerificationError
from serving_export.ranking import Recommendation
from serving_export.slots import Published


def load(active: Published) -> Plan[Matrix]:
    """Read a version into memory; the one after it when its slot is loaded again meanwhile.

    Raises:
        VerificationError: the active version is not what was published.
    """
    while True:
        text = "SELECT * FROM c WHERE c.version = @version"
        builder: MatrixBuilder = yield Load(
            active, Query(active.slot, text, {"@version": active.version})
        )
        try:
            return builder.finish()
        except VerificationError:
            newer: Published = yield LookAgain()
            if newer.load == active.load:
                raise
            active = newer


@dataclass(frozen=True)
class _SimilarLists:
    """The published lists of similar items, one after another."""

    starts: NDArray[np.int64]
    names: Sequence[str]
    near: NDArray[np.int32]
    scores: NDArray[np.float64]

    def of(self, row: int) -> tuple[tuple[str, float], ...]:
        part = slice(int(self.starts[row]), int(self.starts[row + 1]))
        near = [self.names[n] for n in self.near[part].tolist()]
        return tuple(zip(near, self.scores[part].tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Matrix:
    """All items of a version; made by `MatrixBuilder`.

    Attributes:
        version: which version.
        item_ids: in rising order; the other attributes are in the same.
        rows: item id to row.
        vectors: float32 [n, d+1].
        contexts: float32 [n, d+1]; None when there is one table.
        lengths: Euclidean lengths of the vectors, float32 [n].
        counts: interactions in training, int64 [n].
        popular: rows by falling count, int32 [n].
        is_live: bool [n].
        paths: category paths.
        members: rows of the items with a name in their category path, int32.
        titles: what to show, where known.
    """

    version: Published
    item_ids: Sequence[str]
    rows: Mapping[str, int]
    vectors: NDArray[np.float32]
    contexts: NDArray[np.float32] | None
    lengths: NDArray[np.float32]
    counts: NDArray[np.int64]
    popular: NDArray[np.int32]
    is_live: NDArray[np.bool_]
    paths: Sequence[tuple[str, ...]]
    members: Mapping[str, NDArray[np.int32]]
    titles: Sequence[str | None]
    _similar: _SimilarLists

    def get(self, item_ids: Sequence[str]) -> Plan[dict[str, Item]]:
        """Those of the items that the version holds, by id, in the order given."""
        yield from ()  # everything is here
        return {item_id: self._item(self.rows[item_id]) for item_id in item_ids if item_id in self}

    def history_vectors(self, item_ids: Sequence[str]) -> Plan[dict[str, NDArray[np.float32]]]:
        """As `get`, of each item the vector by which it counts in a history."""
        yield from ()
        table = self.vectors if self.contexts is None else self.contexts
        return {item_id: table[self.rows[item_id]] for item_id in item_ids if item_id in self}

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
        yield from ()
        allowed = self._allowed(without, live_only=live_only, category=category)
        if point is None:
            best: NDArray[Any] = self.popular[allowed[self.popular]][:k]
            scores: NDArray[Any] = self.counts[best]
        else:
            rows = self._candidates(point, k, allowed)
            exact = ranking.exact_scores(self.vectors[rows], point)
            order = np.lexsort((rows, -exact))[:k]
            best, scores = rows[order], exact[order]
        return [
            Recommendation(self.item_ids[row], float(score), self.titles[row])
            for row, score in zip(best.tolist(), scores.tolist(), strict=True)
        ]

    def __contains__(self, item_id: object) -> bool:
        return item_id in self.rows

    def memory(self) -> int:
        """Bytes held: arrays, texts and tables."""
        arrays: list[NDArray[Any]] = [self.vectors, self.lengths, self.counts, self.popular]
        arrays += [self.is_live, self._similar.starts, self._similar.near, self._similar.scores]
        arrays += [*self.members.values(), *([] if self.contexts is None else [self.contexts])]
        texts = [*self._similar.names, *(title for title in self.titles if title is not None)]
        tables = [self.item_ids, self.rows, self.paths, self.titles, self._similar.names]
        return sum(array.nbytes for array in arrays) + sum(map(sys.getsizeof, [*texts, *tables]))

    def _item(self, row: int) -> Item:
        return Item(
            item_id=self.item_ids[row],
            vector=self.vectors[row],
            context=None if self.contexts is None else self.contexts[row],
            count=int(self.counts[row]),
            category=self.paths[row],
            is_live=bool(self.is_live[row]),
            title=self.titles[row],
            similar=self._similar.of(row),
        )

    def _allowed(
        self, without: Collection[str], *, live_only: bool, category: str | None
    ) -> NDArray[np.bool_]:
        allowed = self.is_live.copy() if live_only else np.ones(len(self.item_ids), dtype=np.bool_)
        if category is not None:
            inside = np.zeros_like(allowed)
            inside[self.members.get(category, np.empty(0, np.int32))] = True
            allowed &= inside
        allowed[[self.rows[item_id] for item_id in without if item_id in self]] = False
        return allowed

    def _candidates(
        self, point: NDArray[np.float32], k: int, allowed: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Rows that hold the k best for certain, whatever the rounding of the matrix product."""
        rows = np.flatnonzero(allowed)
        if len(rows) <= k:
            return rows
        # A product too large for float32 is not finite and leaves its row among the candidates.
        with np.errstate(over="ignore", invalid="ignore"):
            scores = (self.vectors @ point)[rows]
            slack = ranking.slack(point, self.lengths[rows])
            lowest = scores - slack
            place = len(rows) - k
            kth = np.partition(lowest, place)[place]
            kept: NDArray[np.int64] = rows[~(scores + slack < kth)]
            return kept


class MatrixBuilder:
    """Collects the documents of a version, a page at a time.

    Args:
        version: the version, of which alone documents may be added.
    """

    def __init__(self, version: Published) -> None:
        self.version = version
        self._fault = ""
        self._codes: list[int] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._contexts: list[NDArray[np.float32]] = []
        self._counts: list[int] = []
        self._live: list[bool] = []
        self._paths: list[tuple[str, ...]] = []
        self._titles: list[str | None] = []
        # Each distinct id and path is held once, whatever lists it is in.
        self._names: dict[str, int] = {}
        self._known_paths: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._lengths: list[int] = []
        self._near = array("i")
        self._near_scores = array("d")

    def add(self, documents: Sequence[Json]) -> None:
        """Take the documents of a page; `finish` tells of one that cannot be read."""
        if not documents or self._fault:
            return
        try:
            self._vectors.append(_table(documents, "vector"))
            if any("context" in document for document in documents):
                self._contexts.append(_table(documents, "context"))
            for document in documents:
                self._add(document)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self._fault = f"has a document that cannot be read ({error!r})"

    def finish(self) -> Matrix:
        """The version.

        Raises:
            VerificationError: documents are missing, or are not those that were published.
        """
        if self._fault:
            raise self._not_whole(self._fault)
        count = len(self._codes)
        if count != self.version.items or len(set(self._codes)) != count:
            raise self._not_whole(f"has {count:,} documents of {self.version.items:,}")
        names = list(self._names)
        try:
            order = sorted(range(count), key=lambda n: names[self._codes[n]])
            item_ids = [names[self._codes[n]] for n in order]
            vectors = np.concatenate(self._vectors)[order]
            contexts = np.concatenate(self._contexts)[order] if self._contexts else None
            self._check(item_ids, vectors, contexts)
        except VerificationError:
            raise
        except (ExportError, TypeError, ValueError) as error:
            raise self._not_whole(f"has documents that do not fit ({error})") from error
        counts = np.array([self._counts[n] for n in order], dtype=np.int64)
        paths = [self._paths[n] for n in order]
        return Matrix(
            version=self.version,
            item_ids=item_ids,
            rows={item_id: row for row, item_id in enumerate(item_ids)},
            vectors=vectors,
            contexts=contexts,
            lengths=ranking.lengths(vectors),
            counts=counts,
            popular=np.argsort(-counts, kind="stable").astype(np.int32),
            is_live=np.array([self._live[n] for n in order], dtype=np.bool_),
            paths=paths,
            members=_members(paths),
            titles=[self._titles[n] for n in order],
            _similar=self._lists(names, order),
        )

    def _add(self, document: Json) -> None:
        names = self._names
        self._codes.append(names.setdefault(document["item_id"], len(names)))
        self._counts.append(int(document["count"]))
        self._live.append(bool(document["is_live"]))
        path = tuple(document["category"])
        self._paths.append(self._known_paths.setdefault(path, path))
        self._titles.append(document.get("title"))
        similar = document.get("similar", ())
        self._lengths.append(len(similar))
        self._near.extend([names.setdefault(each["item_id"], len(names)) for each in similar])
        self._near_scores.extend([each["score"] for each in similar])

    def _lists(self, names: Sequence[str], order: Sequence[int]) -> _SimilarLists:
        """The lists in the order of rows."""
        length = np.array(self._lengths, dtype=np.int64)
        start, length = (np.cumsum(length) - length)[order], length[order]
        starts = np.cumsum([0, *length.tolist()], dtype=np.int64)
        place = np.arange(starts[-1]) + np.repeat(start - starts[:-1], length)
        return _SimilarLists(
            starts=starts,
            names=names,
            near=np.array(self._near, dtype=np.int32)[place],
            scores=np.array(self._near_scores, dtype=np.float64)[place],
        )

    def _check(
        self,
        item_ids: Sequence[str],
        vectors: NDArray[np.float32],
        contexts: NDArray[np.float32] | None,
    ) -> None:
        if contexts is not None and contexts.shape != vectors.shape:
            raise self._not_whole("has contexts for some of its items alone")
        found = checksum(
            Item(item_id, vectors[row], None if contexts is None else contexts[row], 0)
            for row, item_id in enumerate(item_ids)
        )
        if found != self.version.checksum:
            raise self._not_whole("has other vectors than were published")

    def _not_whole(self, what: str) -> VerificationError:
        return VerificationError(
            f"Version {self.version.version} in slot {self.version.slot} {what}; publish it again, "
            "or roll back."
        )


def _table(documents: Sequence[Json], name: str) -> NDArray[np.float32]:
    return np.array([document[name] for document in documents], dtype=np.float32)


def _members(paths: Sequence[tuple[str, ...]]) -> dict[str, NDArray[np.int32]]:
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        for name in path:
            rows.setdefault(name, []).append(row)
    return {name: np.array(members, dtype=np.int32) for name, members in rows.items()}
