"""What the rows say about the items: one catalogue, `items/part-0.parquet`.

An item's title is its most frequent one, ties by text, because shops type descriptions by hand;
its category and `is_live` likewise. An item that an earlier import described and this one does
not mention stays, so that a nightly file of one day does not forget yesterday's titles.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import convert
from pipelines.errors import NotFoundError, PipelineError
from pipelines.importing.binding import Binding
from pipelines.importing.parts import parquet_bytes
from pipelines.storage import Storage, write_if_changed

BLOB: Final = "items/part-0.parquet"

SCHEMA: Final = pa.schema(
    [
        ("item_id", pa.string()),
        ("category", pa.list_(pa.string())),
        ("is_live", pa.bool_()),
        ("first_seen", convert.MICROSECONDS),
        ("title", pa.string()),
    ]
)

# Joins the levels of a category while paths are counted: a character that no name contains.
LEVEL: Final = "\x1f"

# Counts are added up whenever more than this many have gathered.
GATHERED: Final = 1_000_000


class Catalogue:
    """Gathers titles, categories and first times over batches.

    Attributes:
        unread: how many values of `is_live` were given and are neither true nor false.
    """

    def __init__(self) -> None:
        self._seen = _Groups("item_id", {"first_seen": "min"})
        self._texts = {
            trait: _Groups(("item_id", "text"), {"count": "sum"})
            for trait in ("title", "category", "is_live")
        }
        self.unread = 0

    def add(
        self,
        item_id: pa.Array,
        batch: pa.RecordBatch,
        binding: Binding,
        event_time: pa.Array | None = None,
    ) -> None:
        """Take what rows say about their items.

        Args:
            item_id: string[n]; blank ones name no item.
            batch: the file's columns, n rows.
            binding: which of them say what.
            event_time: timestamp[us, UTC][n]; None for rows that are no events.
        """
        named = convert.given(item_id)
        if event_time is None:
            event_time = pa.nulls(len(item_id), convert.MICROSECONDS)
        self._seen.add(pa.table({"item_id": item_id, "first_seen": event_time}).filter(named))
        texts: dict[str, pa.Array] = {}
        if "title" in binding.columns:
            texts["title"] = convert.text(batch.column(binding.columns["title"]))
        if "is_live" in binding.columns:
            said = batch.column(binding.columns["is_live"])
            is_live = convert.flag(said)
            self.unread += pc.sum(pc.and_(convert.given(said), is_live.is_null())).as_py() or 0
            texts["is_live"] = is_live.cast(pa.string())
        if binding.category:
            texts["category"] = reduce(_below, [_path(batch.column(n)) for n in binding.category])
        for trait, values in texts.items():
            said = convert.blank_as_null(values)
            rows = pa.table({"item_id": item_id, "text": said}).append_column(
                "count", pc.if_else(pc.is_valid(said), 1, 0)
            )
            self._texts[trait].add(rows.filter(pc.and_(named, pc.is_valid(said))))

    def write(self, target: Storage) -> tuple[int, bool]:
        """Put the catalogue, together with what an earlier import knew.

        Returns:
            The number of items in it, and whether the blob changed.

        Raises:
            PipelineError: the blob that is there is no catalogue.
        """
        seen = self._seen.table()
        items: dict[str, dict[str, Any]] = {
            item_id: {"item_id": item_id, "first_seen": first_seen}
            for item_id, first_seen in zip(
                seen["item_id"].to_pylist(),
                seen["first_seen"].cast(pa.int64()).to_pylist(),
                strict=True,
            )
        }
        for trait, counts in self._texts.items():
            # The last one stays: the most frequent, of equals the first by text.
            ranked = counts.table().sort_by([("count", "ascending"), ("text", "descending")])
            for item_id, value in zip(
                ranked["item_id"].to_pylist(), ranked["text"].to_pylist(), strict=True
            ):
                items[item_id][trait] = _TYPED[trait](value)
        for old in _earlier(target):
            _complete(items.setdefault(old["item_id"], {}), old)
        for item in items.values():
            _complete(item, {"category": [], "is_live": True})
        rows = [items[item_id] for item_id in sorted(items)]
        return len(rows), write_if_changed(
            target, BLOB, parquet_bytes(pa.Table.from_pylist(rows, SCHEMA))
        )


_TYPED: Final[dict[str, Any]] = {
    "title": str,
    "category": lambda text: text.split(LEVEL),
    "is_live": lambda text: text == "true",
}


class _Groups:
    """Rows added up by key, in bounded memory for a bounded number of keys."""

    def __init__(self, keys: str | tuple[str, ...], totals: dict[str, str]) -> None:
        self._keys = [keys] if isinstance(keys, str) else list(keys)
        self._totals = totals
        self._tables: list[pa.Table] = []
        self._rows = 0

    def add(self, rows: pa.Table) -> None:
        self._tables.append(self._grouped(rows))
        self._rows += self._tables[-1].num_rows
        if self._rows > GATHERED and len(self._tables) > 1:
            self._tables = [self.table()]
            self._rows = 0

    def table(self) -> pa.Table:
        if not self._tables:
            return pa.table(
                {name: pa.array([], pa.string()) for name in [*self._keys, *self._totals]}
            )
        return self._grouped(pa.concat_tables(self._tables))

    def _grouped(self, rows: pa.Table) -> pa.Table:
        groups = rows.group_by(self._keys).aggregate(list(self._totals.items()))
        return groups.rename_columns([*self._keys, *self._totals])


def _path(column: pa.Array) -> pa.Array:
    """string[n]: the levels a column gives, joined; null where it gives none."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        paths = [
            LEVEL.join(str(level).strip() for level in levels if level is not None)
            for levels in pc.fill_null(column, []).to_pylist()
        ]
        return convert.blank_as_null(pa.array(paths, pa.string()))
    return convert.blank_as_null(convert.text(column))


def _below(outer: pa.Array, inner: pa.Array) -> pa.Array:
    """string[n]: paths with their next levels.

    Not one call of binary_join_element_wise(null_handling="skip"): it drops rows of nulls alone.
    """
    return pc.coalesce(pc.binary_join_element_wise(outer, inner, LEVEL), outer, inner)


def _complete(item: dict[str, Any], other: dict[str, Any]) -> None:
    """Fill what an item lacks from another description of it; the earlier time counts."""
    for trait, value in other.items():
        if item.get(trait) is None:
            item[trait] = value
        elif trait == "first_seen" and value is not None:
            item[trait] = min(item[trait], value)


def _earlier(target: Storage) -> list[dict[str, Any]]:
    try:
        data = target.read(BLOB)
    except NotFoundError:
        return []
    try:
        table = pq.read_table(pa.BufferReader(data)).select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, KeyError) as error:
        raise PipelineError(
            f"{BLOB} in {target.url} is no catalogue of an import: remove it and import again."
        ) from error
    first_seen = table["first_seen"].cast(pa.int64())
    return list(table.set_column(3, "first_seen", first_seen).to_pylist())
