"""Labelled interaction histories: a flat item array with offsets, and the labels in it.

The file contract is one row a user and split: `items` (dense ids, oldest first), `times` (seconds),
`is_label` and, optionally, `events` (places in EVENT_TYPES). A label is predicted from the events
of strictly earlier time, so that events tied with it, such as the rest of its basket, cannot leak
into its history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core import loading

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

EVENT_TYPES = ("purchase", "view", "add_to_bag", "save", "rating", "return")
"""Event types by the number that histories give them."""

Examples = TypeVar("Examples", bound="DataclassInstance")

COLUMNS = ("user_id", "items", "times", "is_label")

POSITION_BYTES = 29
"""Memory of a position that is a label, in `Histories`."""

_COUNTED_AT_ONCE = 1 << 22
_KINDS = {"items": pa.int32(), "times": pa.int64(), "is_label": pa.bool_(), "events": pa.int8()}
_NULLS = "Histories contain nulls."


class HistoriesError(ValueError):
    """A table does not keep the contract of labelled histories."""


def on_device(examples: Examples, device: torch.device) -> Examples:
    """A dataclass of tensors and None, its tensors on another device."""
    tensors = {f.name: getattr(examples, f.name) for f in fields(examples)}
    moved = {k: t.to(device, non_blocking=True) for k, t in tensors.items() if t is not None}
    return replace(examples, **moved)


@dataclass(frozen=True)
class Batch:
    """Examples ready for a model: C ragged histories, newest item first, and B labels.

    Labels that follow the same history, such as the items of one basket, share it, so that a
    user point is computed once for all of them.

    Shapes: `index` int64 [m] items, `lags` int64 [m] (0 is the newest), `offsets` int64 [C] where
    each history starts in `index`; `labels` int64 [B] and `context` int64 [B], the history of each;
    `users` int64 [C], whose history it is, -1 for a user whom training has not seen; `events` int64
    [m], the event types, or None where the histories have none.
    """

    index: Tensor
    lags: Tensor
    offsets: Tensor
    labels: Tensor
    context: Tensor
    users: Tensor
    events: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return on_device(self, device)


@dataclass(frozen=True)
class Histories:
    """All examples of a split.

    Attributes:
        user_ids: one a row, in the order of the file.
        items: every position of every row, int32 [positions].
        offsets: where each row starts, int64 [rows + 1].
        rows: the row of each label, int64 [labels].
        label_positions: where in `items` each label stands, int64 [labels].
        ends: where in `items` each label's history ends (exclusive), int64 [labels].
        users: number of each row's user, int64 [rows]; see `aligned_to`.
        events: event type of each position, int8 [positions], or None.
    """

    user_ids: pa.ChunkedArray
    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    label_positions: NDArray[np.int64]
    ends: NDArray[np.int64]
    users: NDArray[np.int64]
    events: NDArray[np.int8] | None = None

    def __repr__(self) -> str:
        rows, positions = len(self.offsets) - 1, len(self.items)
        return f"Histories({rows} rows, {positions} positions, {len(self)} labels)"

    def __len__(self) -> int:
        return len(self.label_positions)

    @property
    def labels(self) -> NDArray[np.int32]:
        """The item of each label, int32 [labels]."""
        return self.items[self.label_positions]

    @classmethod
    def from_parquet(
        cls, parts: Sequence[Path], *, items: int, spool: Path | None = None
    ) -> Histories:
        """Histories from the Parquet files of a split, read twice and a batch of rows at a time.

        Args:
            parts: files with the columns of the contract, in any order; at least one.
            items: size of the vocabulary; every id must be below it.
            spool: a folder for the arrays of positions and labels, which are then mapped from
                files in it, so that the set may exceed memory; by default they are in memory.

        Raises:
            HistoriesError: a column is missing, an id is out of range, times fall within a row, or
                a label has no strictly earlier position.
        """
        return _load(parts, items, spool)

    @classmethod
    def from_tables(cls, tables: Sequence[pa.Table], *, items: int) -> Histories:
        """Histories from tables in memory; else as `from_parquet`."""
        return _load(tables, items, None)

    def aligned_to(self, train: Histories) -> Histories:
        """The same histories, their users numbered as in `train`; -1 for those it has not."""
        found = pc.index_in(self.user_ids, value_set=train.user_ids).fill_null(-1)
        return replace(self, users=found.to_numpy().astype(np.int64))

    def counts(self, items: int) -> NDArray[np.int64]:
        """How often each of so many items occurs, [items]."""
        found = np.zeros(items, np.int64)
        # NumPy copies what it counts, as int64: of a mapped set, a part at a time.
        for start in range(0, len(self.items), _COUNTED_AT_ONCE):
            found += np.bincount(self.items[start : start + _COUNTED_AT_ONCE], minlength=items)
        return found

    def label_events(self) -> NDArray[np.int8] | None:
        """The event types of labels; None where the histories have no types."""
        return None if self.events is None else np.unique(self.events[self.label_positions])

    def every_position(self) -> Histories:
        """The same rows with every position as a label, the first ones without a history.

        Where labels are of some event types, positions of others (views, say) are none.
        """
        rows = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        kinds = self.label_events()
        if self.events is None or kinds is None:
            positions = np.arange(len(self.items))
        else:
            positions = np.flatnonzero(np.isin(self.events, kinds))
        return replace(self, rows=rows[positions], label_positions=positions, ends=positions)

    def whole_rows(self) -> Histories:
        """The same rows, each a history to its end, with its last position as the one label."""
        ends = self.offsets[1:][np.diff(self.offsets) > 0]
        rows = np.flatnonzero(np.diff(self.offsets) > 0)
        return replace(self, rows=rows, label_positions=ends - 1, ends=ends)

    def batch(self, examples: NDArray[np.int64], *, lags: int) -> Batch:
        """The examples of these numbers, each with the newest `lags` items of its history."""
        ends = self.ends[examples]
        first = np.diff(ends, prepend=-1) != 0
        ends, starts = ends[first], self.offsets[self.rows[examples[first]]]
        lengths = np.minimum(ends - starts, lags)
        offsets = np.cumsum(lengths) - lengths
        lag = ramp(lengths)
        positions = np.repeat(ends - 1, lengths) - lag
        return Batch(
            index=torch.from_numpy(self.items[positions].astype(np.int64)),
            lags=torch.from_numpy(lag),
            offsets=torch.from_numpy(offsets),
            labels=torch.from_numpy(self.items[self.label_positions[examples]].astype(np.int64)),
            context=torch.from_numpy(np.cumsum(first) - 1),
            users=torch.from_numpy(self.users[self.rows[examples[first]]]),
            events=None
            if self.events is None
            else torch.from_numpy(self.events[positions].astype(np.int64)),
        )


def ramp(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... within each group of these sizes, one group after the other."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _load(parts: Sequence[pa.Table] | Sequence[Path], items: int, spool: Path | None) -> Histories:
    """Histories from parts that are read twice: for the size and place of each row, and to copy."""
    columns = _columns(parts)
    user_ids, lengths, labels = _sizes(parts)
    # One total order of rows, whatever order the parts were written in: training draws by row.
    order = pc.sort_indices(user_ids)
    user_ids = user_ids.take(order)
    number = order.to_numpy().astype(np.int64)
    place = np.empty_like(number)
    place[number] = np.arange(len(number))
    offsets = np.concatenate(([0], np.cumsum(lengths[number])))
    first_label = np.concatenate(([0], np.cumsum(labels[number])))

    def array(name: str, size: int, dtype: type[np.generic]) -> NDArray[Any]:
        return loading.allocate(int(size), dtype, spool and spool / f"{name}.npy")

    found = Histories(
        user_ids=user_ids,
        items=array("items", offsets[-1], np.int32),
        offsets=offsets,
        rows=array("rows", first_label[-1], np.int64),
        label_positions=array("label_positions", first_label[-1], np.int64),
        ends=array("ends", first_label[-1], np.int64),
        users=np.arange(len(number)),
        events=array("events", offsets[-1], np.int8) if "events" in columns else None,
    )
    start = 0
    for part in parts:
        for batch in loading.batches(part, columns):
            rows = slice(start, start + len(batch))
            _copy(batch, lengths[rows], place[rows], first_label, items, found)
            start += len(batch)
    return found


def _columns(parts: Sequence[pa.Table] | Sequence[Path]) -> list[str]:
    """The columns of lists that every part has; raises where one lacks some."""
    with_events = set()
    for part in parts:
        names = loading.columns_of(part).names
        if missing := [name for name in COLUMNS if name not in names]:
            raise HistoriesError(f"Histories lack the columns {missing}; found {names}.")
        with_events.add("events" in names)
    if len(with_events) > 1:
        raise HistoriesError("Some parts of the histories have the column events, others lack it.")
    return [*COLUMNS[1:], *(["events"] if True in with_events else [])]


def _sizes(
    parts: Sequence[pa.Table] | Sequence[Path],
) -> tuple[pa.ChunkedArray, NDArray[np.int64], NDArray[np.int64]]:
    """User, number of positions and number of labels of every row, in the order of the parts."""
    user_ids, lengths, labels = [], [], []
    for part in parts:
        for batch in loading.batches(part, ["user_id", "is_label"]):
            is_label, offsets = _flatten(batch, "is_label")
            before = np.concatenate(([0], np.cumsum(is_label)))[offsets]
            user_ids.append(batch["user_id"])
            lengths.append(np.diff(offsets))
            labels.append(np.diff(before))
    ids = pa.chunked_array(user_ids, loading.columns_of(parts[0]).field("user_id").type)
    if ids.null_count:
        raise HistoriesError(_NULLS)
    empty = np.zeros(0, np.int64)
    return ids, np.concatenate([empty, *lengths]), np.concatenate([empty, *labels])


def _copy(
    batch: pa.RecordBatch,
    lengths: NDArray[np.int64],
    place: NDArray[np.int64],
    first_label: NDArray[np.int64],
    items: int,
    into: Histories,
) -> None:
    """Put a batch's rows, whose numbers are `place`, into the arrays; raises on a broken one."""

    def user(row: np.integer[Any] | int) -> str:
        return repr(into.user_ids[int(place[row])].as_py())

    values = {}
    for name in batch.schema.names:
        values[name], offsets = _flatten(batch, name)
        if (differs := np.flatnonzero(np.diff(offsets) != lengths)).size:
            raise HistoriesError(
                f"{', '.join(batch.schema.names)} of user {user(differs[0])} differ in length."
            )

    def copy(name: str, limit: int, target: NDArray[Any], why: str) -> None:
        found = loading.copy_rows(values[name], offsets, place, into.offsets, limit, target)
        if found >= 0:
            row = np.searchsorted(offsets, found, side="right") - 1
            raise HistoriesError(
                f"{name[:-1].capitalize()} {values[name][found]} of user {user(row)} is {why}."
            )

    copy("items", items, into.items, f"beyond the vocabulary of {items}")
    fault, row = loading.mark_labels(
        values["times"],
        values["is_label"],
        offsets,
        place,
        into.offsets,
        first_label,
        into.rows,
        into.label_positions,
        into.ends,
    )
    if fault == loading.FALLS:
        raise HistoriesError(
            f"Times fall within the history of user {user(row)}; it must be ordered oldest first."
        )
    if fault == loading.LONELY:
        raise HistoriesError(f"A label of user {user(row)} has no strictly earlier position.")
    if into.events is not None:
        kinds = len(EVENT_TYPES)
        copy("events", kinds, into.events, f"none of the {kinds} event types")


def _flatten(batch: pa.RecordBatch, name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    try:
        found = loading.flatten(batch[name], _KINDS[name])
    except pa.ArrowInvalid as error:
        raise HistoriesError(f"{name} of the histories are no {_KINDS[name]}: {error}.") from error
    if found is None:
        raise HistoriesError(_NULLS)
    return found
