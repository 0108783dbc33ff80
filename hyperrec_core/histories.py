"""Labelled interaction histories: a flat item array with offsets, and the labels in it.

The file contract is one row a user and split: `items` (dense ids, oldest first), `times` (seconds),
`is_label` and, optionally, `events` (places in EVENT_TYPES). A label is predicted from the events
of strictly earlier time, so that events tied with it, such as the rest of its basket, cannot leak
into its history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

EVENT_TYPES = ("purchase", "view", "add_to_bag", "save", "rating", "return")
"""Event types by the number that histories give them."""

Examples = TypeVar("Examples", bound="DataclassInstance")

COLUMNS = ("user_id", "items", "times", "is_label")


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
    def from_tables(cls, tables: Sequence[pa.Table], *, items: int) -> Histories:
        """Histories from the parts of a split, in their order.

        Args:
            tables: tables with the columns of the contract; at least one.
            items: size of the vocabulary; every id must be below it.

        Raises:
            HistoriesError: a column is missing, an id is out of range, times fall within a row, or
                a label has no strictly earlier position.
        """
        table = pa.concat_tables(tables).combine_chunks()
        if missing := [name for name in COLUMNS if name not in table.column_names]:
            raise HistoriesError(
                f"Histories lack the columns {missing}; found {table.column_names}."
            )
        # One total order of rows, whatever order the parts were written in: training draws by row.
        table = table.sort_by("user_id")
        flat, offsets = _flatten(table["items"])
        times, _ = _flatten(table["times"])
        is_label, _ = _flatten(table["is_label"])
        if len(times) != len(flat) or len(is_label) != len(flat):
            raise HistoriesError("items, times and is_label of some row differ in length.")
        if len(flat) and (flat.min() < 0 or flat.max() >= items):
            raise HistoriesError(f"Item ids reach {flat.max()}, beyond the vocabulary of {items}.")
        tie_start = _tie_starts(times.astype(np.int64), offsets)
        label_positions = np.flatnonzero(is_label).astype(np.int64)
        rows = np.searchsorted(offsets, label_positions, side="right") - 1
        ends = tie_start[label_positions]
        if len(ends) and (empty := np.flatnonzero(ends <= offsets[rows])).size:
            user = table["user_id"][int(rows[empty[0]])].as_py()
            raise HistoriesError(f"A label of user {user!r} has no strictly earlier position.")
        return cls(
            user_ids=table["user_id"],
            items=flat.astype(np.int32),
            offsets=offsets,
            rows=rows,
            label_positions=label_positions,
            ends=ends,
            users=np.arange(len(table)),
            events=_events(table, len(flat)),
        )

    def aligned_to(self, train: Histories) -> Histories:
        """The same histories, their users numbered as in `train`; -1 for those it has not."""
        found = pc.index_in(self.user_ids, value_set=train.user_ids).fill_null(-1)
        return replace(self, users=found.to_numpy().astype(np.int64))

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


def _events(table: pa.Table, positions: int) -> NDArray[np.int8] | None:
    if "events" not in table.column_names:
        return None
    events, _ = _flatten(table["events"])
    if len(events) != positions or (
        len(events) and not 0 <= events.min() <= events.max() < len(EVENT_TYPES)
    ):
        raise HistoriesError(
            f"events must name one of {len(EVENT_TYPES)} event types for each of items."
        )
    return events.astype(np.int8)


def _flatten(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Values and offsets of a list column; raises on nulls."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    values = array.flatten()
    if array.null_count or values.null_count:
        raise HistoriesError("Histories contain nulls.")
    offsets = array.offsets.to_numpy().astype(np.int64)
    return values.to_numpy(zero_copy_only=False), offsets - offsets[0]


def _tie_starts(times: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each position the first one of its row with the same time. [positions]."""
    positions = np.arange(len(times))
    starts_row = np.zeros(len(times), dtype=bool)
    starts_row[offsets[:-1][np.diff(offsets) > 0]] = True
    step = np.diff(times, prepend=times[:1])
    if np.any((step < 0) & ~starts_row):
        raise HistoriesError("Times fall within a history; it must be ordered oldest first.")
    return np.maximum.accumulate(np.where(starts_row | (step > 0), positions, 0))
